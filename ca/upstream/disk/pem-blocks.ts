import { KedgeError, quote } from '../../../pki/kedge-error.ts';

/** One block of a PEM file. */
export interface PemBlock {
  /** What stands in its BEGIN line. */
  readonly label: string;
  /** The lines between BEGIN and END, headers of old encrypted keys included. */
  readonly body: string;
}

const BEGIN = /-----BEGIN ([A-Z0-9 ]{1,64})-----/g;

/**
 * The blocks of a PEM file, in their order; text outside of blocks is passed over (RFC 7468 section 2), as
 * `openssl x509 -text` and step write it. The caller has bounded the file. `name` is the file, for messages, which
 * hold nothing of what is in it.
 *
 * Throws `disk_file_truncated` for a block without an end, `disk_pem_missing` where there is no block.
 */
export function pemBlocks(text: string, name: string): readonly PemBlock[] {
  const blocks: PemBlock[] = [];
  for (const { 0: line, 1: label = '', index } of text.matchAll(BEGIN)) {
    const from = index + line.length;
    const to = text.indexOf('-----', from);
    if (to < 0 || !text.startsWith(`-----END ${label}-----`, to)) {
      throw new KedgeError(
        'disk_file_truncated',
        `${quote(name, 200)}: a block of ${quote(label)} has no END`,
        {
          hint: 'the file is cut off, or was read while it was written: write it anew, best to another name, and move it into place',
        },
      );
    }
    blocks.push({ label, body: text.slice(from, to) });
  }
  if (blocks.length === 0) {
    throw new KedgeError('disk_pem_missing', `${quote(name, 200)} holds no PEM block`, {
      hint: 'give PEM, not DER: openssl x509 or openssl pkey with -inform DER converts it',
    });
  }
  return blocks;
}

/**
 * The bytes of a block; null when it is not canonical base64 (white space apart).
 */
export function pemBytes({ body }: PemBlock): Uint8Array | null {
  const base64 = body.replace(/[ \t\r\n]+/g, '');
  const bytes = Buffer.from(base64, 'base64');
  // Node skips what is not base64; only canonical text comes back the same.
  return bytes.length === 0 || bytes.toString('base64') !== base64 ? null : new Uint8Array(bytes);
}
