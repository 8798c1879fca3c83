/** A rotation of the trust anchor, carried out by engines with real keys and certificates on a real store, that fails at each of its swaps. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { beginRotation } from '../../../../ca/authority/rotation-transitions.ts';
import type { TrustState } from '../../../../ca/authority/trust-state.ts';
import { keysOf } from '../../../../ca/authority/trust-state-rules.ts';
import { never, type Replica, TestTrustDomain, until } from '../../../support/authority-replica.ts';
import { coverageOfAll } from '../../../support/coverage.ts';
import { SWAP_FAULTS } from '../../../support/faulty-trust-store.ts';

/** What each swap after the one that begins it stores. */
const SWAPS = ['prepare', 'activate', 'issuer', 'sign', 'remove', 'end', 'first key', 'second key'] as const;

const plan = { kind: 'planned', upstream: 'self', deadlineMs: null } as const;

const begin = (domain: TestTrustDomain) => (state: TrustState) =>
  state.rotation === null && state.pastRotations.length === 0
    ? beginRotation(state, plan, { by: 'alice', reason: 'test', atMs: domain.clock.now() })
    : state;

async function replicaOf(domain: TestTrustDomain): Promise<Replica> {
  const replica = domain.replica();
  replica.coverage = coverageOfAll();
  await domain.start(replica);
  return replica;
}

const isOver = ({ engine }: Replica): boolean => {
  const { state } = engine.current();
  return state.rotation === null && state.pastRotations.length === 1 && state.discardedKeys.length === 0;
};

/** One anchor, another than before; of all the keys that were ever made, only those in use are left. */
async function assertRotated(
  domain: TestTrustDomain,
  old: string,
  ...replicas: readonly Replica[]
): Promise<void> {
  const state = await domain.stored();
  assert.deepEqual(
    [state.anchors.map(({ phase }) => phase), state.issuers.map(({ phase }) => phase)],
    [['active'], ['active']],
  );
  assert.notEqual(state.anchors[0]?.id, old);
  assert.equal(state.pastRotations[0]?.outcome, 'completed');
  const kept = new Set(keysOf(state).map(({ id }) => id));
  for (const { keys } of replicas) {
    for (const id of keys.destroyed) assert.ok(!kept.has(id), `${id} is in use, and was destroyed`);
  }
  const [last] = replicas.slice(-1);
  await last?.engine.signingIssuer()?.signer.sign(Buffer.from('x'));
}

describe('a rotation', () => {
  it('is carried out to its end by an engine, and leaves no key of the old anchor', async (t) => {
    const domain = new TestTrustDomain(t);
    const replica = await replicaOf(domain);
    const old = await domain.stored();
    const swaps = replica.store.swaps;
    await replica.engine.change(begin(domain), never);
    await domain.attend(
      replica,
      until(() => isOver(replica)),
    );
    await assertRotated(domain, old.anchors[0]?.id ?? '', replica);
    assert.equal(replica.store.swaps - swaps, 1 + SWAPS.length);
    for (const { id } of keysOf(old)) assert.ok(replica.keys.destroyed.has(id), id);
    assert.deepEqual(replica.log.events.filter((event) => event.startsWith('anchor.')).slice(-4), [
      'anchor.prepared',
      'anchor.retired',
      'anchor.activated',
      'anchor.removed',
    ]);
  });

  for (const fault of SWAP_FAULTS) {
    for (const [index, name] of SWAPS.entries()) {
      it(`goes on after a swap whose outcome is unknown: ${name}, ${fault}`, async (t) => {
        const domain = new TestTrustDomain(t);
        const replica = await replicaOf(domain);
        const old = (await domain.stored()).anchors[0]?.id ?? '';
        replica.store.failSwap(replica.store.swaps + 2 + index, fault);
        await replica.engine.change(begin(domain), never);
        await domain.attend(
          replica,
          until(() => isOver(replica)),
        );
        assert.equal(replica.log.of('authority_engine.failed').length, 1);
        await assertRotated(domain, old, replica);
      });

      it(`is taken to its end by another replica when that swap is the last thing that one does: ${name}, ${fault}`, async (t) => {
        const domain = new TestTrustDomain(t);
        const crashed = await replicaOf(domain);
        const old = (await domain.stored()).anchors[0]?.id ?? '';
        crashed.store.failSwap(crashed.store.swaps + 2 + index, fault);
        await crashed.engine.change(begin(domain), never);
        await until(() => crashed.log.of('authority_engine.failed').length === 1);
        await crashed.engine.stop();
        const next = await replicaOf(domain);
        await domain.attend(
          next,
          until(() => isOver(next)),
        );
        await assertRotated(domain, old, crashed, next);
      });
    }
  }

  it('is carried out once by two replicas that race for each of its steps', async (t) => {
    const domain = new TestTrustDomain(t);
    const [a, b] = [await replicaOf(domain), await replicaOf(domain)];
    const old = (await domain.stored()).anchors[0]?.id ?? '';
    await a.engine.change(begin(domain), never);
    await domain.attend(
      a,
      until(() => isOver(a)),
    );
    // The other one sees it when it looks at the store the next time.
    await domain.clock.advance(5_000);
    await domain.attend(
      b,
      until(() => isOver(b)),
    );
    await assertRotated(domain, old, a, b);
    assert.deepEqual(a.engine.current().state, b.engine.current().state);
    const made = [...a.keys.generated, ...b.keys.generated];
    const kept = new Set(keysOf(await domain.stored()).map(({ id }) => id));
    for (const id of made.filter((id) => !kept.has(id))) {
      assert.ok(a.keys.destroyed.has(id) || b.keys.destroyed.has(id), `${id} was made in vain, and is left`);
    }
  });
});
