import assert from 'node:assert/strict';
import { before, describe, it, type TestContext } from 'node:test';
import { type PublishedBundle, publishedBundle } from '../../../../ca/distribution/bundle-objects.ts';
import { ClusterBundle } from '../../../../ca/distribution/cluster-bundle.ts';
import { EventRecorder } from '../../../../ca/kubernetes/event-recorder.ts';
import type { KubernetesObject, ResourceType } from '../../../../ca/kubernetes/objects.ts';
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

const type = (version: string): ResourceType => ({
  apiVersion: `certificates.k8s.io/${version}`,
  kind: 'ClusterTrustBundle',
  plural: 'clustertrustbundles',
  namespaced: false,
});
const ref = { name: 'kedge-trust-bundle' };

function setUp(t: TestContext, versions: readonly string[]) {
  const api = new MemoryKubernetes();
  for (const version of versions) {
    api.served.set(`certificates.k8s.io/${version}`, new Set(['clustertrustbundles']));
  }
  const clock = new ManualClock();
  const log = new RecordingLog();
  const replica = () => {
    const state = { bundle: bundles[0]!, upToDate: true };
    const written: string[] = [];
    const cluster = new ClusterBundle({
      api,
      bundle: () => state.bundle,
      upToDate: () => state.upToDate,
      events: new EventRecorder({ api, instance: 'kedge-ca-0', clock, random: systemRandom, log }),
      metrics: () => ({ written: (action, result) => void written.push(`${action} ${result}`) }),
      clock,
      random: systemRandom,
      log,
    });
    const stop = new AbortController();
    const running = cluster.run(stop.signal);
    t.after(async () => {
      stop.abort();
      await running;
    });
    return { cluster, state, written };
  };
  const [version = ''] = versions;
  const stored = (): KubernetesObject | undefined => api.stored(type(version), ref);
  const pem = (): unknown => (stored()?.['spec'] as { trustBundle?: string } | undefined)?.trustBundle;
  const edit = async (change: Record<string, unknown>): Promise<void> => {
    const { resourceVersion: _, ...metadata } = stored()!.metadata;
    await api.replace(type(version), { ...stored(), metadata, ...change }, { signal: never });
  };
  return { api, clock, log, replica, stored, pem, edit };
}

describe('the ClusterTrustBundle of a cluster', () => {
  it('is not tried where the cluster does not have the API', async (t) => {
    const { api, clock, log, replica } = setUp(t, []);
    replica();
    await clock.advance(7_200_000);
    assert.deepEqual(api.calls, []);
    assert.deepEqual(log.events, []);
  });

  it('comes once an upgrade of the cluster brings the API', async (t) => {
    const { api, clock, replica } = setUp(t, []);
    replica();
    await clock.advance(10_000);
    api.served.set('certificates.k8s.io/v1beta1', new Set(['clustertrustbundles']));
    await clock.advance(7_200_000);
    assert.ok(api.stored(type('v1beta1'), ref) !== undefined);
  });

  for (const version of ['v1', 'v1beta1', 'v1alpha1']) {
    it(`is made by ${version} where that is served`, async (t) => {
      const { clock, replica, stored, pem } = setUp(t, [version]);
      const { written } = replica();
      await clock.advance(10_000);
      assert.equal(stored()?.apiVersion, `certificates.k8s.io/${version}`);
      assert.equal(pem(), bundles[0]!.pem);
      assert.deepEqual(written, ['created ok']);
    });
  }

  it('is made by the newest version of several', async (t) => {
    const { api, clock, replica } = setUp(t, ['v1beta1', 'v1alpha1']);
    replica();
    await clock.advance(10_000);
    assert.ok(api.stored(type('v1beta1'), ref) !== undefined);
  });

  it('follows the bundle, and is put back when it was edited', async (t) => {
    const { clock, replica, pem, edit } = setUp(t, ['v1']);
    const { cluster, state, written } = replica();
    await clock.advance(10_000);
    state.bundle = bundles[1]!;
    cluster.look();
    await clock.advance(10_000);
    assert.equal(pem(), bundles[1]!.pem);
    await edit({ spec: { trustBundle: bundles[0]!.pem } });
    await clock.advance(120_000);
    assert.equal(pem(), bundles[1]!.pem);
    assert.deepEqual(written, ['created ok', 'updated ok', 'repaired ok']);
  });

  it('is not taken back by a replica that is behind, and put back when its sequence was forged', async (t) => {
    const { clock, replica, pem, edit, stored } = setUp(t, ['v1']);
    const behind = replica();
    await clock.advance(10_000);
    behind.state.upToDate = false;
    const ahead = replica();
    ahead.state.bundle = bundles[1]!;
    await clock.advance(600_000);
    assert.equal(pem(), bundles[1]!.pem);
    const { metadata } = stored()!;
    const annotations = { ...metadata.annotations, 'kedge.io/bundle-sequence': '99' };
    const { resourceVersion: _, ...rest } = metadata;
    await edit({ metadata: { ...rest, annotations }, spec: { trustBundle: bundles[0]!.pem } });
    await clock.advance(600_000);
    assert.equal(pem(), bundles[1]!.pem);
  });

  it('of somebody else is left alone', async (t) => {
    const { api, clock, log, replica, pem } = setUp(t, ['v1']);
    await api.create(type('v1'), { metadata: ref, spec: { trustBundle: 'theirs' } }, { signal: never });
    replica();
    await clock.advance(600_000);
    assert.equal(pem(), 'theirs');
    assert.ok(log.events.includes('cluster_trust_bundle.foreign'));
    assert.equal(api.count('create', 'events'), 1);
  });

  it('comes in the end when the API server refuses, which is logged once', async (t) => {
    const { api, clock, log, replica, pem } = setUp(t, ['v1']);
    api.fault = () => ({ before: refusal('kubernetes_forbidden') });
    replica();
    await clock.advance(600_000);
    assert.equal(log.of('cluster_trust_bundle.failed').length, 1);
    api.fault = () => null;
    await clock.advance(600_000);
    assert.equal(pem(), bundles[0]!.pem);
  });
});
