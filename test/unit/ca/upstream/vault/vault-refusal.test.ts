import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { refusalOf } from '../../../../../ca/upstream/vault/vault-refusal.ts';

const call = { path: 'pki/issuer/default/json', capability: 'read', mountKind: 'PKI mount' } as const;
const answer = {
  status: 400,
  contentType: 'application/json',
  retryAfter: undefined,
  dateMs: null,
  body: Buffer.alloc(0),
};

describe('what a refusal of Vault says', () => {
  it('is what Vault lists, on one line', () => {
    const { message } = refusalOf(call, answer, {
      errors: ['1 error occurred:\n\t* permission denied\n\n', 'no'],
    });
    assert.match(message, /"permission denied ; no"$/);
  });

  for (const [what, filler] of [
    ['spaces', ' '],
    ['digits', '1'],
  ] as const) {
    it(`costs next to nothing where something else in its place lists ${what} without end`, () => {
      const errors = [`x${filler.repeat(60_000)}y`];
      const before = process.cpuUsage();
      const { code, message } = refusalOf(call, answer, { errors });
      assert.ok(process.cpuUsage(before).user < 1_000_000, 'the square of it would be seconds');
      assert.deepEqual([code, message.length < 400], ['vault_refused', true]);
    });
  }
});
