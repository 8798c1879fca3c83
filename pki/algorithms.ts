import { type KeyObject, sign } from 'node:crypto';
import { equalBytes } from './bytes.ts';
import { derNull, derOid, derSequence } from './der-writer.ts';
import { OID } from './oid.ts';

/** Signature algorithms that Kedge's own keys sign with, by the name of the key and the hash. */
export type SignatureAlgorithm =
  | 'ecdsa-p256-sha256'
  | 'ecdsa-p384-sha384'
  | 'ed25519'
  | 'rsa-pkcs1-sha256'
  | 'rsa-pkcs1-sha384'
  | 'rsa-pkcs1-sha512';

/**
 * What an AlgorithmIdentifier says about a signature: for ECDSA the hash and not the curve. Kedge reads these and
 * no others; SHA-1 is not among them.
 */
export type SignatureScheme =
  | 'ecdsa-sha256'
  | 'ecdsa-sha384'
  | 'ecdsa-sha512'
  | 'ed25519'
  | 'rsa-pkcs1-sha256'
  | 'rsa-pkcs1-sha384'
  | 'rsa-pkcs1-sha512';

/**
 * Types of public keys that an SVID may hold. RSA is any modulus of 2048 to 4096 bits, named after the largest of
 * the three sizes that it reaches: 2560 bits are `rsa-2048`, so a policy that asks for `rsa-3072` refuses them.
 */
export type SvidKeyType = 'ec-p256' | 'ec-p384' | 'ed25519' | 'rsa-2048' | 'rsa-3072' | 'rsa-4096';

/** A kind of key, as far as signature schemes care. */
export type KeyFamily = 'ec' | 'ed25519' | 'rsa';

/** What goes with a signature scheme. */
export interface SchemeSpec {
  readonly scheme: SignatureScheme;
  readonly family: KeyFamily;
  /** The digest's name for node:crypto; null where the scheme hashes by itself. */
  readonly digest: 'sha256' | 'sha384' | 'sha512' | null;
  /** AlgorithmIdentifier, DER, as Kedge writes it. */
  readonly algorithmIdentifier: Uint8Array;
  /** The other AlgorithmIdentifier that a reader takes for the same scheme, if there is one. */
  readonly alternativeIdentifier: Uint8Array | null;
}

function withoutParameters(
  scheme: SignatureScheme,
  family: KeyFamily,
  digest: SchemeSpec['digest'],
  oid: string,
): SchemeSpec {
  const algorithmIdentifier = derSequence(derOid(oid));
  return { scheme, family, digest, algorithmIdentifier, alternativeIdentifier: null };
}

/** RFC 4055 section 5: parameters are NULL when written, and a reader takes NULL and absent for the same. */
function rsa(scheme: SignatureScheme, digest: SchemeSpec['digest'], oid: string): SchemeSpec {
  return {
    scheme,
    family: 'rsa',
    digest,
    algorithmIdentifier: derSequence(derOid(oid), derNull()),
    alternativeIdentifier: derSequence(derOid(oid)),
  };
}

/**
 * Every scheme. Parameters are absent for ECDSA (RFC 5758 section 3.2) and Ed25519 (RFC 8410 section 3).
 */
const SCHEMES: Readonly<Record<SignatureScheme, SchemeSpec>> = {
  'ecdsa-sha256': withoutParameters('ecdsa-sha256', 'ec', 'sha256', OID.ecdsaWithSha256),
  'ecdsa-sha384': withoutParameters('ecdsa-sha384', 'ec', 'sha384', OID.ecdsaWithSha384),
  'ecdsa-sha512': withoutParameters('ecdsa-sha512', 'ec', 'sha512', OID.ecdsaWithSha512),
  ed25519: withoutParameters('ed25519', 'ed25519', null, OID.ed25519),
  'rsa-pkcs1-sha256': rsa('rsa-pkcs1-sha256', 'sha256', OID.sha256WithRsaEncryption),
  'rsa-pkcs1-sha384': rsa('rsa-pkcs1-sha384', 'sha384', OID.sha384WithRsaEncryption),
  'rsa-pkcs1-sha512': rsa('rsa-pkcs1-sha512', 'sha512', OID.sha512WithRsaEncryption),
};

const ALL_SCHEMES = Object.values(SCHEMES);

/** What goes with `scheme`. */
export function schemeSpec(scheme: SignatureScheme): SchemeSpec {
  return SCHEMES[scheme];
}

/** The scheme that an AlgorithmIdentifier (whole, DER) names; null for any that Kedge does not read. */
export function schemeOfIdentifier(algorithmIdentifier: Uint8Array): SignatureScheme | null {
  for (const spec of ALL_SCHEMES) {
    if (equalBytes(spec.algorithmIdentifier, algorithmIdentifier)) return spec.scheme;
    const alternative = spec.alternativeIdentifier;
    if (alternative !== null && equalBytes(alternative, algorithmIdentifier)) return spec.scheme;
  }
  return null;
}

const SCHEME_OF: Readonly<Record<SignatureAlgorithm, SignatureScheme>> = {
  'ecdsa-p256-sha256': 'ecdsa-sha256',
  'ecdsa-p384-sha384': 'ecdsa-sha384',
  ed25519: 'ed25519',
  'rsa-pkcs1-sha256': 'rsa-pkcs1-sha256',
  'rsa-pkcs1-sha384': 'rsa-pkcs1-sha384',
  'rsa-pkcs1-sha512': 'rsa-pkcs1-sha512',
};

/** The scheme that signatures of `algorithm` carry. */
export function schemeOf(algorithm: SignatureAlgorithm): SignatureScheme {
  return SCHEME_OF[algorithm];
}

const ALGORITHM_OF: Readonly<Record<SvidKeyType, SignatureAlgorithm>> = {
  'ec-p256': 'ecdsa-p256-sha256',
  'ec-p384': 'ecdsa-p384-sha384',
  ed25519: 'ed25519',
  'rsa-2048': 'rsa-pkcs1-sha256',
  'rsa-3072': 'rsa-pkcs1-sha256',
  'rsa-4096': 'rsa-pkcs1-sha256',
};

/** The algorithm that Kedge signs with for a key of `keyType`. */
export function algorithmOfKeyType(keyType: SvidKeyType): SignatureAlgorithm {
  return ALGORITHM_OF[keyType];
}

/**
 * The signature over `data` as it goes into a certificate or CSR (ECDSA: DER Ecdsa-Sig-Value). The caller has
 * matched key and algorithm.
 */
export function signWith(algorithm: SignatureAlgorithm, privateKey: KeyObject, data: Uint8Array): Uint8Array {
  return sign(SCHEMES[schemeOf(algorithm)].digest, data, privateKey);
}
