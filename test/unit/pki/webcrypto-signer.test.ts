import assert from 'node:assert/strict';
import { verify } from 'node:crypto';
import { describe, it } from 'node:test';
import type { AuthoritySigner } from '../../../pki/authority-signer.ts';
import { isKedgeError } from '../../../pki/kedge-error.ts';
import { signerCrypto } from '../../../pki/webcrypto-signer.ts';
import { newSigner } from '../../support/certificates.ts';

const DATA = new TextEncoder().encode('to be signed');

describe('a crypto that signs through a signer', () => {
  for (const [kind, namedCurve, hash] of [
    ['ec-p256', 'P-256', 'sha256'],
    ['ec-p384', 'P-384', 'sha384'],
  ] as const) {
    it(`gives r and s side by side for ${kind}`, async () => {
      const signer = newSigner(kind);
      const { crypto, keys, signingAlgorithm } = await signerCrypto(signer);
      // Often enough that r and s are short now and then.
      for (let i = 0; i < 300; i += 1) {
        const signature = await crypto.subtle.sign(signingAlgorithm, keys.privateKey, DATA);
        const key = { key: signer.privateKey, dsaEncoding: 'ieee-p1363' } as const;
        assert.equal(signature.byteLength, namedCurve === 'P-256' ? 64 : 96);
        assert.ok(verify(hash, DATA, key, new Uint8Array(signature)));
      }
    });
  }

  it('gives the signature as it is for RSA', async () => {
    const signer = newSigner('rsa-3072');
    const { crypto, keys, signingAlgorithm } = await signerCrypto(signer);
    const signature = await crypto.subtle.sign(signingAlgorithm, keys.privateKey, DATA);
    assert.deepEqual(new Uint8Array(signature), new Uint8Array(signer.sign(DATA)));
    assert.ok(await crypto.subtle.verify(signingAlgorithm, keys.publicKey, signature, DATA));
  });

  it('waits for a signer that answers later', async () => {
    const signer = newSigner();
    const later: AuthoritySigner = { ...signer, sign: (data) => Promise.resolve(signer.sign(data)) };
    const { crypto, keys, signingAlgorithm } = await signerCrypto(later);
    assert.equal((await crypto.subtle.sign(signingAlgorithm, keys.privateKey, DATA)).byteLength, 64);
  });

  it('holds no key material, and signs with no other key', async () => {
    const { crypto, keys, signingAlgorithm } = await signerCrypto(newSigner());
    const other = await signerCrypto(newSigner());
    assert.deepEqual(Object.keys(keys.privateKey).toSorted(), ['algorithm', 'extractable', 'type', 'usages']);
    await assert.rejects(crypto.subtle.exportKey('pkcs8', keys.privateKey));
    await assert.rejects(
      async () => crypto.subtle.sign(signingAlgorithm, other.keys.privateKey, DATA),
      /only the key of the signer signs here/,
    );
  });

  it('leaves everything else to @peculiar/webcrypto', async () => {
    const { crypto, keys } = await signerCrypto(newSigner());
    assert.equal((await crypto.subtle.digest('SHA-256', DATA)).byteLength, 32);
    assert.ok((await crypto.subtle.exportKey('spki', keys.publicKey)).byteLength > 64);
    assert.equal(crypto.getRandomValues(new Uint8Array(8)).length, 8);
    assert.equal(Reflect.get(crypto.subtle, 'no such thing'), undefined);
  });

  it('is not given for an algorithm that no authority signs with', async () => {
    await assert.rejects(signerCrypto(newSigner('ed25519')), (error) =>
      isKedgeError(error, 'key_algorithm_unsupported'),
    );
  });
});
