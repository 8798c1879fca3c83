import { octetAt } from './bytes.ts';

/** The object identifiers that Kedge names, dotted, under the names that their standards give them. */
export const OID = {
  // --- public keys: RFC 5480 section 2, RFC 8017 appendix A.1, RFC 8410 section 3
  ecPublicKey: '1.2.840.10045.2.1',
  secp256r1: '1.2.840.10045.3.1.7',
  secp384r1: '1.3.132.0.34',
  secp521r1: '1.3.132.0.35',
  rsaEncryption: '1.2.840.113549.1.1.1',
  ed25519: '1.3.101.112',
  // --- signatures: RFC 5758 section 3.2, RFC 4055 section 5
  ecdsaWithSha256: '1.2.840.10045.4.3.2',
  ecdsaWithSha384: '1.2.840.10045.4.3.3',
  ecdsaWithSha512: '1.2.840.10045.4.3.4',
  sha256WithRsaEncryption: '1.2.840.113549.1.1.11',
  sha384WithRsaEncryption: '1.2.840.113549.1.1.12',
  sha512WithRsaEncryption: '1.2.840.113549.1.1.13',
  // --- PKCS#10 attributes: RFC 2985 section 5.4.2
  extensionRequest: '1.2.840.113549.1.9.14',
  // --- extensions: RFC 5280 section 4.2.1 and 5.2.3
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  cRLNumber: '2.5.29.20',
  reasonCode: '2.5.29.21',
  nameConstraints: '2.5.29.30',
  authorityKeyIdentifier: '2.5.29.35',
  extKeyUsage: '2.5.29.37',
  // --- extended key usages: RFC 5280 section 4.2.1.12
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
  // --- attribute types of a Name: RFC 4519 section 2
  commonName: '2.5.4.3',
  organizationName: '2.5.4.10',
  serialNumber: '2.5.4.5',
} as const;

/** Arcs up to this many bits are read exactly; UUID arcs below 2.25 have 128. */
const MAX_ARC_OCTETS = 19;

/**
 * The content octets of an OBJECT IDENTIFIER (X.690 section 8.19). `dotted` is a constant of the program: one
 * that is not an OID is a programming mistake and throws TypeError.
 */
export function encodeOid(dotted: string): Uint8Array {
  if (!/^(?:[01]\.[1-3]?\d|2\.(?:0|[1-9]\d*))(?:\.(?:0|[1-9]\d*))*$/.test(dotted))
    throw new TypeError(`not an object identifier: ${dotted}`);
  const [first = 0n, second = 0n, ...rest] = dotted.split('.').map(BigInt);
  return Uint8Array.from([first * 40n + second, ...rest].flatMap(encodeArc));
}

function encodeArc(arc: bigint): number[] {
  const octets = [Number(arc & 0x7fn)];
  for (let left = arc >> 7n; left > 0n; left >>= 7n) octets.unshift(Number(left & 0x7fn) | 0x80);
  return octets;
}

/**
 * True when `[start, end)` is the content of an OBJECT IDENTIFIER: at least one arc, each in the fewest octets,
 * none cut off (X.690 section 8.19.2).
 */
export function isOidContent(bytes: Uint8Array, start: number, end: number): boolean {
  if (start >= end || (octetAt(bytes, end - 1) & 0x80) !== 0) return false;
  let arcStart = start;
  for (let i = start; i < end; i += 1) {
    const octet = octetAt(bytes, i);
    if (i === arcStart && octet === 0x80) return false;
    if ((octet & 0x80) === 0) {
      if (i - arcStart >= MAX_ARC_OCTETS) return false;
      arcStart = i + 1;
    }
  }
  return true;
}

/** The dotted form of the content octets of an OBJECT IDENTIFIER that {@link isOidContent} accepts. */
export function decodeOid(content: Uint8Array): string {
  let dotted = '';
  let arc: number | bigint = 0;
  for (const octet of content) {
    arc = appendSevenBits(arc, octet & 0x7f);
    if ((octet & 0x80) !== 0) continue;
    dotted += dotted === '' ? firstTwoArcs(arc) : `.${arc}`;
    arc = 0;
  }
  return dotted;
}

/** Numbers while they are exact: nearly every arc is small, and bigint costs ten times as much. */
function appendSevenBits(arc: number | bigint, bits: number): number | bigint {
  return typeof arc === 'number' && arc < 2 ** 46 ? arc * 0x80 + bits : (BigInt(arc) << 7n) | BigInt(bits);
}

/** X.690 section 8.19.4: both arcs in one number. Only below arc 2 may the second be above 39. */
function firstTwoArcs(both: number | bigint): string {
  if (typeof both === 'bigint') return `2.${both - 80n}`;
  if (both < 40) return `0.${both}`;
  return both < 80 ? `1.${both - 40}` : `2.${both - 80}`;
}
