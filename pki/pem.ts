import { KedgeError, quote } from './kedge-error.ts';

/** What stands in the BEGIN line of the blocks that Kedge reads and writes. */
export type PemLabel =
  | 'CERTIFICATE'
  | 'PRIVATE KEY'
  | 'EC PRIVATE KEY'
  | 'PUBLIC KEY'
  | 'CERTIFICATE REQUEST'
  | 'X509 CRL';

const LINE_CHARACTERS = 64;

/** One PEM block, lines of 64 characters, with a line feed at its end (RFC 7468 section 3, strict form). */
export function encodePem(label: PemLabel, der: Uint8Array): string {
  const base64 = Buffer.from(der.buffer, der.byteOffset, der.byteLength).toString('base64');
  let lines = '';
  for (let i = 0; i < base64.length; i += LINE_CHARACTERS)
    lines += `${base64.slice(i, i + LINE_CHARACTERS)}\n`;
  return `-----BEGIN ${label}-----\n${lines}-----END ${label}-----\n`;
}

/**
 * The bytes of every block of `label`, in the order of the text, which the caller has bounded in size. Text
 * outside of blocks, and blocks of other labels, are passed over (RFC 7468 section 2).
 *
 * Throws `pem_invalid` when there is no such block, when one has no end, or is not canonical base64. The message
 * holds nothing of the block: it may be a key.
 */
export function decodePem(text: string, label: PemLabel): Uint8Array[] {
  const begin = `-----BEGIN ${label}-----`;
  const end = `-----END ${label}-----`;
  const blocks: Uint8Array[] = [];
  let from = 0;
  for (;;) {
    const start = text.indexOf(begin, from);
    if (start < 0) break;
    const bodyStart = start + begin.length;
    const bodyEnd = text.indexOf('-----', bodyStart);
    if (bodyEnd < 0 || !text.startsWith(end, bodyEnd))
      throw new KedgeError(
        'pem_invalid',
        `PEM block ${blocks.length + 1} of ${quote(label)} has no END line`,
      );
    blocks.push(decodeBody(text.slice(bodyStart, bodyEnd), label, blocks.length + 1));
    from = bodyEnd + end.length;
  }
  if (blocks.length === 0)
    throw new KedgeError('pem_invalid', `there is no PEM block of ${quote(label)}`, {
      hint: `give a file with at least one block that begins with ${begin}`,
    });
  return blocks;
}

function decodeBody(body: string, label: PemLabel, position: number): Uint8Array {
  const base64 = body.replace(/[ \t\r\n]+/g, '');
  const bytes = Buffer.from(base64, 'base64');
  // Node skips what is not base64; only canonical text comes back the same.
  if (bytes.length === 0 || bytes.toString('base64') !== base64)
    throw new KedgeError('pem_invalid', `PEM block ${position} of ${quote(label)} is not base64`);
  return new Uint8Array(bytes);
}
