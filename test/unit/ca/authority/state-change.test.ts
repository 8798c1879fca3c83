import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { changeTrustState } from '../../../../ca/authority/state-change.ts';
import { encodeTrustState, parseTrustState } from '../../../../ca/authority/trust-state-codec.ts';
import type { TrustState } from '../../../../ca/authority/trust-state.ts';
import { never, TestTrustDomain } from '../../../support/authority-replica.ts';
import { expectRejection } from '../../../support/expect-code.ts';
import { FaultyTrustStore, SWAP_FAULTS } from '../../../support/faulty-trust-store.ts';
import { activeState, makeAuthorityPool } from '../../../support/trust-states.ts';

const good = activeState(await makeAuthorityPool(1, 1));
const declining =
  (id: string) =>
  (state: TrustState): TrustState =>
    state.declinedAnchors.includes(id)
      ? state
      : { ...state, declinedAnchors: [...state.declinedAnchors, id] };

async function setUp(t: TestContext) {
  const domain = new TestTrustDomain(t);
  const store = new FaultyTrustStore(domain.openStore());
  await store.swap(null, encodeTrustState(good), never);
  const change = (what: (state: TrustState) => TrustState, knownSequence = 1) =>
    changeTrustState({ store, clock: domain.clock, timeoutMs: 1_000, knownSequence }, what, never);
  return { domain, store, change };
}

describe('a change of the trust state that somebody asked for', () => {
  it('is stored, and given', async (t) => {
    const { domain, change } = await setUp(t);
    const next = await change(declining('ab'));
    assert.deepEqual([next.declinedAnchors, await domain.stored()], [['ab'], next]);
  });

  it('is made anew on what another writer stored meanwhile', async (t) => {
    const { domain, store } = await setUp(t);
    const other = domain.openStore();
    let rivals = 2;
    /** Another writer is faster twice: between the read and the swap of this one. */
    const racing = {
      read: (signal: AbortSignal) => store.read(signal),
      watch: (signal: AbortSignal) => store.watch(signal),
      close: () => store.close(),
      swap: async (...swap: Parameters<typeof store.swap>) => {
        if (rivals > 0) {
          rivals -= 1;
          const read = await other.read(never);
          const rival = declining(`0${rivals}`)(parseTrustState(read!.document));
          await other.swap(read!.version, encodeTrustState(rival), never);
        }
        return store.swap(...swap);
      },
    };
    const options = { store: racing, clock: domain.clock, timeoutMs: 1_000, knownSequence: 1 };
    const next = await changeTrustState(options, declining('ab'), never);
    assert.deepEqual(next.declinedAnchors, ['01', '00', 'ab']);
    assert.deepEqual(await domain.stored(), next);
  });

  it('swaps nothing when nothing changes', async (t) => {
    const { store, change } = await setUp(t);
    const before = store.swaps;
    await change((state) => state);
    assert.equal(store.swaps, before);
  });

  it('changes nothing when it is refused', async (t) => {
    const { domain, change } = await setUp(t);
    const fault = new Error('no');
    await assert.rejects(
      change(() => {
        throw fault;
      }),
      fault,
    );
    assert.deepEqual(await domain.stored(), good);
  });

  for (const fault of SWAP_FAULTS) {
    it(`whose outcome is unknown is a failure, and can be asked again: ${fault}`, async (t) => {
      const { domain, store, change } = await setUp(t);
      store.failSwap(store.swaps + 1, fault);
      await assert.rejects(change(declining('ab')));
      await change(declining('ab'));
      assert.deepEqual((await domain.stored()).declinedAnchors, ['ab']);
    });
  }

  it('is not built upon an older state than is known', async (t) => {
    const { change } = await setUp(t);
    await expectRejection('bundle_sequence_regressed', change(declining('ab'), 2));
  });
});
