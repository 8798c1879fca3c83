import { type CertificateDescription, describeCertificate } from '../../pki/inspect.ts';
import { readCertificates } from '../certificate-input.ts';
import { type Command, OUTPUT_OPTION } from '../command.ts';
import { jsonDocument } from '../json-document.ts';
import { distanceText, printable, textFields, timeText } from '../text-table.ts';

/** `kedge svid inspect`. */
export const svidInspectCommand: Command = {
  name: 'svid inspect',
  summary: 'show what is in each certificate of a file',
  description: [
    'Reads a file of certificates (PEM or DER; - is standard input) and shows what is in each, in their order. It judges nothing: whether an SVID is valid is what kedge svid verify says. A private key in the file is passed over.',
  ],
  positionals: [{ name: 'file', required: true, help: 'the certificates; - is standard input' }],
  options: [OUTPUT_OPTION],
  examples: [
    ['kedge svid inspect svid.pem', 'a chain in a file'],
    ['kedge svid inspect svid.pem --output json | jq .[0].spiffeId', 'one field of the leaf'],
  ],
  no: 'there is no certificate in the file, or one is malformed',
  async run({ args, output, terminal, clock }) {
    const descriptions = (await readCertificates(args.positional(0))).map(describeCertificate);
    terminal.stdout(
      output === 'json' ? jsonDocument(descriptions) : textDescriptions(descriptions, clock.now()),
    );
    return 0;
  },
};

function textDescriptions(descriptions: readonly CertificateDescription[], nowMs: number): string {
  const blocks = descriptions.map((description, i) => {
    const fields = textFields(fieldsOf(description, nowMs)).map((line) => `  ${line}`);
    return [`certificate ${i + 1} of ${descriptions.length}`, ...fields, ''].join('\n');
  });
  return blocks.join('\n');
}

function fieldsOf(description: CertificateDescription, nowMs: number): (readonly [string, string])[] {
  const { isCa, pathLength } = description;
  const list = (items: readonly string[]): string =>
    items.length === 0 ? 'none' : items.map(printable).join(', ');
  const limit = pathLength === null ? '' : `, path length ${pathLength}`;
  const until = Date.parse(description.notAfter);
  return [
    ['SPIFFE ID', description.spiffeId ?? 'none'],
    ['subject', printable(description.subject) || 'empty'],
    ['issued by', printable(description.issuer) || 'empty'],
    ['serial', description.serialNumber],
    ['valid from', timeText(Date.parse(description.notBefore))],
    ['valid until', `${timeText(until)} (${distanceText(until, nowMs)})`],
    ['public key', description.publicKey],
    ['signed with', description.signatureAlgorithm],
    ['CA', isCa ? `yes${limit}` : 'no'],
    ['key usage', list(description.keyUsage)],
    ['extended key usage', list(description.extendedKeyUsage)],
    ['names', list(description.subjectAltNames)],
    ...(description.nameConstraints.length === 0
      ? []
      : [['name constraints', list(description.nameConstraints)] as const]),
    ['subject key id', description.subjectKeyId ?? 'none'],
    ['authority key id', description.authorityKeyId ?? 'none'],
    ...(description.unknownCriticalExtensions.length === 0
      ? []
      : [['unknown critical', list(description.unknownCriticalExtensions)] as const]),
    ['SHA-256', description.fingerprint],
  ];
}
