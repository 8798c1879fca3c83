import { constants, createPublicKey, type KeyObject, verify } from 'node:crypto';

import { KedgeError } from '../../pki/kedge-error.ts';

interface RsaRow {
  readonly kind: 'rsa' | 'rsa-pss';
  readonly hash: string;
  readonly hashBytes: number;
}

interface EcRow {
  readonly kind: 'ec';
  readonly hash: string;
  readonly curve: string;
  /** Length of r and s together (RFC 7518 section 3.4). */
  readonly signatureBytes: number;
}

interface EdRow {
  readonly kind: 'ed25519';
}

/** The signature algorithms that a token may have: RFC 7518 section 3.1, RFC 8037 section 3.1. No MAC, no `none`. */
const ROWS = {
  RS256: { kind: 'rsa', hash: 'sha256', hashBytes: 32 },
  RS384: { kind: 'rsa', hash: 'sha384', hashBytes: 48 },
  RS512: { kind: 'rsa', hash: 'sha512', hashBytes: 64 },
  PS256: { kind: 'rsa-pss', hash: 'sha256', hashBytes: 32 },
  PS384: { kind: 'rsa-pss', hash: 'sha384', hashBytes: 48 },
  PS512: { kind: 'rsa-pss', hash: 'sha512', hashBytes: 64 },
  ES256: { kind: 'ec', hash: 'sha256', curve: 'prime256v1', signatureBytes: 64 },
  ES384: { kind: 'ec', hash: 'sha384', curve: 'secp384r1', signatureBytes: 96 },
  ES512: { kind: 'ec', hash: 'sha512', curve: 'secp521r1', signatureBytes: 132 },
  EdDSA: { kind: 'ed25519' },
} as const satisfies Record<string, RsaRow | EcRow | EdRow>;

/** `alg` values that Kedge verifies. */
export type JwsAlgorithm = keyof typeof ROWS;

/** The same, to list in messages. */
export const JWS_ALGORITHMS = Object.keys(ROWS) as readonly JwsAlgorithm[];

/** RFC 7518 section 3.3 asks for 2048 bits at least; the upper bound keeps one verification cheap. */
const RSA_MODULUS_BITS = { min: 2048, max: 8192 } as const;

/** True for an `alg` value of {@link JWS_ALGORITHMS}. */
export function isJwsAlgorithm(alg: string): alg is JwsAlgorithm {
  return Object.hasOwn(ROWS, alg);
}

type Check = (signingInput: Uint8Array, signature: Uint8Array) => boolean;

/**
 * A public key of a token issuer together with the one algorithm that it verifies: the key decides the algorithm,
 * never the token (RFC 8725 section 3.1).
 */
export class JwsKey {
  readonly kid: string;
  readonly algorithm: JwsAlgorithm;
  readonly #key: KeyObject;
  readonly #check: Check;

  private constructor(kid: string, algorithm: JwsAlgorithm, key: KeyObject) {
    this.kid = kid;
    this.algorithm = algorithm;
    this.#key = key;
    this.#check = checkFor(algorithm, key);
  }

  /**
   * `key` is public, or private and then only its public half is kept. Throws `config_invalid` when the key is
   * not of the algorithm's type, curve or size.
   */
  static of(kid: string, algorithm: JwsAlgorithm, key: KeyObject): JwsKey {
    const publicKey = key.type === 'private' ? createPublicKey(key) : key;
    return new JwsKey(kid, algorithm, publicKey);
  }

  /** True for the same key under the same id, for the same algorithm. */
  isSameAs(other: JwsKey): boolean {
    return this.kid === other.kid && this.algorithm === other.algorithm && this.#key.equals(other.#key);
  }

  /** True when `signature` is this key's over `signingInput` (the token up to its second dot, ASCII). */
  verifies(signingInput: Uint8Array, signature: Uint8Array): boolean {
    return this.#check(signingInput, signature);
  }
}

function checkFor(algorithm: JwsAlgorithm, key: KeyObject): Check {
  const row = ROWS[algorithm];
  switch (row.kind) {
    case 'rsa':
    case 'rsa-pss':
      return rsaCheck(algorithm, row, key);
    case 'ec':
      return ecCheck(algorithm, row, key);
    case 'ed25519':
      if (key.asymmetricKeyType !== 'ed25519') throw unfit(algorithm, 'an Ed25519 key', key);
      return (data, signature) => verify(null, data, key, signature);
    default:
      row satisfies never;
      throw new TypeError('unreachable');
  }
}

function rsaCheck(algorithm: JwsAlgorithm, { kind, hash, hashBytes }: RsaRow, key: KeyObject): Check {
  const { min, max } = RSA_MODULUS_BITS;
  const bits = key.asymmetricKeyDetails?.modulusLength ?? 0;
  if (key.asymmetricKeyType !== 'rsa' || bits < min || bits > max) {
    throw unfit(algorithm, `an RSA key of ${min} to ${max} bits`, key);
  }
  if (kind === 'rsa') return (data, signature) => verify(hash, data, key, signature);
  const padded = { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: hashBytes };
  return (data, signature) => verify(hash, data, padded, signature);
}

function ecCheck(algorithm: JwsAlgorithm, { hash, curve, signatureBytes }: EcRow, key: KeyObject): Check {
  if (key.asymmetricKeyType !== 'ec' || key.asymmetricKeyDetails?.namedCurve !== curve) {
    throw unfit(algorithm, `a key on ${curve}`, key);
  }
  const raw = { key, dsaEncoding: 'ieee-p1363' } as const;
  return (data, signature) => signature.length === signatureBytes && verify(hash, data, raw, signature);
}

function unfit(algorithm: JwsAlgorithm, wanted: string, key: KeyObject): KedgeError {
  const found = key.asymmetricKeyType ?? `of type ${key.type}`;
  return new KedgeError('config_invalid', `${algorithm} needs ${wanted}, the key is ${found}`);
}
