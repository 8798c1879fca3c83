import { createCipheriv, createDecipheriv, type DecipherGCM } from 'node:crypto';
import type { Random } from '../../host/random.ts';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import type { Secret } from '../../pki/secret.ts';
import type { AuthorityKeyAlgorithm } from './key-manager.ts';

/** What a sealed key is bound to: it opens only in the place that it was sealed for. */
export interface SealedKeyContext {
  /** Trust domain name, no scheme. */
  readonly trustDomain: string;
  readonly keyId: string;
  readonly algorithm: AuthorityKeyAlgorithm;
}

/** Format of a sealed key: this byte, the nonce, the ciphertext, the tag. */
const FORMAT = 1;
/** NIST SP 800-38D section 8.2.2: random nonces of 96 bits; one sealing key makes a few dozen in its life. */
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const OVERHEAD_BYTES = 1 + NONCE_BYTES + TAG_BYTES;
const CIPHER = 'aes-256-gcm';

/** Seals `plaintext` (a private key) with AES-256-GCM. The caller still owns, and overwrites, the plaintext. */
export function sealKey(
  plaintext: Uint8Array,
  context: SealedKeyContext,
  sealingKey: Secret,
  random: Random,
): Uint8Array {
  const nonce = random.bytes(NONCE_BYTES);
  const cipher = createCipheriv(CIPHER, sealingKey.expose(), nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(associatedData(context));
  const ciphertext = [cipher.update(plaintext), cipher.final()];
  return Buffer.concat([Buffer.of(FORMAT), nonce, ...ciphertext, cipher.getAuthTag()]);
}

/**
 * Opens what {@link sealKey} made. The caller owns the plaintext and overwrites it after use. Throws `key_sealed`:
 * another sealing key, another context, altered or of an unknown format.
 */
export function unsealKey(sealed: Uint8Array, context: SealedKeyContext, sealingKey: Secret): Uint8Array {
  if (sealed.length <= OVERHEAD_BYTES || sealed[0] !== FORMAT) {
    throw new KedgeError(
      'key_sealed',
      `the sealed key ${quote(context.keyId)} is not of a format that Kedge knows`,
      {
        hint: 'it may be of a newer Kedge, or the trust state was altered: restore it from a backup',
      },
    );
  }
  const nonce = sealed.subarray(1, 1 + NONCE_BYTES);
  const decipher = createDecipheriv(CIPHER, sealingKey.expose(), nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(associatedData(context));
  decipher.setAuthTag(sealed.subarray(sealed.length - TAG_BYTES));
  const plaintext = decipher.update(sealed.subarray(1 + NONCE_BYTES, sealed.length - TAG_BYTES));
  if (isAuthentic(decipher)) return plaintext;
  plaintext.fill(0);
  throw new KedgeError('key_sealed', `the CA key ${quote(context.keyId)} cannot be unsealed`, {
    hint: 'use the sealing key and the trust domain that it was made with; if both are right, the trust state was altered',
  });
}

/** GCM says at the end whether any of it was true; nothing is released before. */
function isAuthentic(decipher: DecipherGCM): boolean {
  try {
    decipher.final();
    return true;
  } catch {
    return false;
  }
}

/** Each field behind its length, so that no two contexts give the same bytes. */
function associatedData({ trustDomain, keyId, algorithm }: SealedKeyContext): Uint8Array {
  const fields = ['kedge sealed key', String(FORMAT), trustDomain, keyId, algorithm].map((field) => {
    const bytes = Buffer.from(field);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    return Buffer.concat([length, bytes]);
  });
  return Buffer.concat(fields);
}
