import { createHash } from 'node:crypto';
import { formatBundleDocument } from '../../pki/bundle-document.ts';
import { parseCertificate } from '../../pki/certificate.ts';
import { KedgeError } from '../../pki/kedge-error.ts';
import { encodePem } from '../../pki/pem.ts';
import { getBundle } from '../admin-client.ts';
import { ADMIN_SOCKET_OPTION, adminTarget } from '../admin-socket.ts';
import { readBundleFile, trustDomainOfAuthorities } from '../certificate-input.ts';
import type { Command, Invocation } from '../command.ts';
import { DATA_OPTION } from '../data-folder.ts';
import { socketTarget } from '../endpoint-socket.ts';
import { jsonDocument } from '../json-document.ts';
import { distanceText, printable, textFields, timeText } from '../text-table.ts';
import { WorkloadApiClient } from '../workload-api-client.ts';
import { WORKLOAD_SOCKET_OPTION } from '../workload-socket.ts';

/** A trust bundle, from wherever it came. */
interface ShownBundle {
  readonly trustDomain: string | undefined;
  readonly sequence: bigint | undefined;
  readonly refreshHintSeconds: number | undefined;
  readonly x509Authorities: readonly Uint8Array[];
}

/** `kedge bundle show`. */
export const bundleShowCommand: Command = {
  name: 'bundle show',
  summary: 'show a trust bundle: of a running CA, of a Workload API, or in a file',
  description: [
    'Shows the trust bundle of a running CA, asked over its admin socket. With a file it shows the bundle in the file (a SPIFFE bundle, PEM or DER; - is standard input), with --socket the bundle that a Workload API gives.',
    'The formats pem and spiffe are for other programs: pem is what an agent takes as its bootstrap bundle, spiffe is a SPIFFE bundle document (JWK Set).',
  ],
  positionals: [{ name: 'file', required: false, help: 'a bundle in a file, instead of a running CA' }],
  options: [
    DATA_OPTION,
    ADMIN_SOCKET_OPTION,
    // Not from the environment: in a pod that has SPIFFE_ENDPOINT_SOCKET, a file would then be one source too many.
    { name: WORKLOAD_SOCKET_OPTION.name, value: 'address', help: WORKLOAD_SOCKET_OPTION.help },
    {
      name: 'output',
      short: 'o',
      value: 'format',
      choices: ['text', 'json', 'pem', 'spiffe'],
      default: 'text',
      help: 'how to print the bundle',
    },
  ],
  examples: [
    ['kedge bundle show --output pem > bootstrap.pem', 'the bootstrap bundle for agents'],
    ['kedge bundle show bundle.json', 'what is in a file'],
  ],
  no: 'whoever was asked does not answer, or the bundle holds no authority',
  async run(invocation) {
    const { args, terminal, clock } = invocation;
    const bundle = await readBundle(invocation);
    terminal.stdout(format(bundle, args.value('output') ?? 'text', clock.now()));
    return 0;
  },
};

async function readBundle({ args, clock, random }: Invocation): Promise<ShownBundle> {
  const [file] = args.positionals;
  if (file !== undefined && args.has('socket')) {
    throw new KedgeError('usage_invalid', 'there are two bundles to show: a file and a Workload API', {
      hint: 'give the file or --socket',
    });
  }
  if (file !== undefined) {
    const bundle = await readBundleFile(file);
    return { trustDomain: trustDomainOfAuthorities(bundle.x509Authorities)?.name, ...bundle };
  }
  if (args.has('socket')) {
    const client = new WorkloadApiClient({ target: socketTarget(args.value('socket')), clock, random });
    const { identities } = await client.fetch(new AbortController().signal);
    const [identity] = identities;
    return {
      trustDomain: identity?.spiffeId.trustDomain.name,
      sequence: undefined,
      refreshHintSeconds: undefined,
      x509Authorities: identity?.bundle ?? [],
    };
  }
  return await getBundle(adminTarget(args));
}

function format(bundle: ShownBundle, format: string, nowMs: number): string {
  const { sequence, refreshHintSeconds, x509Authorities } = bundle;
  switch (format) {
    case 'pem':
      return x509Authorities.map((der) => encodePem('CERTIFICATE', der)).join('');
    case 'spiffe':
      return `${new TextDecoder().decode(
        formatBundleDocument({
          ...(sequence === undefined ? {} : { sequence }),
          ...(refreshHintSeconds === undefined ? {} : { refreshHintSeconds }),
          x509Authorities,
        }),
      )}\n`;
    case 'json':
      return jsonDocument({ ...bundle, x509Authorities: x509Authorities.map(describe) });
    default:
      return textBundle(bundle, nowMs);
  }
}

function textBundle(bundle: ShownBundle, nowMs: number): string {
  const { trustDomain, sequence, refreshHintSeconds, x509Authorities } = bundle;
  const head = textFields([
    ['trust domain', trustDomain === undefined ? 'not named' : printable(trustDomain)],
    ['sequence', sequence === undefined ? 'not named' : String(sequence)],
    ['refresh hint', refreshHintSeconds === undefined ? 'not named' : `${refreshHintSeconds} s`],
    ['authorities', String(x509Authorities.length)],
  ]);
  const authorities = x509Authorities.map(describe).flatMap((authority, i) => [
    '',
    `authority ${i + 1}`,
    ...textFields([
      ['id', authority.id ?? 'none'],
      ['SHA-256', authority.sha256],
      ['valid from', timeText(authority.notBeforeMs)],
      ['valid until', `${timeText(authority.notAfterMs)} (${distanceText(authority.notAfterMs, nowMs)})`],
    ]).map((line) => `  ${line}`),
  ]);
  return `${[...head, ...authorities].join('\n')}\n`;
}

function describe(der: Uint8Array) {
  const { subjectKeyId, notBeforeMs, notAfterMs } = parseCertificate(der, 'bundle_malformed');
  return {
    /** Subject key identifier. */
    id: subjectKeyId === undefined ? null : Buffer.from(subjectKeyId).toString('hex'),
    sha256: createHash('sha256').update(der).digest('hex'),
    notBeforeMs,
    notAfterMs,
    certificatePem: encodePem('CERTIFICATE', der),
  };
}
