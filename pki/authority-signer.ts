import type { SignatureAlgorithm } from './algorithms.ts';

/**
 * What the profiles need of an authority's private key: nothing but that it signs.
 *
 * The key manager's `Signer` is one; so is a test's key pair. The private key itself never comes into `pki`, so
 * that it may live in an HSM.
 */
export interface AuthoritySigner {
  readonly algorithm: SignatureAlgorithm;
  /** SubjectPublicKeyInfo, DER. */
  readonly spki: Uint8Array;
  /** The signature over `data` as it goes into a certificate (ECDSA: DER Ecdsa-Sig-Value, RFC 3279 section 2.2.3). */
  sign(data: Uint8Array): Uint8Array | Promise<Uint8Array>;
}
