import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { attempt } from '../../../pki/attempt.ts';
import { KedgeError } from '../../../pki/kedge-error.ts';

describe('attempt', () => {
  it('gives the value, or the refusal', () => {
    const refusal = new KedgeError('internal', 'no');
    const refuse = (): never => {
      throw refusal;
    };
    assert.deepEqual(
      attempt(() => 1),
      { ok: true, value: 1 },
    );
    assert.deepEqual(attempt(refuse), { ok: false, refusal });
  });

  it('lets a mistake through', () => {
    assert.throws(
      () =>
        attempt(() => {
          throw new TypeError('a mistake');
        }),
      TypeError,
    );
  });
});
