import { configOf, loadCaConfig } from '../../ca/config.ts';
import { capabilitiesOfVersion, CURRENT_CLUSTER } from '../../ca/inject/cluster-capabilities.ts';
import { SIDECAR_SETTINGS } from '../../ca/inject/injection-settings.ts';
import { injectYaml, type WorkloadOutcome } from '../../ca/inject/yaml-injection.ts';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import type { Arguments } from '../arguments.ts';
import type { Command } from '../command.ts';
import { readInputFile } from '../input-file.ts';

/** `kedge inject`. */
export const injectCommand: Command = {
  name: 'inject',
  summary: 'give the pods in manifests their agent, as the webhook would',
  description: [
    'Reads manifests, YAML or JSON, and prints them with an agent in each meshed Pod, Deployment, StatefulSet, DaemonSet, ReplicaSet, Job and CronJob, alone or in a List. What it does not add is byte for byte as it was: comments, order, quotes, indentation. What has its agent already stays as it is, and the webhook leaves it alone.',
    'Meshed is what the annotation or label kedge.io/inject of its pods says, or the label of its namespace where that namespace is among the manifests; --enable takes every other namespace for a meshed one. The annotations of a pod are those that the webhook reads: docs/kubernetes.md has them.',
    'The agents are configured as by the configuration file of the CA, which --config names. Standard error says what became of each workload. If one cannot have an agent, nothing is printed.',
  ],
  positionals: [{ name: 'file', required: false, help: 'the manifests; absent or - is standard input' }],
  options: [
    {
      name: 'config',
      value: 'file',
      env: 'KEDGE_CONFIG',
      help: 'configuration file of the CA, for what is injected',
    },
    { name: 'trust-domain', value: 'trust domain', help: 'trust domain, instead of the one in the file' },
    {
      name: 'ca-address',
      value: 'address',
      help: 'where agents find the CA, instead of the one in the file',
    },
    { name: 'image', value: 'image', help: 'image of the agents, instead of the one in the file' },
    {
      name: 'sidecar',
      value: 'mode',
      choices: SIDECAR_SETTINGS,
      help: 'whether agents are native sidecars, instead of what the file says',
    },
    {
      name: 'kubernetes-version',
      value: 'version',
      default: 'one with native sidecars',
      help: 'version of the cluster, as in 1.28: decides what auto means',
    },
    { name: 'enable', help: 'take namespaces that say nothing for meshed ones' },
  ],
  examples: [
    ['kedge inject --enable --config ca.yaml < app.yaml | kubectl apply -f -', 'inject before applying'],
    [
      'kedge inject --enable --trust-domain example.org app.yaml > meshed.yaml',
      'a file, and the defaults of an installation',
    ],
  ],
  no: 'a workload cannot have an agent, or the input is no manifest; nothing is printed',
  async run({ args, terminal }) {
    const path = args.positionals[0] ?? '-';
    const config = await configured(args);
    const version = args.value('kubernetes-version');
    const { text, outcomes } = injectYaml(decoded(await readInputFile(path, LIMITS.manifestChars), path), {
      settings: config.injection,
      ownNamespace: config.webhook?.namespace ?? 'kedge',
      capabilities: version === undefined ? CURRENT_CLUSTER : capabilitiesOfVersion(version),
      everyNamespace: args.has('enable'),
      file: path === '-' ? 'standard input' : path,
    });
    for (const outcome of outcomes) terminal.stderr(`${outcomeText(outcome)}\n`);
    terminal.stdout(text);
    return 0;
  },
};

async function configured(args: Arguments): ReturnType<typeof loadCaConfig> {
  const { readFlags } = await import('../../ca/config-schema.ts');
  const flags = new Map(
    (
      [
        ['trust-domain', 'trustDomain'],
        ['ca-address', 'injection.caAddress'],
        ['image', 'injection.image'],
        ['sidecar', 'injection.sidecar'],
      ] as const
    ).flatMap(([flag, key]) => {
      const value = args.value(flag);
      return value === undefined ? [] : [[key, value] as const];
    }),
  );
  const file = args.value('config');
  return file === undefined ? configOf(readFlags(flags), process.cwd()) : loadCaConfig({ file, flags });
}

function decoded(bytes: Uint8Array, path: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new KedgeError('manifest_malformed', `${quote(path)} is not UTF-8`, {
      hint: 'give manifests in YAML or JSON',
      cause,
    });
  }
}

const SKIPPED = {
  'not-selected': 'not meshed',
  disabled: 'out by kedge.io/inject: disabled',
  'system-namespace': 'in a namespace of Kubernetes itself',
  'own-namespace': 'in the namespace of Kedge itself',
  'mirror-pod': 'a static pod',
} as const;

function outcomeText({ name, injection }: WorkloadOutcome): string {
  switch (injection.kind) {
    case 'injected':
      return `${name}: injected (${injection.mode === 'native' ? 'native sidecar' : 'container'})`;
    case 'unchanged':
      return `${name}: has its agent already`;
    case 'skipped':
      return `${name}: left out (${SKIPPED[injection.reason]})`;
  }
  return injection satisfies never;
}
