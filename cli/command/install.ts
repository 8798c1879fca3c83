import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileDurably } from '../../host/durable-file.ts';
import { errnoOf } from '../../host/errno.ts';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import type { Command } from '../command.ts';
import { installValues } from '../install/install-values.ts';
import { DEFAULT_KUBERNETES_VERSION, parseKubernetesVersion } from '../install/kubernetes-version.ts';
import { manifests } from '../install/manifests.ts';
import { kustomizeBase, yamlStream } from '../install/render.ts';

/** `kedge install`. */
export const installCommand: Command = {
  name: 'install',
  summary: 'print the Kubernetes manifests of the identity plane',
  description: [
    'Prints what to apply so that a cluster runs Kedge: kedge install | kubectl apply --server-side -f -. It asks the cluster nothing and changes nothing; the same options give the same bytes. There is no secret in it: the CA makes its keys itself, in the cluster.',
    'Every value of --set, and what each object is for, is in docs/kubernetes.md. Ask kedge check --pre before, and kedge check after.',
  ],
  positionals: [],
  options: [
    {
      name: 'ha',
      help: 'defaults for production: three replicas, larger requests, and new pods refused while the webhook is away',
    },
    {
      name: 'set',
      value: 'key=value',
      multiple: true,
      help: 'set a value of the installation; may be repeated',
    },
    {
      name: 'kubernetes-version',
      value: 'version',
      default: DEFAULT_KUBERNETES_VERSION,
      help: 'the API server to write for, 1.20 or newer',
    },
    {
      name: 'output-dir',
      value: 'folder',
      help: 'write a kustomize base there, one file an object, instead of printing',
    },
  ],
  examples: [
    ['kedge install | kubectl apply --server-side -f -', 'try it in a cluster'],
    ['kedge install --ha --set trustDomain=prod.example.org --output-dir base', 'a base to keep in git'],
  ],
  async run({ args, terminal }) {
    const values = installValues({ ha: args.has('ha'), sets: args.values('set') });
    const version = parseKubernetesVersion(args.value('kubernetes-version') ?? DEFAULT_KUBERNETES_VERSION);
    const objects = manifests(values, version);
    const folder = args.value('output-dir');
    if (folder === undefined) {
      terminal.stdout(yamlStream(objects));
      return 0;
    }
    await makeFolder(folder);
    for (const [name, text] of kustomizeBase(objects)) {
      const path = join(folder, name);
      await writeFileDurably(path, new TextEncoder().encode(text), { mode: 0o644 });
      terminal.stdout(`${path}\n`);
    }
    return 0;
  },
};

async function makeFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true });
  } catch (cause) {
    throw new KedgeError('file_unwritable', `cannot make the folder ${quote(folder, 200)}`, {
      hint: `name a folder that you may write (${errnoOf(cause) ?? 'unknown'})`,
      cause,
    });
  }
}
