import { KedgeError } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';

/** The latest instant that Kedge writes or reads: the last second of year 9999 (RFC 5280 section 4.1.2.5). */
const MAX_NUMERIC_DATE = 253_402_300_799;

/** The claims of a JWT, of the types that RFC 7519 section 4.1 gives them. */
export interface JwtClaims {
  readonly issuer: string;
  readonly subject: string;
  /** At least one. */
  readonly audiences: readonly string[];
  /** Milliseconds since the Unix epoch, as the other times here. */
  readonly expiresAtMs: number;
  readonly notBeforeMs: number | undefined;
  readonly issuedAtMs: number | undefined;
  /** Every claim by name, the ones above included; values as JSON gave them, not checked. */
  readonly all: ReadonlyMap<string, unknown>;
}

/**
 * Reads the registered claims. `iss`, `sub`, `aud` and `exp` are required; times are whole seconds. Claims that
 * are not known are kept as they are. Throws `token_claims_invalid` naming the claim.
 */
export function parseClaims(all: ReadonlyMap<string, unknown>): JwtClaims {
  const expiresAtMs = timeMs(all, 'exp');
  if (expiresAtMs === undefined) throw claimInvalid('exp', 'missing');
  return {
    issuer: requireText(all, 'iss'),
    subject: requireText(all, 'sub'),
    audiences: audiences(all.get('aud')),
    expiresAtMs,
    notBeforeMs: timeMs(all, 'nbf'),
    issuedAtMs: timeMs(all, 'iat'),
    all,
  };
}

/** A claim that is a non-empty, bounded string. `path` names it in the message where it sits deeper. */
export function requireText(claims: ReadonlyMap<string, unknown>, name: string, path = name): string {
  const value = claims.get(name);
  if (value === undefined) throw claimInvalid(path, 'missing');
  if (typeof value !== 'string' || value === '') throw claimInvalid(path, 'not a non-empty string');
  if (value.length > LIMITS.tokenStringChars) {
    throw claimInvalid(path, `over ${LIMITS.tokenStringChars} characters`);
  }
  return value;
}

/** A claim that is a JSON object, as a map of its own members; undefined when it is missing. */
export function optionalObject(
  claims: ReadonlyMap<string, unknown>,
  name: string,
  path = name,
): ReadonlyMap<string, unknown> | undefined {
  const value = claims.get(name);
  if (value === undefined) return undefined;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw claimInvalid(path, 'not an object');
  }
  return new Map(Object.entries(value));
}

/** The refusal of one claim. `problem` never holds the value. */
export function claimInvalid(path: string, problem: string): KedgeError {
  return new KedgeError('token_claims_invalid', `the token's claim ${path} is ${problem}`, {
    hint: "use a token with the claims of Kubernetes' bound ServiceAccount tokens",
  });
}

/** RFC 7519 section 4.1.3: one string or an array of strings. */
function audiences(value: unknown): readonly string[] {
  const list: readonly unknown[] = Array.isArray(value) ? value : [value];
  if (value === undefined || list.length === 0) throw claimInvalid('aud', 'missing');
  if (list.length > LIMITS.tokenAudiences) {
    throw claimInvalid('aud', `a list of over ${LIMITS.tokenAudiences}`);
  }
  return list.map((one) => {
    if (typeof one !== 'string' || one === '' || one.length > LIMITS.tokenStringChars) {
      throw claimInvalid('aud', 'not a list of bounded, non-empty strings');
    }
    return one;
  });
}

function timeMs(claims: ReadonlyMap<string, unknown>, name: string): number | undefined {
  const value = claims.get(name);
  if (value === undefined) return undefined;
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > MAX_NUMERIC_DATE) {
    throw claimInvalid(name, 'not a whole number of seconds since the Unix epoch');
  }
  return value * 1000;
}
