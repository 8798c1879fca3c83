import { createHash, createPublicKey, type JsonWebKey } from 'node:crypto';
import { schemeOf, schemeSpec, type SignatureAlgorithm } from '../../../pki/algorithms.ts';
import { derSequence, derUnsignedInteger } from '../../../pki/der-writer.ts';
import { KedgeError } from '../../../pki/kedge-error.ts';
import { keyTypeOfSpki } from '../../../pki/public-key.ts';
import type { AuthorityKeyAlgorithm } from '../key-manager.ts';
import type { TokenMechanism, TokenPublicKey } from './token-protocol.ts';

/** Head of a DigestInfo, up to the digest (RFC 8017 section 9.2 note 1). */
const DIGEST_INFO: Readonly<Record<'sha256' | 'sha384' | 'sha512', Uint8Array>> = {
  sha256: Buffer.from('3031300d060960864801650304020105000420', 'hex'),
  sha384: Buffer.from('3041300d060960864801650304020205000430', 'hex'),
  sha512: Buffer.from('3051300d060960864801650304020305000440', 'hex'),
};

/** What a token is given to sign of `data`: its digest (ECDSA), or that in a DigestInfo (RSA). */
export function toBeSigned(algorithm: SignatureAlgorithm, data: Uint8Array): Uint8Array {
  const { digest, family } = schemeSpec(schemeOf(algorithm));
  if (digest === null) throw new TypeError(`no token signs with ${algorithm}`);
  const value = createHash(digest).update(data).digest();
  return family === 'ec'
    ? Uint8Array.from(value)
    : Uint8Array.from(Buffer.concat([DIGEST_INFO[digest], value]));
}

/**
 * A token's signature as it goes into a certificate: ECDSA's r and s side by side become an Ecdsa-Sig-Value
 * (RFC 3279 section 2.2.3). Throws `hsm_unavailable` for one of a length that cannot be.
 */
export function toCertificateSignature(mechanism: TokenMechanism, signature: Uint8Array): Uint8Array {
  if (mechanism === 'rsa') return signature;
  const half = signature.length / 2;
  if (!Number.isInteger(half) || half === 0 || half > 66) {
    throw new KedgeError('hsm_unavailable', `the token gave a signature of ${signature.length} bytes`, {
      hint: 'look at the HSM: it breaks the standard',
    });
  }
  return derSequence(
    derUnsignedInteger(signature.subarray(0, half)),
    derUnsignedInteger(signature.subarray(half)),
  );
}

/** SubjectPublicKeyInfo (DER) of a key that a token has made. Throws `hsm_unavailable` for another kind of key. */
export function spkiOfToken(key: TokenPublicKey, algorithm: AuthorityKeyAlgorithm): Uint8Array {
  try {
    const spki = new Uint8Array(
      createPublicKey({ key: jwkOf(key, algorithm), format: 'jwk' }).export({ format: 'der', type: 'spki' }),
    );
    if (keyTypeOfSpki(spki, 'hsm_unavailable') === algorithm) return spki;
  } catch (cause) {
    throw odd(algorithm, cause);
  }
  throw odd(algorithm);
}

function jwkOf(key: TokenPublicKey, algorithm: AuthorityKeyAlgorithm): JsonWebKey {
  const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64url');
  if ('modulus' in key) return { kty: 'RSA', n: text(key.modulus), e: text(key.exponent) };
  const size = algorithm === 'ec-p384' ? 48 : 32;
  // PKCS #11 wants the point in an OCTET STRING; some tokens leave that out.
  const { ecPoint } = key;
  const point = ecPoint.length === 1 + 2 * size ? ecPoint : ecPoint.subarray(-(1 + 2 * size));
  return {
    kty: 'EC',
    crv: algorithm === 'ec-p384' ? 'P-384' : 'P-256',
    x: text(point.subarray(1, 1 + size)),
    y: text(point.subarray(1 + size)),
  };
}

function odd(algorithm: AuthorityKeyAlgorithm, cause?: unknown): KedgeError {
  return new KedgeError('hsm_unavailable', `the token gave a public key that is not ${algorithm}`, {
    hint: 'look at the HSM: it breaks the standard',
    cause,
  });
}
