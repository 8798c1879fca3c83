import { createPublicKey, type JsonWebKey } from 'node:crypto';
import { isKedgeError, KedgeError, quote } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import { type JsonObject, type JsonValue, parseStrictJson } from '../../pki/strict-json.ts';
import { isJwsAlgorithm, type JwsAlgorithm, JwsKey } from './jws-algorithms.ts';

const MAX_JSON_DEPTH = 16;

/** The algorithm of a key that names none: what its kind and curve leave, and for RSA the one that issuers use. */
const ALGORITHM_OF: ReadonlyMap<string, JwsAlgorithm> = new Map([
  ['RSA', 'RS256'],
  ['EC P-256', 'ES256'],
  ['EC P-384', 'ES384'],
  ['EC P-521', 'ES512'],
  ['OKP Ed25519', 'EdDSA'],
] as const);

/** The members that make a public key of each kind (RFC 7518 section 6, RFC 8037 section 2). */
const MEMBERS: ReadonlyMap<string, readonly string[]> = new Map([
  ['RSA', ['n', 'e']],
  ['EC', ['crv', 'x', 'y']],
  ['OKP', ['crv', 'x']],
]);

/**
 * The keys of a token issuer by `kid`, from its JWK Set (RFC 7517 section 5). Elements for another use, of another
 * kind, or without a `kid` are passed over, as the RFC asks; so are keys that Kedge would not verify with. Refused are
 * a document without a usable key, and one that has a `kid` twice: a token could then mean either.
 *
 * Throws `issuer_keys_invalid`. `what` names the document in the message.
 */
export function parseJwkSet(document: Uint8Array, what: string): ReadonlyMap<string, JwsKey> {
  if (document.length > LIMITS.issuerKeysBytes)
    throw invalid(what, `is over ${LIMITS.issuerKeysBytes} bytes`);
  const set = readJson(document, what);
  const elements = set.get('keys');
  if (!Array.isArray(elements)) throw invalid(what, 'has no list of keys');
  if (elements.length > LIMITS.issuerKeys) throw invalid(what, `has over ${LIMITS.issuerKeys} keys`);
  const keys = new Map<string, JwsKey>();
  for (const element of elements as readonly JsonValue[]) {
    const key = keyOf(element);
    if (key === null) continue;
    if (keys.has(key.kid)) throw invalid(what, `has two keys with the kid ${quote(key.kid)}`);
    keys.set(key.kid, key);
  }
  if (keys.size === 0) throw invalid(what, 'has no key that Kedge can verify tokens with');
  return keys;
}

/** The members of a JSON object. Throws `issuer_keys_invalid`. */
export function readJson(document: Uint8Array, what: string): JsonObject {
  let value: JsonValue;
  try {
    value = parseStrictJson(document, { maxDepth: MAX_JSON_DEPTH, code: 'issuer_keys_invalid' });
  } catch (cause) {
    throw invalid(what, 'is not strict JSON', cause);
  }
  if (value instanceof Map) return value as JsonObject;
  throw invalid(what, 'is not a JSON object');
}

/** Null for an element to pass over. */
function keyOf(element: JsonValue): JwsKey | null {
  if (!(element instanceof Map)) return null;
  const jwk = element as JsonObject;
  const [kid, kty, use, alg] = ['kid', 'kty', 'use', 'alg'].map((name) => jwk.get(name));
  if (typeof kid !== 'string' || kid === '' || kid.length > LIMITS.tokenStringChars) return null;
  if (use !== undefined && use !== 'sig') return null;
  const operations = jwk.get('key_ops');
  if (Array.isArray(operations) && !operations.includes('verify')) return null;
  const members = typeof kty === 'string' ? MEMBERS.get(kty) : undefined;
  if (members === undefined || typeof kty !== 'string') return null;
  const curve = jwk.get('crv');
  const byDefault = ALGORITHM_OF.get(
    kty === 'RSA' ? kty : `${kty} ${typeof curve === 'string' ? curve : ''}`,
  );
  const algorithm = alg ?? byDefault;
  if (typeof algorithm !== 'string' || !isJwsAlgorithm(algorithm)) return null;
  // Only what makes a public key: a private member of somebody's mistake is not even read.
  const parts: JsonWebKey = { kty };
  for (const name of members) {
    const value = jwk.get(name);
    if (typeof value !== 'string') return null;
    parts[name] = value;
  }
  try {
    return JwsKey.of(kid, algorithm, createPublicKey({ key: parts, format: 'jwk' }));
  } catch (error) {
    if (isKedgeError(error) || error instanceof Error) return null;
    throw error;
  }
}

function invalid(what: string, problem: string, cause?: unknown): KedgeError {
  return new KedgeError('issuer_keys_invalid', `${what} ${problem}`, {
    hint: 'give the JWK Set of a token issuer, as kube-apiserver serves it at /openid/v1/jwks',
    cause,
  });
}
