import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { parseDurationMs } from '../../host/duration.ts';
import { writeFileDurably } from '../../host/durable-file.ts';
import { parseCertificate } from '../../pki/certificate.ts';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { encodePem, type PemLabel } from '../../pki/pem.ts';
import { type Command, OUTPUT_OPTION } from '../command.ts';
import { socketTarget } from '../endpoint-socket.ts';
import { jsonDocument } from '../json-document.ts';
import { distanceText, textFields, timeText } from '../text-table.ts';
import { WorkloadApiClient } from '../workload-api-client.ts';
import { TIMEOUT_OPTION, WORKLOAD_SOCKET_OPTION } from '../workload-socket.ts';
import type { X509Identity } from '../x509-context.ts';

const FILES = [
  { name: 'svid.pem', mode: 0o644, text: ({ chain }: X509Identity) => pem('CERTIFICATE', chain) },
  {
    name: 'svid.key',
    mode: 0o600,
    text: ({ privateKey }: X509Identity) => pem('PRIVATE KEY', [privateKey.expose()]),
  },
  { name: 'bundle.pem', mode: 0o644, text: ({ bundle }: X509Identity) => pem('CERTIFICATE', bundle) },
] as const;

/** `kedge svid fetch`. */
export const svidFetchCommand: Command = {
  name: 'svid fetch',
  summary: 'fetch the X.509-SVID of this workload from the Workload API',
  description: [
    'Asks the Workload API, as any workload does, and shows the identities that it gives. The private key is never printed.',
    'With --write the SVID, its key and its bundle go to a folder as svid.pem, svid.key (mode 0600) and bundle.pem. They are what was valid at that moment, and nothing renews them: a program that runs on uses the Workload API itself, or the files feed of the agent.',
  ],
  positionals: [],
  options: [
    WORKLOAD_SOCKET_OPTION,
    { name: 'id', value: 'SPIFFE ID', help: 'the identity to take', default: 'the first one' },
    { name: 'write', value: 'folder', help: 'write svid.pem, svid.key and bundle.pem to this folder' },
    TIMEOUT_OPTION,
    OUTPUT_OPTION,
  ],
  examples: [
    ['kedge svid fetch --socket unix:///run/kedge/workload.sock', 'show the identity'],
    ['kedge svid fetch --write ./identity', 'write it to ./identity, from SPIFFE_ENDPOINT_SOCKET'],
  ],
  no: 'the agent does not answer, or gives no identity',
  async run({ args, output, terminal, clock, random }) {
    const timeoutMs = parseDurationMs(args.value('timeout') ?? '10s');
    const client = new WorkloadApiClient({
      target: socketTarget(args.value('socket')),
      clock,
      random,
      firstMessageTimeoutMs: timeoutMs,
    });
    const { identities } = await client.fetch(new AbortController().signal);
    const chosen = choose(identities, args.value('id'));
    const folder = args.value('write');
    const files = folder === undefined ? [] : await writeFiles(resolve(folder), chosen[0]);
    if (output === 'json') {
      terminal.stdout(jsonDocument({ identities: chosen.map(describe), files }));
    } else {
      const reports = chosen.map((identity) => `${report(identity, clock.now()).join('\n')}\n`);
      terminal.stdout(reports.join('\n') + files.map((file) => `wrote ${file}\n`).join(''));
    }
    return 0;
  },
};

function choose(identities: readonly X509Identity[], id: string | undefined): readonly X509Identity[] {
  if (id === undefined) return identities;
  const chosen = identities.filter(({ spiffeId }) => spiffeId.toString() === id);
  if (chosen.length > 0) return chosen;
  throw new KedgeError('identity_unavailable', `this workload has no identity ${quote(id)}`, {
    hint: `it has ${identities.map(({ spiffeId }) => spiffeId.toString()).join(', ')}`,
  });
}

async function writeFiles(folder: string, identity: X509Identity | undefined): Promise<string[]> {
  if (identity === undefined) throw new TypeError('no identity was chosen');
  await mkdir(folder, { recursive: true, mode: 0o700 }).catch((cause: unknown) => {
    throw new KedgeError('file_unwritable', `the folder ${quote(folder, 200)} cannot be made`, {
      hint: 'name a folder that you may write to',
      cause,
    });
  });
  for (const { name, mode, text } of FILES) {
    await writeFileDurably(join(folder, name), new TextEncoder().encode(text(identity)), { mode });
  }
  return FILES.map(({ name }) => join(folder, name));
}

function describe({ spiffeId, chain, bundle, hint }: X509Identity): object {
  const [leaf, ...issuers] = chain.map((der) => parseCertificate(der));
  return {
    spiffeId: spiffeId.toString(),
    hint,
    serialNumber: leaf?.serialNumber,
    issuerId: leaf?.authorityKeyId,
    notBeforeMs: leaf?.notBeforeMs,
    notAfterMs: leaf?.notAfterMs,
    chainLength: 1 + issuers.length,
    bundleAuthorities: bundle.length,
    chainPem: pem('CERTIFICATE', chain),
    bundlePem: pem('CERTIFICATE', bundle),
  };
}

function report({ spiffeId, chain, bundle, hint }: X509Identity, nowMs: number): string[] {
  const [first] = chain;
  if (first === undefined) throw new TypeError('an identity without a certificate');
  const leaf = parseCertificate(first);
  return textFields([
    ['SPIFFE ID', spiffeId.toString()],
    ...(hint === '' ? [] : [['hint', JSON.stringify(hint)] as const]),
    ['serial', Buffer.from(leaf.serialNumber).toString('hex')],
    ['issuer', Buffer.from(leaf.authorityKeyId ?? []).toString('hex')],
    ['valid from', timeText(leaf.notBeforeMs)],
    ['valid until', `${timeText(leaf.notAfterMs)} (${distanceText(leaf.notAfterMs, nowMs)})`],
    ['chain', `${chain.length} certificates`],
    ['bundle', `${bundle.length} authorities`],
  ]);
}

function pem(label: PemLabel, ders: readonly Uint8Array[]): string {
  return ders.map((der) => encodePem(label, der)).join('');
}
