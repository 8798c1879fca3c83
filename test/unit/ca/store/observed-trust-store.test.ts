import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { KubernetesTrustStore } from '../../../../ca/store/kubernetes-trust-store.ts';
import { ObservedTrustStore } from '../../../../ca/store/observed-trust-store.ts';
import { silentLog } from '../../../../host/log.ts';
import { MetricsRegistry } from '../../../../host/metrics.ts';
import { LIMITS } from '../../../../pki/limits.ts';
import { trustStoreConformance } from '../../../conformance/trust-store.ts';
import { MemoryKubernetes, refusal } from '../../../fakes/memory-kubernetes.ts';
import { RecordingLog } from '../../../support/authority-replica.ts';
import { expectRejection } from '../../../support/expect-code.ts';
import { ManualClock, settle } from '../../../support/manual-clock.ts';

const never = new AbortController().signal;
const where = { namespace: 'kedge', name: 'kedge-trust-state' };

function setUp(t: Pick<TestContext, 'after'>) {
  const api = new MemoryKubernetes();
  const log = new RecordingLog();
  const registry = new MetricsRegistry();
  const open = () => {
    const clock = new ManualClock();
    return new KubernetesTrustStore({ api, where, clock, log: silentLog });
  };
  const store = new ObservedTrustStore({ store: open(), registry, log });
  t.after(() => store.close());
  return { api, log, registry, store, open };
}

trustStoreConformance('an observed store', (t) => {
  const { open } = setUp(t);
  return {
    open: async () =>
      new ObservedTrustStore({ store: open(), registry: new MetricsRegistry(), log: silentLog }),
    tick: settle,
  };
});

describe('an observed trust store', () => {
  it('counts how its calls ended', async (t) => {
    const { api, registry, store } = setUp(t);
    const version = await store.swap(null, new Uint8Array(5), never);
    await expectRejection('store_conflict', store.swap(null, new Uint8Array(5), never));
    await store.read(never);
    api.fault = () => ({ before: refusal('kubernetes_unreachable') });
    await expectRejection('store_unavailable', store.read(never));
    await expectRejection('store_unavailable', store.swap(version, new Uint8Array(5), never));
    await expectRejection('store_unavailable', store.watch(never)[Symbol.asyncIterator]().next());
    const text = registry.render();
    for (const [operation, result, count] of [
      ['read', 'ok', 1],
      ['read', 'failed', 1],
      ['swap', 'ok', 1],
      ['swap', 'conflict', 1],
      ['swap', 'failed', 1],
      ['watch', 'failed', 1],
    ]) {
      const line = `kedge_trust_store_operations_total{operation="${operation}",result="${result}"} ${count}`;
      assert.ok(text.includes(line), line);
    }
  });

  it('counts no call that its caller gave up', async (t) => {
    const { registry, store } = setUp(t);
    const gone = AbortSignal.abort(new Error('gone'));
    await assert.rejects(store.read(gone));
    await assert.rejects(store.watch(gone)[Symbol.asyncIterator]().next());
    assert.doesNotMatch(registry.render(), /operations_total\{/);
  });

  it('warns once when the document comes near its limit, before it is refused, and again after it had shrunk', async (t) => {
    const { log, registry, store } = setUp(t);
    const near = Math.ceil(LIMITS.trustStateBytes * 0.8);
    const warned = (): number => log.of('trust_store.nearly_full').length;
    let version = await store.swap(null, new Uint8Array(near - 1), never);
    assert.deepEqual([warned(), store.fill.bytes], [0, near - 1]);
    version = await store.swap(version, new Uint8Array(near), never);
    version = await store.swap(version, new Uint8Array(near + 1), never);
    await store.read(never);
    assert.deepEqual([warned(), store.fill], [1, { bytes: near + 1, limitBytes: LIMITS.trustStateBytes }]);
    assert.match(registry.render(), new RegExp(`kedge_trust_state_bytes ${near + 1}\\n`));
    version = await store.swap(version, new Uint8Array(1), never);
    await store.swap(version, new Uint8Array(near), never);
    assert.equal(warned(), 2);
  });

  it('measures what a watch brings', async (t) => {
    const { store, open } = setUp(t);
    await open().swap(null, new Uint8Array(7), never);
    const steps = store.watch(never)[Symbol.asyncIterator]();
    await steps.next();
    assert.equal(store.fill.bytes, 7);
    await steps.return(undefined);
  });
});
