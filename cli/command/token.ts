import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { DEVELOPMENT_KEY_FILE, DevelopmentIssuer } from '../../ca/attest/development-issuer.ts';
import { parseDurationMs } from '../../host/duration.ts';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import type { Arguments } from '../arguments.ts';
import { type Command, OUTPUT_OPTION } from '../command.ts';
import { DATA_OPTION, dataFolder } from '../data-folder.ts';
import { jsonDocument } from '../json-document.ts';
import { drainSignal } from '../signals.ts';
import { keepTokenFresh, writeToken } from '../token-file.ts';

/** `kedge token`. */
export const tokenCommand: Command = {
  name: 'token',
  summary: 'mint a development token, with the claims of a Kubernetes bound ServiceAccount token',
  description: [
    'Mints a token by the local development issuer of a CA, whose key is in the data folder of that CA. The token has the claims of a Kubernetes bound ServiceAccount token, and an agent takes it in the place of one. For development only: whoever reads the key can be any workload.',
    'Without --write the token goes to standard output. With --write it goes to a file with mode 0600, atomically; with --keep-fresh the command stays, and writes a new token when half of the life of the old one is over, as the kubelet does.',
  ],
  positionals: [],
  options: [
    { name: 'namespace', value: 'name', required: true, help: 'the namespace of the pod' },
    { name: 'service-account', value: 'name', required: true, help: 'the ServiceAccount of the pod' },
    { name: 'pod', value: 'name', help: 'the name of the pod', default: 'that of the ServiceAccount' },
    {
      name: 'pod-uid',
      value: 'uid',
      help: 'the UID of the pod',
      default: 'one that follows from namespace and pod',
    },
    { name: 'node', value: 'name', help: 'the node that the pod runs on' },
    { name: 'audience', value: 'name', multiple: true, default: 'kedge', help: 'whom the token is for' },
    { name: 'ttl', value: 'duration', default: '1h', help: 'how long it is valid, as in 90s or 1h' },
    DATA_OPTION,
    { name: 'write', value: 'file', help: 'write the token to this file instead of printing it' },
    { name: 'keep-fresh', help: 'stay, and keep the token in the file fresh' },
    OUTPUT_OPTION,
  ],
  examples: [
    ['kedge token --namespace demo --service-account web', 'print a token'],
    [
      'kedge token --namespace demo --service-account web --write ./web.token --keep-fresh',
      'keep a token for an agent in a file',
    ],
  ],
  async run({ args, output, terminal, clock, random }) {
    const folder = dataFolder(args);
    const path = args.value('write');
    if (args.has('keep-fresh') && path === undefined) {
      throw new KedgeError('usage_invalid', '--keep-fresh needs a file', { hint: 'give --write <file>' });
    }
    if (!existsSync(join(folder, DEVELOPMENT_KEY_FILE))) {
      throw new KedgeError('file_unreadable', `there is no development issuer in ${quote(folder, 200)}`, {
        hint: 'start kedge ca with the development issuer first, and name its data folder with --data',
      });
    }
    const request = { ...requestOf(args), ttlSeconds: ttlSeconds(args) };
    if (path !== undefined && args.has('keep-fresh')) {
      using drain = drainSignal();
      const { ended } = await keepTokenFresh(
        { dataFolder: folder, request, path, clock, random },
        drain.signal,
      );
      await ended.catch((error: unknown) => {
        if (!drain.signal.aborted) throw error;
      });
      return 0;
    }
    const issuer = await DevelopmentIssuer.open({ folder, clock, random });
    const token = issuer.mint(request);
    if (path !== undefined) await writeToken(path, token);
    if (output === 'json') terminal.stdout(jsonDocument(path === undefined ? { token } : { file: path }));
    else if (path === undefined) terminal.stdout(`${token}\n`);
    return 0;
  },
};

function requestOf(args: Arguments): Parameters<DevelopmentIssuer['mint']>[0] {
  const [podUid, nodeName, audiences] = [args.value('pod-uid'), args.value('node'), args.values('audience')];
  return {
    namespace: args.required('namespace'),
    serviceAccount: args.required('service-account'),
    podName: args.value('pod') ?? args.required('service-account'),
    audiences: audiences.length === 0 ? ['kedge'] : audiences,
    ...(podUid === undefined ? {} : { podUid }),
    ...(nodeName === undefined ? {} : { nodeName }),
  };
}

function ttlSeconds(args: Arguments): number {
  const text = args.value('ttl') ?? '1h';
  const seconds = parseDurationMs(text) / 1000;
  if (seconds >= 1 && Number.isInteger(seconds)) return seconds;
  throw new KedgeError('usage_invalid', `--ttl does not take ${quote(text)}`, {
    hint: 'give one second or more, in whole seconds',
  });
}
