import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { identityDocument } from '../../../agent/identity-document.ts';
import { INITIAL_STATE, type AgentState } from '../../../agent/state.ts';
import type { IdentitySnapshot } from '../../../agent/snapshot.ts';
import { readPodIdentity } from '../../../cli/pod-identity.ts';
import { expectCode } from '../../support/expect-code.ts';
import { EXAMPLE_ORG, SnapshotFactory } from '../../support/snapshots.ts';

describe('the identity of a pod', () => {
  let snapshot: IdentitySnapshot;
  let serving: AgentState;
  before(async () => {
    snapshot = await (await SnapshotFactory.make(Date.UTC(2026, 0, 1))).snapshot(7);
    const expiry = { wallMs: snapshot.svid.notAfterMs, monotonicMs: 1 };
    serving = {
      ...INITIAL_STATE,
      phase: 'serving',
      bundle: snapshot.bundle,
      snapshot,
      expiry,
      renewal: { at: expiry, reason: 'lifetime', answered: null },
    };
  });

  it('is read back as the agent holds it', () => {
    const identity = readPodIdentity(JSON.parse(identityDocument(serving, EXAMPLE_ORG)));
    assert.equal(identity.trustDomain.name, 'example.org');
    assert.deepEqual(
      identity.chain,
      snapshot.svid.chain.map((der) => new Uint8Array(der)),
    );
    assert.equal(identity.bundle?.sequence, 7n);
    assert.deepEqual(
      identity.bundle?.x509Authorities,
      snapshot.bundle.x509Authorities.map((der) => new Uint8Array(der)),
    );
  });

  it('holds no key', () => {
    const text = identityDocument(serving, EXAMPLE_ORG);
    const key = Buffer.from(snapshot.svid.privateKey.expose()).toString('base64');
    assert.ok(!text.includes(key.slice(0, 40)));
    assert.deepEqual(Object.keys(JSON.parse(text) as object), ['trustDomain', 'phase', 'svid', 'bundle']);
  });

  it('is read of an agent that has none yet', () => {
    const identity = readPodIdentity(JSON.parse(identityDocument(INITIAL_STATE, EXAMPLE_ORG)));
    assert.deepEqual([identity.phase, identity.chain, identity.bundle], ['starting', null, null]);
  });

  const good = { trustDomain: 'example.org', phase: 'serving', svid: null, bundle: null };
  const refused: readonly { name: string; answer: unknown }[] = [
    { name: 'a text', answer: 'there are /metrics' },
    { name: 'nothing', answer: null },
    { name: 'a phase that there is not', answer: { ...good, phase: 'fine' } },
    { name: 'a chain without a certificate', answer: { ...good, svid: { chain: [] } } },
    { name: 'a chain that is not base64', answer: { ...good, svid: { chain: ['<html>'] } } },
    { name: 'a chain of a thousand', answer: { ...good, svid: { chain: Array(1_000).fill('AAAA') } } },
    { name: 'a huge certificate', answer: { ...good, svid: { chain: ['A'.repeat(70_000)] } } },
    { name: 'a sequence below zero', answer: { ...good, bundle: { sequence: '-1', x509Authorities: [] } } },
  ];
  for (const { name, answer } of refused) {
    it(`refuses ${name}`, () => {
      expectCode('agent_answer_invalid', () => readPodIdentity(answer));
    });
  }
});
