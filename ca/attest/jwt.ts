import { isUtf8 } from 'node:buffer';

import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import { parseStrictJson } from '../../pki/strict-json.ts';
import { isJwsAlgorithm, JWS_ALGORITHMS, type JwsAlgorithm, type JwsKey } from './jws-algorithms.ts';
import { type JwtClaims, parseClaims } from './jwt-claims.ts';

/** How much an issuer's clock may differ from ours at most, whatever is configured, in milliseconds. */
export const MAX_LEEWAY_MS = 300_000;

/** Who signs tokens. */
export interface JwtIssuer {
  /** The only `iss` that is accepted. */
  readonly issuer: string;
  /** The issuer's key of that id; undefined where there is none. */
  readonly keyOf: (kid: string) => JwsKey | undefined;
}

/** What must be true of a token's claims each time that it is used. */
export interface ClaimExpectations {
  /** One of the token's `aud` values must be this. */
  readonly audience: string;
  /** Wall clock, milliseconds since the Unix epoch. */
  readonly nowMs: number;
  /** Tolerance for `exp`, `nbf` and `iat`, milliseconds; at most {@link MAX_LEEWAY_MS}. */
  readonly leewayMs: number;
}

/** What a token must be. */
export interface JwtExpectations extends JwtIssuer, ClaimExpectations {}

/** A token whose signature verified: true for as long as the issuer has that key. */
export interface SignedClaims {
  readonly claims: JwtClaims;
  /** The key that verified it. */
  readonly key: JwsKey;
}

/** The claims that each use of a token looks at. */
export type UsableClaims = Pick<JwtClaims, 'audiences' | 'expiresAtMs' | 'notBeforeMs' | 'issuedAtMs'>;

interface Header {
  readonly alg: JwsAlgorithm;
  readonly kid: string;
}

/** A token in JWS compact serialization is never shorter. */
const DOTS = 2;

/** Claims nest three deep in Kubernetes' tokens. */
const MAX_JSON_DEPTH = 32;

const MALFORMED_HINT = 'send the token as the issuer wrote it: three base64url parts, joined by dots';

/**
 * Verifies a JWT and gives its claims, all of them signed. In this order:
 *
 * 1. Size, three parts, strict base64url, header of `alg`, `kid` and `typ` only, claims of the right types.
 * 2. `alg` is one that Kedge verifies at all; `iss` is the issuer. (Nothing is believed yet: both only refuse.)
 * 3. The key is the issuer's key of that `kid`; `alg` is the one that the key is for; the signature verifies.
 * 4. `aud` holds the audience; `exp`, `nbf`, `iat` against the clock.
 *
 * Throws `token_malformed`, `token_algorithm_refused`, `token_issuer_unknown`, `token_signature_invalid`,
 * `token_claims_invalid`, `token_audience_mismatch`, `token_expired`, `token_not_yet_valid`. RFC 7515 section 5.2,
 * RFC 7519 section 7.2, RFC 8725 section 3.
 */
export function verifyJwt(token: string, expected: JwtExpectations): JwtClaims {
  const { claims } = verifySignedClaims(token, expected);
  checkClaims(claims, expected);
  return claims;
}

/** Steps 1 to 3 of {@link verifyJwt}: all that depends on nothing but the token and the issuer's keys. */
export function verifySignedClaims(token: string, expected: JwtIssuer): SignedClaims {
  const read = readToken(token);
  if (read.claims.issuer !== expected.issuer) throw issuerUnknown(read.claims.issuer, [expected.issuer]);
  const key = expected.keyOf(read.kid);
  if (key === undefined) throw keyUnknown(read.kid);
  return verifyWith(read, key);
}

/** A token that is well-formed. Nothing of it is proved: it may only lead to a refusal, or to whom to ask. */
export interface ReadToken {
  readonly alg: JwsAlgorithm;
  readonly kid: string;
  readonly claims: JwtClaims;
  readonly signature: Uint8Array;
  readonly signingInput: Uint8Array;
}

/** Step 1 of {@link verifyJwt}, and that `alg` is one that Kedge verifies. */
export function readToken(token: string): ReadToken {
  const [headerPart, payloadPart, signaturePart] = split(token);
  const { alg, kid } = parseHeader(decodeJson(headerPart, 'header'));
  const claims = parseClaims(decodeJson(payloadPart, 'payload'));
  const signature = decodePart(signaturePart, 'signature');
  const signingInput = Buffer.from(token.slice(0, headerPart.length + 1 + payloadPart.length), 'latin1');
  return { alg, kid, claims, signature, signingInput };
}

/** Step 3 of {@link verifyJwt} with the issuer's key of the token's `kid`. */
export function verifyWith({ alg, claims, signature, signingInput }: ReadToken, key: JwsKey): SignedClaims {
  if (key.algorithm !== alg) throw algorithmRefused(alg, [key.algorithm]);
  if (!key.verifies(signingInput, signature)) {
    throw new KedgeError('token_signature_invalid', "the token's signature does not verify", {
      hint: 'fetch a new token',
    });
  }
  return { claims, key };
}

/** The refusal of a token from an issuer that is not one of `known`. */
export function issuerUnknown(issuer: string, known: readonly string[]): KedgeError {
  const names = known.slice(0, 4).map((one) => quote(one));
  return new KedgeError('token_issuer_unknown', `the token is from issuer ${quote(issuer)}`, {
    hint: `this CA accepts tokens from ${names.join(', ')}`,
  });
}

/** The refusal of a token whose issuer has no such key. */
export function keyUnknown(kid: string): KedgeError {
  return new KedgeError('token_signature_invalid', `the issuer has no key with id ${quote(kid)}`, {
    hint: 'the issuer may have changed its keys since: fetch a new token',
  });
}

/** What {@link checkClaims} looks at, without the rest of the claims. */
export function usableClaims({ audiences, expiresAtMs, notBeforeMs, issuedAtMs }: JwtClaims): UsableClaims {
  return { audiences, expiresAtMs, notBeforeMs, issuedAtMs };
}

/** Step 4 of {@link verifyJwt}: what each use of a token must look at again. */
export function checkClaims(claims: UsableClaims, { audience, nowMs, leewayMs }: ClaimExpectations): void {
  checkAudience(claims, audience);
  checkTimes(claims, nowMs, Math.min(leewayMs, MAX_LEEWAY_MS));
}

function split(token: string): readonly [string, string, string] {
  if (token.length > LIMITS.tokenBytes) {
    throw malformed(`the token has ${token.length} characters, the limit is ${LIMITS.tokenBytes}`);
  }
  const parts = token.split('.', DOTS + 2);
  const [header, payload, signature] = parts;
  if (parts.length !== DOTS + 1 || header === undefined || payload === undefined || signature === undefined) {
    throw malformed('the token is not three parts joined by dots');
  }
  return [header, payload, signature];
}

/** Strict: the text must be the one encoding of its bytes (RFC 7515 section 2: no padding; RFC 4648 section 3.5). */
function decodePart(part: string, name: string): Buffer {
  const bytes = Buffer.from(part, 'base64url');
  if (part === '' || bytes.toString('base64url') !== part) {
    throw malformed(`the token's ${name} is not base64url without padding`);
  }
  return bytes;
}

function decodeJson(part: string, name: string): ReadonlyMap<string, unknown> {
  const bytes = decodePart(part, name);
  if (!isUtf8(bytes)) throw malformed(`the token's ${name} is not UTF-8`);
  const text = bytes.toString('utf8');
  let value: unknown;
  try {
    value = JSON.parse(text);
    // Issuers write compact JSON, which comes out of JSON.parse and back unchanged: then no name stands twice.
    // Any other way of writing it takes the slow reader, only to refuse duplicate names.
    if (JSON.stringify(value) !== text) {
      parseStrictJson(bytes, { maxDepth: MAX_JSON_DEPTH, code: 'token_malformed' });
    }
  } catch {
    // The parsers' own messages quote the text, which is part of a token.
    throw malformed(`the token's ${name} is not JSON without duplicate names`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw malformed(`the token's ${name} is not a JSON object`);
  }
  return new Map(Object.entries(value));
}

function parseHeader(header: ReadonlyMap<string, unknown>): Header {
  for (const name of header.keys()) {
    if (name !== 'alg' && name !== 'kid' && name !== 'typ') {
      throw malformed(`the token's header has the parameter ${quote(name)}; only alg, kid and typ are taken`);
    }
  }
  const alg = header.get('alg');
  if (typeof alg !== 'string') throw malformed("the token's header has no alg");
  if (!isJwsAlgorithm(alg)) throw algorithmRefused(alg, JWS_ALGORITHMS);
  const typ = header.get('typ');
  if (typ !== undefined && typ !== 'JWT' && typ !== 'JOSE') {
    throw malformed("the token's header has a typ other than JWT or JOSE");
  }
  const kid = header.get('kid');
  if (typeof kid !== 'string' || kid === '' || kid.length > LIMITS.tokenStringChars) {
    throw malformed("the token's header has no usable kid, so there is no telling which key signed it");
  }
  return { alg, kid };
}

function checkAudience(claims: UsableClaims, audience: string): void {
  if (claims.audiences.includes(audience)) return;
  const given = claims.audiences.slice(0, 3).map((a) => quote(a));
  throw new KedgeError('token_audience_mismatch', `the token is for ${given.join(', ')}`, {
    hint: `ask for a token whose audience is ${quote(audience)}`,
  });
}

function checkTimes(claims: UsableClaims, nowMs: number, leewayMs: number): void {
  if (nowMs - leewayMs >= claims.expiresAtMs) {
    throw new KedgeError('token_expired', `the token expired at ${instant(claims.expiresAtMs)}`, {
      hint: `read the token file anew for each call; the CA's clock says ${instant(nowMs)}`,
    });
  }
  for (const [name, atMs] of [
    ['nbf', claims.notBeforeMs],
    ['iat', claims.issuedAtMs],
  ] as const) {
    if (atMs !== undefined && atMs > nowMs + leewayMs) {
      throw new KedgeError('token_not_yet_valid', `the token's ${name} is ${instant(atMs)}, in the future`, {
        hint: `compare the clocks of issuer and CA; the CA's says ${instant(nowMs)}`,
        retryAfterMs: Math.min(atMs - nowMs - leewayMs, 60_000),
      });
    }
  }
}

function instant(atMs: number): string {
  return new Date(atMs).toISOString();
}

function malformed(message: string): KedgeError {
  return new KedgeError('token_malformed', message, { hint: MALFORMED_HINT });
}

function algorithmRefused(alg: string, allowed: readonly JwsAlgorithm[]): KedgeError {
  return new KedgeError('token_algorithm_refused', `the token's alg is ${quote(alg)}`, {
    hint: `allowed here: ${allowed.join(', ')}`,
  });
}
