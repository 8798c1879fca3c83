import { createPublicKey } from 'node:crypto';
import { parseCertificate } from './certificate.ts';
import { KedgeError, quote } from './kedge-error.ts';
import { LIMITS } from './limits.ts';
import { type JsonObject, type JsonValue, parseStrictJson } from './strict-json.ts';

/**
 * A SPIFFE bundle: the X.509 authorities of one trust domain. Which trust domain is not in the document; whoever
 * holds it records that beside it (SPIFFE_Trust_Domain_and_Bundle section 3).
 */
export interface BundleDocument {
  /** `spiffe_sequence`, 0 to 2^64 - 1. A bigint, because publishers use clocks in nanoseconds. */
  readonly sequence?: bigint;
  /** `spiffe_refresh_hint`, in seconds. */
  readonly refreshHintSeconds?: number;
  /** CA certificates, DER, without duplicates. None: nothing of the trust domain is trusted. */
  readonly x509Authorities: readonly Uint8Array[];
}

/** Keys of one JWK Set: deeper than this no bundle goes. */
const JSON_DEPTH = 8;
const MAX_SEQUENCE = 2n ** 64n - 1n;
const KNOWN_KEY_TYPES: readonly JsonValue[] = ['EC', 'RSA', 'OKP'];
const X509_SVID_USE = 'x509-svid';

/**
 * The document as bytes of UTF-8 JSON. Certificates that occur twice are written once.
 *
 * No `kid` is written and `x5c` holds one certificate (X509-SVID section 6.1). Throws `bundle_malformed` when a
 * certificate is not one, `message_too_large` over the limits of {@link parseBundleDocument}.
 */
export function formatBundleDocument(document: BundleDocument): Uint8Array {
  const authorities = distinct(document.x509Authorities);
  const members = [
    `"keys":[${authorities.map((der) => JSON.stringify(jwkOf(der))).join(',')}]`,
    ...(document.sequence === undefined ? [] : [`"spiffe_sequence":${checkSequence(document.sequence)}`]),
    ...(document.refreshHintSeconds === undefined
      ? []
      : [`"spiffe_refresh_hint":${checkRefreshHint(document.refreshHintSeconds)}`]),
  ];
  const bytes = new TextEncoder().encode(`{${members.join(',')}}`);
  checkSize(bytes);
  return bytes;
}

/**
 * Reads a SPIFFE bundle (SPIFFE_Trust_Domain_and_Bundle section 4, X509-SVID section 6.2).
 *
 * Ignored, element by element: an unknown `kty` or `use`, and an `x509-svid` key whose `x5c` is missing or empty.
 * Of several `x5c` values only the first counts. The certificate speaks for itself: the other JWK parameters of
 * the key are not read, and whether a certificate may serve as an anchor is for the verifier to judge, so that a
 * bundle with one unusable authority still serves the others.
 *
 * Throws `message_too_large` over 1 MiB or 64 authorities, and `bundle_malformed` for everything that is not such
 * a document: duplicate names, numbers that are no integers, an `x5c` value that is not strict DER X.509.
 */
export function parseBundleDocument(bytes: Uint8Array): BundleDocument {
  checkSize(bytes);
  const root = parseStrictJson(bytes, { maxDepth: JSON_DEPTH, code: 'bundle_malformed' });
  if (!isObject(root)) throw malformed('the document is not a JSON object');
  const keys = root.get('keys');
  if (!Array.isArray(keys)) throw malformed('"keys" is missing or not an array');
  const authorities: Uint8Array[] = [];
  for (const [index, key] of (keys as readonly JsonValue[]).entries()) {
    const authority = authorityOf(key, index);
    if (authority !== null) authorities.push(authority);
  }
  const sequence = integerOf(root, 'spiffe_sequence');
  const refreshHint = integerOf(root, 'spiffe_refresh_hint');
  return {
    ...(sequence === null ? {} : { sequence: checkSequence(sequence) }),
    ...(refreshHint === null ? {} : { refreshHintSeconds: checkRefreshHint(Number(refreshHint)) }),
    x509Authorities: distinct(authorities),
  };
}

function jwkOf(der: Uint8Array): Record<string, unknown> {
  const { spki } = parseCertificate(der, 'bundle_malformed');
  const { kty, ...parameters } = createPublicKey({
    key: Buffer.from(spki),
    format: 'der',
    type: 'spki',
  }).export({ format: 'jwk' });
  return { kty, use: X509_SVID_USE, ...parameters, x5c: [Buffer.from(der).toString('base64')] };
}

function authorityOf(key: JsonValue, index: number): Uint8Array | null {
  if (!isObject(key)) throw malformed(`key ${index} is not a JSON object`);
  const x5c = key.get('x5c');
  if (!KNOWN_KEY_TYPES.includes(key.get('kty') ?? null)) return null;
  if (key.get('use') !== X509_SVID_USE || x5c === undefined) return null;
  if (!Array.isArray(x5c)) throw malformed(`"x5c" of key ${index} is not an array`);
  const [first] = x5c as readonly JsonValue[];
  if (first === undefined) return null;
  if (typeof first !== 'string') throw malformed(`"x5c" of key ${index} does not hold strings`);
  const der = Uint8Array.from(Buffer.from(first, 'base64'));
  if (Buffer.from(der).toString('base64') !== first) {
    throw malformed(`"x5c" of key ${index} is not base64 (RFC 4648 section 4)`);
  }
  return parseCertificate(der, 'bundle_malformed').der;
}

function integerOf(root: JsonObject, name: string): bigint | null {
  const value = root.get(name);
  if (value === undefined) return null;
  const source = isNumber(value) ? value.source : null;
  // Twenty digits hold every 64-bit integer; more would only be turned into a bigint to be refused.
  if (source === null || !/^[0-9]{1,20}$/.test(source)) {
    throw malformed(`${quote(name)} is not an integer of 64 bits`);
  }
  return BigInt(source);
}

function checkSequence(sequence: bigint): bigint {
  if (sequence < 0n || sequence > MAX_SEQUENCE) {
    throw malformed('"spiffe_sequence" is not an integer of 64 bits');
  }
  return sequence;
}

function checkRefreshHint(seconds: number): number {
  if (!Number.isSafeInteger(seconds) || seconds < 0) {
    throw malformed('"spiffe_refresh_hint" is not a number of whole seconds');
  }
  return seconds;
}

function checkSize(bytes: Uint8Array): void {
  if (bytes.length > LIMITS.bundleDocumentBytes) {
    throw new KedgeError(
      'message_too_large',
      `a bundle document of ${bytes.length} bytes is over the limit of ${LIMITS.bundleDocumentBytes}`,
    );
  }
}

function distinct(authorities: readonly Uint8Array[]): readonly Uint8Array[] {
  const byContent = new Map(authorities.map((der) => [Buffer.from(der).toString('base64'), der] as const));
  if (byContent.size > LIMITS.bundleAuthorities) {
    throw new KedgeError(
      'message_too_large',
      `a bundle of ${byContent.size} authorities is over the limit of ${LIMITS.bundleAuthorities}`,
      { hint: 'remove the authorities that sign no more' },
    );
  }
  return [...byContent.values()];
}

function isObject(value: JsonValue): value is JsonObject {
  return value instanceof Map;
}

function isNumber(value: JsonValue): value is { readonly source: string } {
  return typeof value === 'object' && value !== null && 'source' in value;
}

function malformed(message: string): KedgeError {
  return new KedgeError('bundle_malformed', message, {
    hint: 'give a SPIFFE bundle: a JWK Set with the members "keys", "spiffe_sequence" and "spiffe_refresh_hint"',
  });
}
