import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseJwkSet } from '../../../../ca/attest/jwk-set.ts';
import { isKedgeError } from '../../../../pki/kedge-error.ts';
import { LIMITS } from '../../../../pki/limits.ts';
import { expectCode } from '../../../support/expect-code.ts';
import { checkProperty } from '../../../support/property.ts';

const jwkOf = (privateKey: Parameters<typeof createPublicKey>[0]): object =>
  createPublicKey(privateKey).export({ format: 'jwk' });
const RSA = jwkOf(generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey);
const SHORT_RSA = jwkOf(generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey);
const P256 = jwkOf(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey);
const P384 = jwkOf(generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey);
const ED = jwkOf(generateKeyPairSync('ed25519').privateKey);

const read = (document: unknown) => parseJwkSet(Buffer.from(JSON.stringify(document)), 'the JWK Set');

describe('parseJwkSet', () => {
  it('reads the keys of every kind that Kedge verifies with, with the algorithm that fits', () => {
    const keys = read({
      keys: [
        { ...RSA, kid: 'a', alg: 'RS256', use: 'sig' },
        { ...RSA, kid: 'b' },
        { ...RSA, kid: 'c', alg: 'PS384' },
        { ...P256, kid: 'd', key_ops: ['verify'] },
        { ...P384, kid: 'e' },
        { ...ED, kid: 'f' },
      ],
      more: 'is passed over',
    });
    assert.deepEqual(
      [...keys].map(([kid, key]) => `${kid} ${key.algorithm}`),
      ['a RS256', 'b RS256', 'c PS384', 'd ES256', 'e ES384', 'f EdDSA'],
    );
  });

  it('passes over what it has no use for', () => {
    const keys = read({
      keys: [
        { ...RSA, kid: 'good' },
        { ...RSA },
        { ...RSA, kid: '' },
        { ...RSA, kid: 'k'.repeat(LIMITS.tokenStringChars + 1) },
        { ...RSA, kid: 'encryption', use: 'enc' },
        { ...RSA, kid: 'signing', key_ops: ['sign'] },
        { ...SHORT_RSA, kid: 'short' },
        { ...RSA, kid: 'hmac', alg: 'HS256' },
        { ...RSA, kid: 'none', alg: 'none' },
        { ...P256, kid: 'wrong curve', alg: 'ES384' },
        { ...P256, kid: 'off the curve', x: 'AAAA' },
        { kty: 'oct', kid: 'oct', k: 'AAAA', alg: 'HS256' },
        { kty: 'RSA', kid: 'no modulus', e: 'AQAB' },
        'text',
        null,
        7,
      ],
    });
    assert.deepEqual([...keys.keys()], ['good']);
  });

  const REFUSED: readonly { readonly name: string; readonly document: unknown; readonly says: RegExp }[] = [
    { name: 'no keys', document: { keys: [] }, says: /no key that Kedge/ },
    { name: 'no list', document: { keys: {} }, says: /no list of keys/ },
    { name: 'no object', document: [], says: /not a JSON object/ },
    {
      name: 'one kid twice',
      document: {
        keys: [
          { ...RSA, kid: 'a' },
          { ...P256, kid: 'a' },
        ],
      },
      says: /two keys with the kid "a"/,
    },
    {
      name: 'too many keys',
      document: { keys: Array.from({ length: LIMITS.issuerKeys + 1 }, (_, i) => ({ ...RSA, kid: `${i}` })) },
      says: /over \d+ keys/,
    },
    {
      name: 'only unusable keys',
      document: { keys: [{ ...SHORT_RSA, kid: 'a' }] },
      says: /no key that Kedge/,
    },
  ];
  for (const { name, document, says } of REFUSED) {
    it(`refuses ${name}`, () => {
      assert.match(expectCode('issuer_keys_invalid', () => read(document)).message, says);
    });
  }

  for (const [name, text] of [
    ['HTML', '<html>'],
    ['half of it', '{"keys":[{"kty":'],
    ['a name twice', '{"keys":[],"keys":[]}'],
    ['more than the limit', ' '.repeat(LIMITS.issuerKeysBytes + 1)],
    ['deep nesting', '['.repeat(100)],
  ] as const) {
    it(`refuses ${name}`, () => {
      expectCode('issuer_keys_invalid', () => parseJwkSet(Buffer.from(text), 'the JWK Set'));
    });
  }

  it('yields keys or a refusal for any bytes, and for any members of a key', () => {
    checkProperty(
      fc.property(
        fc.oneof(
          fc.uint8Array({ maxLength: 200 }),
          fc.json().map((text) => Buffer.from(text)),
        ),
        (bytes) => {
          refusedOr(() => parseJwkSet(bytes, 'x'));
        },
      ),
    );
    const member = fc.constantFrom('kty', 'kid', 'use', 'alg', 'crv', 'x', 'y', 'n', 'e', 'key_ops');
    const value = fc.oneof(
      fc.constantFrom<unknown>('RSA', 'EC', 'OKP', 'P-256', 'AQAB', 'sig', ['verify']),
      fc.jsonValue(),
    );
    checkProperty(
      fc.property(fc.dictionary(member, value), fc.constantFrom(RSA, P256, ED, {}), (changes, base) => {
        refusedOr(() => read({ keys: [{ ...base, kid: 'k', ...changes }] }));
      }),
    );
  });
});

function refusedOr(action: () => unknown): void {
  try {
    action();
  } catch (error) {
    assert.ok(isKedgeError(error, 'issuer_keys_invalid'), String(error));
  }
}
