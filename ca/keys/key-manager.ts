import type { KeyObject } from 'node:crypto';
import type { SignatureAlgorithm } from '../../pki/algorithms.ts';

/** The key algorithms that Kedge makes for its own authorities. */
export type AuthorityKeyAlgorithm = 'ec-p256' | 'ec-p384' | 'rsa-3072';

/** Which key managers there are: sealed in the trust state, or in a PKCS#11 token. */
export const KEY_MANAGER_KINDS = ['store', 'pkcs11'] as const;
export type KeyManagerKind = (typeof KEY_MANAGER_KINDS)[number];

/**
 * Names one private key: plain data that goes into the trust state. It never holds the key in the clear.
 */
export interface KeyHandle {
  /** Chosen by the caller of `generate`; unique in the trust domain. */
  readonly id: string;
  readonly manager: KeyManagerKind;
  readonly algorithm: AuthorityKeyAlgorithm;
  /** SubjectPublicKeyInfo, DER. */
  readonly spki: Uint8Array;
  /** `store`: the key itself, sealed. `pkcs11`: where it is in the token. Opaque to everyone else. */
  readonly reference: Uint8Array;
}

/** Signs with one private key. */
export interface Signer {
  readonly algorithm: SignatureAlgorithm;
  /** SubjectPublicKeyInfo, DER. */
  readonly spki: Uint8Array;
  /**
   * The signature over `data` as it goes into a certificate (ECDSA: DER Ecdsa-Sig-Value). A key in this process
   * answers at once, one in an HSM later; the hot path avoids a turn of the event loop where it can.
   */
  sign(data: Uint8Array): Uint8Array | Promise<Uint8Array>;
}

/**
 * Where our own private keys live.
 *
 * Durability: `generate` resolves only when the key can be found again through its handle, on any replica that
 * shares the trust state. A key whose handle never reaches the trust state is lost (`store`) or an orphan that
 * `destroy` may take (`pkcs11`).
 *
 * Errors: `key_algorithm_unsupported`, `key_sealed`, `key_not_found`. Concurrency: any.
 */
export interface KeyManager {
  generate(id: string, algorithm: AuthorityKeyAlgorithm): Promise<KeyHandle>;
  signer(handle: KeyHandle): Promise<Signer>;
  /** Makes the key unusable and forgets what is in memory of it. Harmless when repeated. */
  destroy(handle: KeyHandle): Promise<void>;
}

/** A key manager that also takes keys that others made. */
export interface KeyImporter {
  /**
   * Keeps a copy of a private key, as one that `generate` made: the same durability, and `destroy` takes it. Throws
   * `key_algorithm_unsupported` for a key of another algorithm than the manager makes.
   */
  importKey(id: string, privateKey: KeyObject): Promise<KeyHandle>;
}
