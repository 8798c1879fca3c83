/** IssueX509SvidResponse, encoded for the hot path: one buffer, of which the bundle was encoded before. */
import { unwrittenBytes } from '../../pki/bytes.ts';

/** What an answer says. Times are milliseconds since the Unix epoch, whole and not negative. */
export interface IssueAnswer {
  /** DER: the SVID, then what leads from it to the anchor. */
  readonly chain: readonly Uint8Array[];
  /** Field `bundle` of the response, encoded. */
  readonly bundleField: Uint8Array;
  readonly renewal: { readonly notBeforeMs: number; readonly notAfterMs: number };
  readonly serverTimeMs: number;
}

/** The fields of IssueX509SvidResponse and RenewalWindow as tags: number, and wire type LEN (2) or VARINT (0). */
const TAG = {
  x509Svid: (1 << 3) | 2,
  renewal: (3 << 3) | 2,
  serverTimeMs: 4 << 3,
  notBeforeMs: 1 << 3,
  notAfterMs: 2 << 3,
} as const;

/**
 * Encodes an answer. The fields stand in no particular order, as protobuf allows. By hand, because the generated codec
 * makes six buffers of growing sizes for it, which costs more than the audit record of the SVID. Throws RangeError for
 * a time that is none.
 */
export function encodeIssueAnswer({ chain, bundleField, renewal, serverTimeMs }: IssueAnswer): Uint8Array {
  const renewalOctets = 2 + varintOctets(renewal.notBeforeMs) + varintOctets(renewal.notAfterMs);
  let octets = bundleField.length + 2 + renewalOctets + 1 + varintOctets(serverTimeMs);
  for (const der of chain) octets += 1 + varintOctets(der.length) + der.length;

  const answer = unwrittenBytes(octets);
  let at = 0;
  for (const der of chain) {
    at = writeVarint(answer, writeVarint(answer, at, TAG.x509Svid), der.length);
    answer.set(der, at);
    at += der.length;
  }
  answer.set(bundleField, at);
  at += bundleField.length;
  at = writeVarint(answer, writeVarint(answer, at, TAG.renewal), renewalOctets);
  at = writeVarint(answer, writeVarint(answer, at, TAG.notBeforeMs), renewal.notBeforeMs);
  at = writeVarint(answer, writeVarint(answer, at, TAG.notAfterMs), renewal.notAfterMs);
  at = writeVarint(answer, writeVarint(answer, at, TAG.serverTimeMs), serverTimeMs);
  return answer;
}

/** How many octets a varint takes: seven bits in each. */
function varintOctets(value: number): number {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`no varint for ${value}`);
  let octets = 1;
  for (let left = value; left >= 0x80; left = Math.floor(left / 0x80)) octets += 1;
  return octets;
}

/** The low seven bits first, a set top bit where more follow; gives the offset behind. */
function writeVarint(target: Uint8Array, offset: number, value: number): number {
  let at = offset;
  let left = value;
  for (; left >= 0x80; left = Math.floor(left / 0x80)) {
    target[at] = 0x80 | (left % 0x80);
    at += 1;
  }
  target[at] = left;
  return at + 1;
}
