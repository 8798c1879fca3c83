import assert from 'node:assert/strict';
import { generateKeyPairSync, privateEncrypt, verify } from 'node:crypto';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import {
  spkiOfToken,
  toBeSigned,
  toCertificateSignature,
} from '../../../../../ca/keys/pkcs11/token-formats.ts';
import type { AuthorityKeyAlgorithm } from '../../../../../ca/keys/key-manager.ts';
import { DerReader } from '../../../../../pki/der-reader.ts';
import { TAG } from '../../../../../pki/der-tag.ts';
import { newPrivateKey, spkiOf } from '../../../../support/certificates.ts';
import { expectCode } from '../../../../support/expect-code.ts';

describe('what a token signs and gives', () => {
  it('is a DigestInfo for RSA that OpenSSL takes', () => {
    const data = Buffer.from('data');
    for (const [algorithm, digest] of [
      ['rsa-pkcs1-sha256', 'sha256'],
      ['rsa-pkcs1-sha384', 'sha384'],
      ['rsa-pkcs1-sha512', 'sha512'],
    ] as const) {
      const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
      const signature = privateEncrypt(privateKey, toBeSigned(algorithm, data));
      assert.ok(verify(digest, data, publicKey, toCertificateSignature('rsa', signature)), algorithm);
    }
  });

  it('becomes an Ecdsa-Sig-Value whose integers are positive and the shortest, whatever r and s are', () => {
    const half = fc.uint8Array({ minLength: 32, maxLength: 32 }).filter((bytes) => bytes.some(Boolean));
    fc.assert(
      fc.property(half, half, (r, s) => {
        const der = toCertificateSignature('ecdsa', Buffer.concat([r, s]));
        const inside = DerReader.of(der, { code: 'der_invalid', what: 'the signature' }).enter(TAG.sequence);
        const number = (bytes: Uint8Array): bigint => BigInt(`0x${Buffer.from(bytes).toString('hex')}`);
        assert.deepEqual([number(inside.integer()), number(inside.integer())], [number(r), number(s)]);
        inside.end();
      }),
    );
  });

  it('is refused when it cannot be a signature', () => {
    for (const length of [0, 1, 63, 134]) {
      expectCode('hsm_unavailable', () => toCertificateSignature('ecdsa', new Uint8Array(length)));
    }
  });

  it('is a public key with or without the OCTET STRING, and none of another algorithm', () => {
    for (const algorithm of ['ec-p256', 'ec-p384', 'rsa-3072'] satisfies AuthorityKeyAlgorithm[]) {
      const key = newPrivateKey(algorithm);
      const jwk = key.export({ format: 'jwk' });
      const part = (text: string | undefined): Buffer => Buffer.from(text ?? '', 'base64url');
      const point = Buffer.concat([Buffer.of(4), part(jwk.x), part(jwk.y)]);
      const given =
        algorithm === 'rsa-3072'
          ? [{ modulus: part(jwk.n), exponent: part(jwk.e) }]
          : [{ ecPoint: point }, { ecPoint: Buffer.concat([Buffer.of(4, point.length), point]) }];
      for (const publicKey of given) {
        assert.deepEqual(spkiOfToken(publicKey, algorithm), spkiOf(key));
        const other = algorithm === 'ec-p256' ? 'ec-p384' : 'ec-p256';
        expectCode('hsm_unavailable', () => spkiOfToken(publicKey, other));
      }
    }
  });
});
