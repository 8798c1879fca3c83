import assert from 'node:assert/strict';
import { format, inspect } from 'node:util';
import { describe, it } from 'node:test';
import { Secret } from '../../../pki/secret.ts';

describe('a secret', () => {
  const secret = new Secret(Buffer.from('hunter2'));
  const ways: readonly (readonly [string, () => string])[] = [
    ['String', () => String(secret)],
    ['toString', () => secret.toString()],
    ['JSON', () => JSON.stringify({ secret })],
    ['inspect', () => inspect({ secret }, { depth: 9, showHidden: true })],
    ['format', () => format('%s %o %j', secret, secret, secret)],
  ];
  for (const [way, print] of ways) {
    it(`prints as [redacted] by ${way}`, () => {
      const text = print();
      assert.match(text, /\[redacted\]/);
      assert.doesNotMatch(text, /hunter2|104, 117/);
      assert.doesNotMatch(text, /68 ?75 ?6e/);
    });
  }

  it('gives its bytes until it is destroyed, and overwrites them then', () => {
    const bytes = Buffer.from('hunter2');
    const secret = new Secret(bytes);
    assert.equal(secret.expose(), bytes);
    secret.destroy();
    secret.destroy();
    assert.deepEqual(bytes, Buffer.alloc(7));
    assert.throws(() => secret.expose(), /destroyed/);
  });
});
