import assert from 'node:assert/strict';
import { before, describe, it, type TestContext } from 'node:test';
import { type PublishedBundle, publishedBundle } from '../../../../ca/distribution/bundle-objects.ts';
import { registerDistributionMetrics } from '../../../../ca/distribution/distribution-metrics.ts';
import { NamespaceBundles } from '../../../../ca/distribution/namespace-bundles.ts';
import { EventRecorder } from '../../../../ca/kubernetes/event-recorder.ts';
import { CONFIG_MAP, type KubernetesObject, NAMESPACE } from '../../../../ca/kubernetes/objects.ts';
import { MetricsRegistry } from '../../../../host/metrics.ts';
import { systemRandom } from '../../../../host/random.ts';
import { MemoryKubernetes, refusal } from '../../../fakes/memory-kubernetes.ts';
import { RecordingLog } from '../../../support/authority-replica.ts';
import { makeAnchor } from '../../../support/certificates.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const never = new AbortController().signal;
let bundles: readonly PublishedBundle[];

before(async () => {
  const anchors = [(await makeAnchor()).der, (await makeAnchor()).der];
  bundles = [anchors.slice(0, 1), anchors].map((x509Authorities, i) =>
    publishedBundle({ trustDomain: 'example.org', sequence: i + 1, x509Authorities }, 300),
  );
});

class Cluster {
  readonly api = new MemoryKubernetes();
  readonly clock = new ManualClock();
  readonly log = new RecordingLog();
  readonly agents = new Set<string>();
  agentsKnown = true;
  readonly #t: TestContext;

  constructor(t: TestContext) {
    this.#t = t;
  }

  replica() {
    const { api, clock, log } = this;
    const registry = new MetricsRegistry();
    const state = { bundle: bundles[0] as PublishedBundle | null, upToDate: true };
    const distribution: NamespaceBundles = new NamespaceBundles({
      api,
      bundle: () => state.bundle,
      upToDate: () => state.upToDate,
      hasAgents: (namespace) => this.agents.has(namespace),
      agentsKnown: () => this.agentsKnown,
      own: 'kedge',
      events: new EventRecorder({ api, instance: 'kedge-ca-0', clock, random: systemRandom, log }),
      metrics: () => metrics,
      clock,
      random: systemRandom,
      log,
    });
    const metrics = registerDistributionMetrics(registry, () => distribution.counts());
    const stop = new AbortController();
    const running = distribution.run(stop.signal);
    this.#t.after(async () => {
      stop.abort();
      await running;
    });
    return { distribution, state, stop, registry };
  }

  async namespace(
    name: string,
    labels: Record<string, string> = { 'kedge.io/inject': 'enabled' },
  ): Promise<void> {
    await this.api.create(NAMESPACE, { metadata: { name, labels } }, { signal: never });
  }

  async relabel(name: string, labels: Record<string, string>): Promise<void> {
    await this.api.replace(NAMESPACE, { metadata: { name, labels } }, { signal: never });
  }

  bundleIn(namespace: string): KubernetesObject | undefined {
    return this.api.stored(CONFIG_MAP, { namespace, name: 'kedge-trust-bundle' });
  }

  pemIn(namespace: string): unknown {
    return (this.bundleIn(namespace)?.['data'] as Record<string, string> | undefined)?.['bundle.pem'];
  }

  async edit(namespace: string, change: Record<string, unknown>): Promise<void> {
    const { resourceVersion: _, ...metadata } = this.bundleIn(namespace)!.metadata;
    await this.api.replace(
      CONFIG_MAP,
      { ...this.bundleIn(namespace), metadata, ...change },
      { signal: never },
    );
  }

  get writes(): number {
    return this.api.count('create', 'configmaps') + this.api.count('replace', 'configmaps');
  }

  events(): readonly string[] {
    return this.api.calls
      .filter(({ resource }) => resource === 'events')
      .map(({ key }) => key.split('.')[0] ?? '');
  }
}

describe('the trust bundle in the namespaces of a cluster', () => {
  it('is made in those that are labelled and in the CA’s own, and in no other', async (t) => {
    const cluster = new Cluster(t);
    await cluster.namespace('kedge', {});
    await cluster.namespace('shop');
    await cluster.namespace('plain', {});
    await cluster.namespace('off', { 'kedge.io/inject': 'disabled' });
    cluster.replica();
    await cluster.clock.advance(10_000);
    assert.equal(cluster.pemIn('shop'), bundles[0]!.pem);
    assert.equal(cluster.pemIn('kedge'), bundles[0]!.pem);
    assert.deepEqual([cluster.bundleIn('plain'), cluster.bundleIn('off')], [undefined, undefined]);
  });

  it('comes with the label, and goes with it', async (t) => {
    const cluster = new Cluster(t);
    await cluster.namespace('shop', {});
    cluster.replica();
    await cluster.clock.advance(10_000);
    assert.equal(cluster.bundleIn('shop'), undefined);
    await cluster.relabel('shop', { 'kedge.io/inject': 'enabled' });
    await cluster.clock.advance(10_000);
    assert.equal(cluster.pemIn('shop'), bundles[0]!.pem);
    await cluster.relabel('shop', {});
    await cluster.clock.advance(10_000);
    assert.equal(cluster.bundleIn('shop'), undefined);
  });

  it('stays while a pod with an agent is there, and until the pods are known', async (t) => {
    const cluster = new Cluster(t);
    await cluster.namespace('shop');
    const { distribution } = cluster.replica();
    await cluster.clock.advance(10_000);
    cluster.agents.add('shop');
    cluster.agentsKnown = false;
    await cluster.relabel('shop', {});
    await cluster.clock.advance(10_000);
    assert.ok(cluster.bundleIn('shop') !== undefined);
    cluster.agents.delete('shop');
    distribution.look('shop');
    await cluster.clock.advance(10_000);
    assert.ok(cluster.bundleIn('shop') !== undefined, 'the pods are not known');
    cluster.agentsKnown = true;
    await cluster.clock.advance(10_000);
    assert.equal(cluster.bundleIn('shop'), undefined);
  });

  it('comes to a namespace without the label when a pod there asked for an agent', async (t) => {
    const cluster = new Cluster(t);
    await cluster.namespace('shop', {});
    const { distribution } = cluster.replica();
    await cluster.clock.advance(10_000);
    cluster.agents.add('shop');
    distribution.look('shop');
    await cluster.clock.advance(10_000);
    assert.equal(cluster.pemIn('shop'), bundles[0]!.pem);
  });

  const harms: readonly { readonly name: string; readonly change: Record<string, unknown> }[] = [
    { name: 'emptied', change: { data: {} } },
    { name: 'edited', change: { data: { 'bundle.pem': 'nonsense' } } },
    { name: 'locked and emptied', change: { data: {}, immutable: true } },
  ];
  for (const { name, change } of harms) {
    it(`is repaired after it was ${name}, and an event says so`, async (t) => {
      const cluster = new Cluster(t);
      await cluster.namespace('shop');
      cluster.replica();
      await cluster.clock.advance(10_000);
      await cluster.edit('shop', change);
      await cluster.clock.advance(10_000);
      assert.equal(cluster.pemIn('shop'), bundles[0]!.pem);
      assert.deepEqual(cluster.events(), ['shop/kedge-trust-bundle']);
    });
  }

  it('is made again after it was deleted', async (t) => {
    const cluster = new Cluster(t);
    await cluster.namespace('shop');
    cluster.replica();
    await cluster.clock.advance(10_000);
    await cluster.api.delete(
      CONFIG_MAP,
      { namespace: 'shop', name: 'kedge-trust-bundle' },
      { signal: never },
    );
    await cluster.clock.advance(10_000);
    assert.equal(cluster.pemIn('shop'), bundles[0]!.pem);
  });

  it('is not written over an object of that name that is not of Kedge: event, log and metric say so', async (t) => {
    const cluster = new Cluster(t);
    await cluster.namespace('shop');
    const theirs = { metadata: { namespace: 'shop', name: 'kedge-trust-bundle' }, data: { mine: 'x' } };
    await cluster.api.create(CONFIG_MAP, theirs, { signal: never });
    const { registry, distribution } = cluster.replica();
    await cluster.clock.advance(10_000);
    distribution.look('shop');
    await cluster.clock.advance(10_000);
    assert.deepEqual(cluster.bundleIn('shop')?.['data'], { mine: 'x' });
    assert.deepEqual(cluster.events(), ['shop/kedge-trust-bundle'], 'once');
    assert.ok(cluster.log.events.includes('trust_bundle.foreign'));
    assert.match(registry.render(), /kedge_trust_bundle_namespaces\{state="foreign"\} 1/);
    await cluster.relabel('shop', {});
    await cluster.clock.advance(10_000);
    assert.ok(cluster.bundleIn('shop') !== undefined, 'nor is it removed');
  });

  it('follows the bundle of the CA into every namespace', async (t) => {
    const cluster = new Cluster(t);
    for (let i = 0; i < 30; i += 1) await cluster.namespace(`n${i}`);
    const { distribution, state } = cluster.replica();
    await cluster.clock.advance(20_000);
    state.bundle = bundles[1]!;
    distribution.lookAtAll();
    await cluster.clock.advance(20_000);
    for (let i = 0; i < 30; i += 1) assert.equal(cluster.pemIn(`n${i}`), bundles[1]!.pem, `n${i}`);
    assert.deepEqual(distribution.counts(), { current: 30, pending: 0, foreign: 0 });
    assert.deepEqual(cluster.events(), [], 'an update is no repair');
  });

  it('is written by one of three replicas for each namespace, bar a few that meet', async (t) => {
    const cluster = new Cluster(t);
    for (let i = 0; i < 30; i += 1) await cluster.namespace(`n${i}`);
    const replicas = [cluster.replica(), cluster.replica(), cluster.replica()];
    await cluster.clock.advance(30_000);
    const made = cluster.writes;
    assert.ok(made >= 30 && made <= 45, `${made} writes for 30 namespaces`);
    for (const { distribution, state } of replicas) {
      state.bundle = bundles[1]!;
      distribution.lookAtAll();
    }
    await cluster.clock.advance(30_000);
    for (let i = 0; i < 30; i += 1) assert.equal(cluster.pemIn(`n${i}`), bundles[1]!.pem);
    assert.ok(cluster.writes - made <= 45, `${cluster.writes - made} writes for 30 namespaces`);
    const settled = cluster.writes;
    await cluster.clock.advance(3_600_000);
    assert.equal(cluster.writes, settled, 'nothing is written while nothing changes');
  });

  it('is not taken back by a replica that has not read the newest one yet', async (t) => {
    const cluster = new Cluster(t);
    await cluster.namespace('shop');
    const [behind, ahead] = [cluster.replica(), cluster.replica()];
    ahead.state.bundle = bundles[1]!;
    behind.state.upToDate = false;
    ahead.distribution.lookAtAll();
    await cluster.clock.advance(10_000);
    behind.distribution.lookAtAll();
    await cluster.clock.advance(600_000);
    assert.equal(cluster.pemIn('shop'), bundles[1]!.pem);
  });

  it('is put back when somebody forged a later one, once it is sure that nobody is behind', async (t) => {
    const cluster = new Cluster(t);
    await cluster.namespace('shop');
    cluster.replica();
    await cluster.clock.advance(10_000);
    await cluster.edit('shop', {
      data: { 'bundle.pem': bundles[1]!.pem, 'bundle.json': bundles[1]!.document },
    });
    await cluster.clock.advance(60_000);
    assert.equal(cluster.pemIn('shop'), bundles[1]!.pem);
    await cluster.clock.advance(240_000);
    assert.equal(cluster.pemIn('shop'), bundles[0]!.pem);
  });

  it('comes in the end when the API server refuses, with the other namespaces not waiting for it', async (t) => {
    const cluster = new Cluster(t);
    await cluster.namespace('shop');
    await cluster.namespace('stuck');
    cluster.api.fault = ({ verb, key }) =>
      verb === 'create' && key.startsWith('stuck/') ? { before: refusal('kubernetes_forbidden') } : null;
    const { registry } = cluster.replica();
    await cluster.clock.advance(120_000);
    assert.equal(cluster.pemIn('shop'), bundles[0]!.pem);
    const tries = cluster.api.calls.filter(({ key }) => key === 'stuck/kedge-trust-bundle').length;
    assert.ok(tries >= 3 && tries <= 40, `${tries} tries in two minutes`);
    assert.equal(cluster.log.of('trust_bundle.write_failed').length, 1);
    assert.match(registry.render(), /kedge_trust_bundle_writes_total\{action="created",result="failed"\}/);
    cluster.api.fault = () => null;
    await cluster.clock.advance(120_000);
    assert.equal(cluster.pemIn('stuck'), bundles[0]!.pem);
  });

  it('is left alone in a namespace that is being deleted', async (t) => {
    const cluster = new Cluster(t);
    const labels = { 'kedge.io/inject': 'enabled' };
    const metadata = { name: 'shop', labels, deletionTimestamp: '2026-01-01T00:00:00Z' };
    await cluster.api.create(NAMESPACE, { metadata }, { signal: never });
    cluster.replica();
    await cluster.clock.advance(10_000);
    assert.equal(cluster.writes, 0);
  });

  it('comes once the trust state is read', async (t) => {
    const cluster = new Cluster(t);
    await cluster.namespace('shop');
    const { state, distribution } = cluster.replica();
    state.bundle = null;
    await cluster.clock.advance(10_000);
    assert.equal(cluster.writes, 0);
    state.bundle = bundles[0]!;
    distribution.lookAtAll();
    await cluster.clock.advance(10_000);
    assert.equal(cluster.pemIn('shop'), bundles[0]!.pem);
  });
});
