/** The trust bundle in the namespaces of a real API server, and the fleet as its pods are, by two CA replicas. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { parseBootstrapBundle } from '../../agent/bootstrap-bundle.ts';
import { toHex } from '../../pki/bytes.ts';
import type { GetStatusResponse } from '../../proto/gen/kedge/v1/admin.ts';
import { RecordingLog } from '../support/authority-replica.ts';
import { grantCaRights, shareDevelopmentIssuer } from '../support/cluster-replica.ts';
import { until } from '../support/identity-plane.ts';
import { clusterSkip, suiteCluster } from '../support/kubernetes-cluster.ts';
import {
  bearer,
  type CaUnderTest,
  getBundle,
  getStatus,
  issue,
  nextMessage,
  openWatch,
  reportBytes,
  runningCa,
} from '../support/running-ca.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const INJECT = { 'kedge.io/inject': 'enabled' };
const INJECTED = { 'kedge.io/injected': 'true' };

describe('two CA replicas in a cluster', { skip: clusterSkip }, () => {
  const cluster = suiteCluster();
  const ends: (() => unknown)[] = [];
  const suite = { after: (end: () => unknown) => void ends.unshift(end) };
  const log = new RecordingLog();
  let replicas: readonly CaUnderTest[] = [];

  before(async () => {
    await grantCaRights(cluster(), 'kedge-ca', 'default');
    const kubeconfig = await cluster().kubeconfigFor('kedge-ca');
    const root = temporaryFolder(suite);
    const folders = [join(root, 'ca-0'), join(root, 'ca-1')];
    await shareDevelopmentIssuer(folders);
    const flags = { 'store.kind': 'kubernetes', 'kubernetes.kubeconfig': kubeconfig };
    replicas = await Promise.all(
      folders.map((folder, i) =>
        runningCa(suite, { folder, flags: { ...flags, 'fleet.replica': `ca-${i}` }, log }),
      ),
    );
  });
  after(async () => {
    for (const end of ends) await end();
  });

  const pathIn = (namespace: string): string =>
    `/api/v1/namespaces/${namespace}/configmaps/kedge-trust-bundle`;
  const dataIn = async (namespace: string): Promise<Record<string, string> | null> => {
    const { status, body } = await cluster().admin.request('GET', pathIn(namespace));
    return status === 404 ? null : ((body['data'] as Record<string, string> | undefined) ?? {});
  };
  /** Whether an agent that starts from the ConfigMap trusts what the CA publishes. */
  const isCurrent = async (namespace: string): Promise<boolean> => {
    const pem = (await dataIn(namespace))?.['bundle.pem'];
    if (pem === undefined || !pem.startsWith('-----BEGIN')) return false;
    const { x509Authorities } = await getBundle(replicas[0]!.ca);
    return parseBootstrapBundle(Buffer.from(pem)).map(toHex).join() === x509Authorities.map(toHex).join();
  };
  const label = (namespace: string, labels: Record<string, string | null>): Promise<unknown> =>
    cluster().admin.merge(`/api/v1/namespaces/${namespace}`, { metadata: { labels } });
  const eventsIn = async (namespace: string): Promise<readonly string[]> => {
    const { items } = await cluster().admin.get(`/api/v1/namespaces/${namespace}/events`);
    return (items as { reason: string; involvedObject: { name: string } }[])
      .filter(({ involvedObject }) => involvedObject.name === 'kedge-trust-bundle')
      .map(({ reason }) => reason);
  };

  it('put the bundle into a namespace that is labelled, and take it away with the label', async () => {
    await cluster().createNamespace('labelled');
    assert.equal(await dataIn('labelled'), null);
    await label('labelled', INJECT);
    await until('it is there', () => isCurrent('labelled'));
    await label('labelled', { 'kedge.io/inject': null });
    await until('it is gone', async () => (await dataIn('labelled')) === null);
  });

  it('keep it in the namespace of the CA, for people', async () => {
    await until('it is there', () => isCurrent('default'));
  });

  const harms: readonly { readonly name: string; readonly harm: (namespace: string) => Promise<unknown> }[] =
    [
      {
        name: 'emptied',
        harm: (namespace) =>
          cluster().admin.merge(pathIn(namespace), { data: { 'bundle.pem': null, 'bundle.json': null } }),
      },
      {
        name: 'edited',
        harm: (namespace) => cluster().admin.merge(pathIn(namespace), { data: { 'bundle.pem': 'x' } }),
      },
      {
        name: 'locked',
        harm: (namespace) =>
          cluster().admin.merge(pathIn(namespace), { immutable: true, data: { 'bundle.pem': 'x' } }),
      },
      { name: 'deleted', harm: (namespace) => cluster().admin.delete(pathIn(namespace)) },
    ];
  for (const { name, harm } of harms) {
    it(`repair it after it was ${name}, and say so on it`, async () => {
      const namespace = `repair-${name}`;
      await cluster().createNamespace(namespace, INJECT);
      await until('it is there', () => isCurrent(namespace));
      await harm(namespace);
      await until('it is repaired', () => isCurrent(namespace));
      if (name === 'deleted') return;
      await until('an event tells', async () =>
        (await eventsIn(namespace)).includes('KedgeTrustBundleRepaired'),
      );
    });
  }

  it('leave one alone that is not theirs, and say so on it', async () => {
    await cluster().createNamespace('foreign');
    await cluster().admin.create('/api/v1/namespaces/foreign/configmaps', {
      metadata: { name: 'kedge-trust-bundle' },
      data: { theirs: 'x' },
    });
    await label('foreign', INJECT);
    await until('an event tells', async () =>
      (await eventsIn('foreign')).includes('KedgeTrustBundleForeign'),
    );
    assert.deepEqual(await dataIn('foreign'), { theirs: 'x' });
    const metrics = await (await fetch(`http://${replicas[0]!.ca.httpAddress}/metrics`)).text();
    assert.match(metrics, /kedge_trust_bundle_namespaces\{state="foreign"\} 1/);
    await label('foreign', { 'kedge.io/inject': null });
  });

  it('bring it to a namespace without the label while a pod there carries an agent', async () => {
    await cluster().createNamespace('by-pod');
    await cluster().createPod('by-pod', 'cart-0', { labels: INJECTED });
    await until('it is there', () => isCurrent('by-pod'));
    await cluster().deletePod('by-pod', 'cart-0');
    await until('it is gone', async () => (await dataIn('by-pod')) === null);
  });

  it('bring it to a hundred namespaces with about one write for each', async (t) => {
    const names = Array.from({ length: 100 }, (_, i) => `many-${i}`);
    /** Writes of all replicas that were answered. */
    const writes = async (): Promise<number> => {
      const texts = await Promise.all(
        replicas.map(async ({ ca }) => (await fetch(`http://${ca.httpAddress}/metrics`)).text()),
      );
      const lines = texts.flatMap((text) => [
        ...text.matchAll(
          /^kedge_trust_bundle_writes_total\{action="created",result="(?:ok|conflict)"\} (\d+)$/gm,
        ),
      ]);
      return lines.reduce((sum, [, count]) => sum + Number(count), 0);
    };
    const before = await writes();
    for (const name of names) {
      await cluster().admin.create('/api/v1/namespaces', { metadata: { name, labels: INJECT } });
    }
    const startMs = performance.now();
    await until(
      'all have it',
      async () => (await Promise.all(names.map(dataIn))).every((data) => data !== null),
      120_000,
    );
    const made = (await writes()) - before;
    t.diagnostic(
      `${made} writes by 2 replicas for 100 namespaces, ${Math.round(performance.now() - startMs)} ms`,
    );
    assert.ok(made >= 100 && made <= 150, `${made} writes`);
    const first = await dataIn(names[0]!);
    for (const name of names) assert.deepEqual(await dataIn(name), first);
  });

  it('know the fleet by its pods: silent ones count as missing, those that report as they say, gone ones not', async (t) => {
    const [first, second] = replicas as [CaUnderTest, CaUnderTest];
    await cluster().createNamespace('shop', INJECT);
    const pods = await Promise.all(
      ['cart-0', 'cart-1', 'cart-2'].map((name) => cluster().createPod('shop', name, { labels: INJECTED })),
    );
    await cluster().createPod('shop', 'plain');
    const statusOf = async ({ ca }: CaUnderTest): Promise<GetStatusResponse> => getStatus(ca);
    const listed = async (replica: CaUnderTest): Promise<readonly string[]> =>
      (await statusOf(replica)).instances
        .filter(({ namespace }) => namespace === 'shop')
        .map(({ podName }) => podName)
        .toSorted();
    await until('both replicas know the fleet whole', async () =>
      (await Promise.all(replicas.map(statusOf))).every(({ fleet }) => fleet?.complete === true),
    );
    assert.deepEqual(await listed(first), [], 'none of the pods runs yet');

    for (const name of ['cart-0', 'cart-1', 'cart-2', 'plain']) {
      await cluster().setPodStatus('shop', name, { phase: 'Running' });
    }
    for (const replica of replicas) {
      await until('the silent are seen', async () => (await listed(replica)).length === 3);
      assert.equal((await statusOf(replica)).fleet?.unheard, 3);
    }

    // The agent of cart-0 gets its SVID from, and reports to, the first replica alone.
    const podUid = pods[0]!.metadata!.uid!;
    const token = first.token({ namespace: 'shop', podName: 'cart-0', podUid });
    const client = await first.connect();
    const { x509Svid } = await issue(client, token);
    const { parseCertificate } = await import('../../pki/certificate.ts');
    const { serialNumber, authorityKeyId, notAfterMs } = parseCertificate(x509Svid[0]!);
    const svid = { serialNumber, authorityKeyId: authorityKeyId!, notAfterMs: BigInt(notAfterMs) };
    const watch = openWatch(client, bearer(token));
    watch.on('error', () => undefined);
    watch.write(reportBytes({ bundleSequence: 1n, svid }));
    await nextMessage(watch);
    const held = async (replica: CaUnderTest): Promise<number> =>
      (await statusOf(replica)).issuers[0]!.instances;
    await until('the first replica has the report', async () => (await held(first)) === 1);
    const startMs = performance.now();
    await until('the second replica has it from the first', async () => (await held(second)) === 1, 60_000);
    t.diagnostic(`the other replica knew after ${Math.round(performance.now() - startMs)} ms`);
    assert.equal((await statusOf(second)).fleet?.unheard, 2);

    await cluster().deletePod('shop', 'cart-0');
    await cluster().deletePod('shop', 'cart-1');
    for (const replica of replicas) {
      await until(
        'those that are gone count no more',
        async () => (await listed(replica)).join() === 'cart-2',
      );
      assert.equal(await held(replica), 0);
    }
    await cluster().setPodStatus('shop', 'cart-2', { phase: 'Succeeded' });
    for (const replica of replicas) {
      await until('one that has ended counts no more', async () => (await listed(replica)).length === 0);
    }
    watch.cancel();
  });

  it('were never refused a right that they need', () => {
    const text = JSON.stringify(log.lines);
    assert.doesNotMatch(text, /kubernetes_forbidden/);
    assert.doesNotMatch(text, /internal/);
  });
});
