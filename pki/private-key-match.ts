import { type KeyObject, createPublicKey } from 'node:crypto';
import { equalBytes } from './bytes.ts';
import type { Certificate } from './certificate.ts';
import { KedgeError } from './kedge-error.ts';

/** Checks that a private key is the one of a certificate. Throws `svid_private_key_mismatch`. */
export function checkPrivateKey(certificate: Certificate, privateKey: KeyObject): void {
  const spki = createPublicKey(privateKey).export({ format: 'der', type: 'spki' });
  if (equalBytes(spki, certificate.spki)) return;
  throw new KedgeError(
    'svid_private_key_mismatch',
    'the private key is not the one of the leaf certificate',
    { hint: 'give the key that was made for this certificate' },
  );
}
