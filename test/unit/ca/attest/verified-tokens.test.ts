import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { describe, it } from 'node:test';
import { JwsKey } from '../../../../ca/attest/jws-algorithms.ts';
import { type VerifiedToken, VerifiedTokens } from '../../../../ca/attest/verified-tokens.ts';

const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });

function verified(podUid: string): VerifiedToken {
  return {
    key: JwsKey.of('kid', 'RS256', publicKey),
    claims: { audiences: ['kedge'], expiresAtMs: 1, notBeforeMs: undefined, issuedAtMs: undefined },
    instance: {
      cluster: 'local',
      namespace: 'ns',
      serviceAccount: 'sa',
      podName: 'pod',
      podUid,
      nodeName: undefined,
      tokenExpiresAtMs: 1,
    },
  };
}

describe('the memory of verified tokens', () => {
  it('gives what it was given, until it is told to forget it', () => {
    const tokens = new VerifiedTokens();
    const digest = VerifiedTokens.digest('a.b.c');
    assert.equal(tokens.get(digest), undefined);
    const one = verified('1');
    tokens.put(digest, one);
    assert.equal(tokens.get(digest), one);
    assert.equal(tokens.get(VerifiedTokens.digest('a.b.d')), undefined);
    tokens.forget(digest);
    assert.equal(tokens.get(digest), undefined);
  });

  it('holds no more than its bound, and lets go of the one unused for longest', () => {
    const tokens = new VerifiedTokens(2);
    for (const name of ['a', 'b']) tokens.put(name, verified(name));
    tokens.get('a');
    tokens.put('c', verified('c'));
    assert.equal(tokens.size, 2);
    assert.equal(tokens.get('b'), undefined);
    assert.equal(tokens.get('a')?.instance.podUid, 'a');
    assert.equal(tokens.get('c')?.instance.podUid, 'c');
  });

  it('keeps one entry for a token that is put in again, whatever its bound', () => {
    const tokens = new VerifiedTokens(2);
    for (const name of ['a', 'b', 'b', 'b']) tokens.put(name, verified(name));
    assert.equal(tokens.size, 2);
    assert.notEqual(tokens.get('a'), undefined);
  });
});
