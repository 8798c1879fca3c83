import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type SealedKeyContext, sealKey, unsealKey } from '../../../../ca/keys/key-sealing.ts';
import { systemRandom } from '../../../../host/random.ts';
import { Secret } from '../../../../pki/secret.ts';
import { expectCode } from '../../../support/expect-code.ts';
import { checkProperty } from '../../../support/property.ts';

const sealingKey = new Secret(randomBytes(32));
const context: SealedKeyContext = { trustDomain: 'example.org', keyId: 'issuer-1', algorithm: 'ec-p256' };
const plaintext = Buffer.from('a private key in the clear, as long as one on P-256 is: 138 bytes or so');

describe('sealing a key', () => {
  it('opens to what was sealed', () => {
    const opens = fc.property(fc.uint8Array({ minLength: 1, maxLength: 4096 }), (bytes) => {
      const sealed = sealKey(bytes, context, sealingKey, systemRandom);
      assert.ok(Buffer.from(unsealKey(sealed, context, sealingKey)).equals(bytes));
    });
    checkProperty(opens);
  });

  it('writes format 1, nonce, ciphertext and tag: a fixed answer for a fixed key and nonce', () => {
    const random = { bytes: (n: number) => new Uint8Array(n).fill(0x42), fraction: () => 0 };
    const key = new Secret(new Uint8Array(32).fill(0x24));
    const sealed = sealKey(Buffer.from('key'), context, key, random);
    assert.equal(Buffer.from(sealed).toString('hex'), GOLDEN);
    assert.equal(Buffer.from(unsealKey(Buffer.from(GOLDEN, 'hex'), context, key)).toString(), 'key');
  });

  it('never seals twice to the same bytes', () => {
    const all = Array.from({ length: 100 }, () =>
      Buffer.from(sealKey(plaintext, context, sealingKey, systemRandom)).toString('hex'),
    );
    assert.equal(new Set(all).size, 100);
  });

  it('refuses a sealed key with any one bit turned', () => {
    const sealed = sealKey(plaintext, context, sealingKey, systemRandom);
    for (let bit = 0; bit < sealed.length * 8; bit += 1) {
      const altered = Uint8Array.from(sealed);
      const at = bit >> 3;
      altered[at] = altered[at]! ^ (1 << (bit & 7));
      expectCode('key_sealed', () => unsealKey(altered, context, sealingKey));
    }
  });

  it('refuses a sealed key that is cut short anywhere, or longer', () => {
    const sealed = sealKey(plaintext, context, sealingKey, systemRandom);
    for (let length = 0; length < sealed.length; length += 1) {
      expectCode('key_sealed', () => unsealKey(sealed.subarray(0, length), context, sealingKey));
    }
    expectCode('key_sealed', () => unsealKey(Buffer.concat([sealed, Buffer.of(0)]), context, sealingKey));
  });

  it('is bound to every part of its context, and to where each part ends', () => {
    const sealed = sealKey(plaintext, context, sealingKey, systemRandom);
    const others: readonly SealedKeyContext[] = [
      { ...context, trustDomain: 'example.com' },
      { ...context, keyId: 'issuer-2' },
      { ...context, algorithm: 'rsa-3072' },
      { ...context, trustDomain: 'example.orgi', keyId: 'ssuer-1' },
      { ...context, trustDomain: 'example.or', keyId: 'gissuer-1' },
    ];
    for (const other of others) expectCode('key_sealed', () => unsealKey(sealed, other, sealingKey));
  });
});

/** Made with WebCrypto's AES-GCM: format, nonce, ciphertext, tag. */
const GOLDEN = '014242424242424242424242421a477c18098a4b759a56da1f1e5b87a96c96e4';
