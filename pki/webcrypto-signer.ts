import type { webcrypto } from 'node:crypto';
import type { SignatureAlgorithm } from './algorithms.ts';
import type { AuthoritySigner } from './authority-signer.ts';
import { KedgeError } from './kedge-error.ts';
import { newWebCrypto, x509 } from './x509-library.ts';

/** A crypto for the generators of `@peculiar/x509`, and the only key pair that it signs with. */
export interface SignerCrypto {
  readonly crypto: webcrypto.Crypto;
  /** The private key is a name for the signer's key, without key material. */
  readonly keys: webcrypto.CryptoKeyPair;
  /** What the generators want as `signingAlgorithm`. */
  readonly signingAlgorithm: { readonly name: string; readonly hash: string };
}

interface WebAlgorithm {
  readonly name: 'ECDSA' | 'RSASSA-PKCS1-v1_5';
  readonly hash: 'SHA-256' | 'SHA-384' | 'SHA-512';
  readonly namedCurve?: 'P-256' | 'P-384';
}

const WEB_ALGORITHMS: Readonly<Record<SignatureAlgorithm, WebAlgorithm | null>> = {
  'ecdsa-p256-sha256': { name: 'ECDSA', hash: 'SHA-256', namedCurve: 'P-256' },
  'ecdsa-p384-sha384': { name: 'ECDSA', hash: 'SHA-384', namedCurve: 'P-384' },
  'rsa-pkcs1-sha256': { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' },
  'rsa-pkcs1-sha384': { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-384' },
  'rsa-pkcs1-sha512': { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-512' },
  // The key managers make no Ed25519 authorities: OpenSSL-type proxies refuse them in TLS by default.
  ed25519: null,
};

/**
 * Lets `@peculiar/x509` sign with a key that it never sees: `subtle.sign` goes to the signer, everything else to
 * `@peculiar/webcrypto`.
 *
 * Throws `key_algorithm_unsupported` for a signer that no authority may have.
 */
export async function signerCrypto(signer: AuthoritySigner): Promise<SignerCrypto> {
  const algorithm = WEB_ALGORITHMS[signer.algorithm];
  if (algorithm === null) {
    throw new KedgeError('key_algorithm_unsupported', `an authority does not sign with ${signer.algorithm}`, {
      hint: 'use a key of ec-p256, ec-p384 or rsa-3072',
    });
  }
  const base = newWebCrypto();
  const publicKey = await base.subtle.importKey('spki', signer.spki, algorithm, true, ['verify']);
  const privateKey: webcrypto.CryptoKey = Object.freeze({
    type: 'private' as const,
    algorithm: publicKey.algorithm,
    extractable: false,
    usages: ['sign' as const],
  });
  const sign = async (_algorithm: unknown, key: unknown, data: ArrayBuffer): Promise<ArrayBuffer> => {
    if (key !== privateKey) throw new TypeError('only the key of the signer signs here');
    const signature = Uint8Array.from(await signer.sign(new Uint8Array(data))).buffer;
    return webSignature(algorithm, signature);
  };
  const subtle = new Proxy(base.subtle, {
    get: (target, name) => {
      if (name === 'sign') return sign;
      const member: unknown = Reflect.get(target, name, target);
      return typeof member === 'function' ? (member.bind(target) as unknown) : member;
    },
  });
  return {
    crypto: { subtle, getRandomValues: base.getRandomValues.bind(base) } as webcrypto.Crypto,
    keys: { privateKey, publicKey },
    signingAlgorithm: { name: algorithm.name, hash: algorithm.hash },
  };
}

/** WebCrypto wants ECDSA signatures as r and s side by side, certificates have them as DER (RFC 3279 section 2.2.3). */
function webSignature(algorithm: WebAlgorithm, signature: ArrayBuffer): ArrayBuffer {
  return new x509.AsnEcSignatureFormatter().toWebSignature(algorithm, signature) ?? signature;
}
