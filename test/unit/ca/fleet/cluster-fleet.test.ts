import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { ClusterFleet } from '../../../../ca/fleet/cluster-fleet.ts';
import { type KnownTrust, trustMark } from '../../../../ca/fleet/counted-report.ts';
import { coverageOf, stragglersOf } from '../../../../ca/fleet/fleet-coverage.ts';
import { Fleet } from '../../../../ca/fleet/fleet.ts';
import { isLive } from '../../../../ca/fleet/instance.ts';
import { FLEET_REPORT_KEY, FLEET_REPORT_LABELS, PeerReports } from '../../../../ca/fleet/peer-reports.ts';
import { PodTracker } from '../../../../ca/fleet/pod-tracker.ts';
import { encodeReplicaReport } from '../../../../ca/fleet/replica-report.ts';
import { reportName, ReportPublisher } from '../../../../ca/fleet/report-publisher.ts';
import { CONFIG_MAP, POD } from '../../../../ca/kubernetes/objects.ts';
import { systemRandom } from '../../../../host/random.ts';
import { MemoryKubernetes, refusal } from '../../../fakes/memory-kubernetes.ts';
import { RecordingLog } from '../../../support/authority-replica.ts';
import { reported } from '../../../support/fleet-instances.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const never = new AbortController().signal;
const TTL_MS = 24 * 3_600_000;
const ISSUER = 'aa';

class Cluster {
  readonly api = new MemoryKubernetes();
  readonly clock = new ManualClock();
  readonly log = new RecordingLog();
  readonly #t: TestContext;

  constructor(t: TestContext) {
    this.#t = t;
  }

  replica(replica: string) {
    const { api, clock, log } = this;
    const random = systemRandom;
    const active = { phase: 'active', notAfterMs: clock.now() + 30 * TTL_MS } as const;
    let known: KnownTrust = { sequence: 5, issuers: [{ id: ISSUER, ...active }] };
    const trust = () => known;
    const read = (sequence: number, id = ISSUER): void => {
      known = { sequence, issuers: [{ id, ...active }] };
    };
    const name = reportName(replica);
    const local = new Fleet({ maxInstances: 1_000, trust, log });
    const pods = new PodTracker({ api, clock, random, log });
    const peers = new PeerReports({ api, namespace: 'kedge', own: name, clock, random, log });
    const fleet = new ClusterFleet({
      cluster: 'c1',
      local,
      pods,
      peers,
      trust,
      spiffeIdOf: ({ serviceAccount }) => `spiffe://example.org/sa/${serviceAccount}`,
      maxSvidTtlMs: TTL_MS,
      clock,
    });
    const publisher = new ReportPublisher({
      api,
      namespace: 'kedge',
      name,
      replica,
      instances: () => fleet.toTell(),
      trust: () => trustMark(known),
      named: (instance) => !pods.pods.has(instance.id),
      clock,
      random,
      log,
    });
    const stop = new AbortController();
    const running = Promise.all([
      pods.run(() => fleet.unlabelled(), stop.signal),
      peers.run(stop.signal),
      publisher.run(stop.signal),
    ]);
    const end = async (): Promise<void> => {
      stop.abort();
      await running;
    };
    this.#t.after(end);
    const agent = (podUid: string, podName = `pod-${podUid}`) => {
      const instance = {
        cluster: 'c1',
        namespace: 'shop',
        serviceAccount: 'cart',
        podName,
        podUid,
        nodeName: undefined,
        tokenExpiresAtMs: Infinity,
      };
      const session = local.connect(instance, 'spiffe://example.org/sa/cart', clock.now());
      return {
        report: (sequence: number) =>
          session.report(reported(sequence, ISSUER, clock.now() + TTL_MS), clock.now()),
        close: () => session.close(clock.now()),
      };
    };
    return { fleet, local, pods, peers, publisher, read, end, agent, name };
  }

  /** A pod that carries the agent; gives its UID. */
  async pod(
    name: string,
    labels: Record<string, string> = { 'kedge.io/injected': 'true' },
    phase = 'Running',
  ) {
    const draft = {
      metadata: { namespace: 'shop', name, labels },
      spec: { serviceAccountName: 'cart' },
      status: { phase },
    };
    const { metadata } = await this.api.create(POD, draft, { signal: never });
    return metadata.uid!;
  }

  async relabelPod(name: string, labels: Record<string, string>): Promise<void> {
    const pod = await this.api.get(POD, { namespace: 'shop', name }, { signal: never });
    await this.api.replace(POD, { ...pod, metadata: { ...pod.metadata, labels } }, { signal: never });
  }

  async deletePod(name: string): Promise<void> {
    await this.api.delete(POD, { namespace: 'shop', name }, { signal: never });
  }

  live(fleet: ClusterFleet): readonly string[] {
    return fleet
      .instances()
      .filter((instance) => isLive(instance, this.clock.now()))
      .map(({ podName }) => podName)
      .toSorted();
  }

  /** Live instances that do not hold bundle 5. */
  stragglers(fleet: ClusterFleet): number {
    const coverage = coverageOf(fleet.instances(), this.clock.now());
    return stragglersOf(coverage, { bundleSequence: 5, authorityKeyId: ISSUER }).length;
  }
}

describe('the fleet of a cluster', () => {
  it('is put together anew when something changed, and only then', async (t) => {
    const cluster = new Cluster(t);
    const uid = await cluster.pod('cart-1');
    const [a, b] = [cluster.replica('ca-0'), cluster.replica('ca-1')];
    await cluster.clock.advance(20_000);
    const seen = [b.fleet.instances()];
    assert.equal(b.fleet.instances(), seen[0]);
    a.agent(uid, 'cart-1').report(5);
    await cluster.clock.advance(20_000);
    seen.push(b.fleet.instances());
    await cluster.pod('cart-2');
    await cluster.clock.advance(1_000);
    seen.push(b.fleet.instances());
    b.agent(uid, 'cart-1').report(5);
    seen.push(b.fleet.instances());
    await cluster.deletePod('cart-2');
    await cluster.clock.advance(1_000);
    seen.push(b.fleet.instances());
    assert.equal(new Set(seen).size, 5);
    assert.equal(b.fleet.instances(), seen.at(-1));
  });

  it('is not complete before pods and reports of others were read, and is after', async (t) => {
    const cluster = new Cluster(t);
    cluster.api.fault = ({ resource }) =>
      resource === 'pods' ? { before: refusal('kubernetes_unreachable') } : null;
    const { fleet } = cluster.replica('ca-0');
    await cluster.clock.advance(30_000);
    assert.equal(fleet.complete, false);
    cluster.api.fault = () => null;
    await cluster.clock.advance(30_000);
    assert.equal(fleet.complete, true);
  });

  it('is not complete before the replica knows what it signed before a crash', async (t) => {
    const cluster = new Cluster(t);
    const { fleet, local } = cluster.replica('ca-0');
    local.awaitHistory('the audit log was not read yet');
    await cluster.clock.advance(20_000);
    assert.equal(fleet.unknown, 'the audit log was not read yet');
    local.remember([]);
    assert.equal(fleet.complete, true);
  });

  it('sees a pod that never reported as missing, and no more once it is gone', async (t) => {
    const cluster = new Cluster(t);
    await cluster.pod('cart-1');
    await cluster.pod('cart-2');
    await cluster.pod('plain', {});
    const { fleet } = cluster.replica('ca-0');
    await cluster.clock.advance(1_000);
    assert.deepEqual(cluster.live(fleet), ['cart-1', 'cart-2']);
    assert.equal(cluster.stragglers(fleet), 2);
    await cluster.deletePod('cart-1');
    await cluster.clock.advance(1_000);
    assert.deepEqual(cluster.live(fleet), ['cart-2']);
  });

  it('stops counting an instance that reported, and whose pod is gone, at once', async (t) => {
    const cluster = new Cluster(t);
    const uid = await cluster.pod('cart-1');
    const { fleet, agent } = cluster.replica('ca-0');
    await cluster.clock.advance(1_000);
    const { report } = agent(uid, 'cart-1');
    report(5);
    assert.equal(cluster.stragglers(fleet), 0);
    assert.deepEqual(cluster.live(fleet), ['cart-1']);
    await cluster.deletePod('cart-1');
    await cluster.clock.advance(1_000);
    assert.deepEqual(cluster.live(fleet), [], 'although its stream is still open');
  });

  it('goes on counting a pod that only lost its label: it runs, whatever the watch says', async (t) => {
    const cluster = new Cluster(t);
    const uid = await cluster.pod('cart-1');
    const { fleet, agent } = cluster.replica('ca-0');
    await cluster.clock.advance(1_000);
    const { report, close } = agent(uid, 'cart-1');
    report(4);
    close();
    assert.equal(cluster.stragglers(fleet), 1);
    await cluster.relabelPod('cart-1', {});
    await cluster.clock.advance(1_000);
    assert.equal(cluster.stragglers(fleet), 1, 'a gate must not open over it');
    await cluster.relabelPod('cart-1', { 'kedge.io/injected': 'true' });
    await cluster.clock.advance(1_000);
    assert.deepEqual(cluster.live(fleet), ['cart-1']);
    await cluster.deletePod('cart-1');
    await cluster.clock.advance(1_000);
    assert.deepEqual(cluster.live(fleet), []);
  });

  it('counts a pod that nobody tells of any more until somebody could look', async (t) => {
    const cluster = new Cluster(t);
    await cluster.pod('cart-1');
    const { fleet } = cluster.replica('ca-0');
    await cluster.clock.advance(1_000);
    cluster.api.fault = ({ verb }) => (verb === 'get' ? { before: refusal('kubernetes_unreachable') } : null);
    await cluster.deletePod('cart-1');
    await cluster.clock.advance(60_000);
    assert.deepEqual(cluster.live(fleet), ['cart-1']);
    cluster.api.fault = () => null;
    await cluster.clock.advance(15_000);
    assert.deepEqual(cluster.live(fleet), []);
  });

  it('tells a pod from the one of the same name before it', async (t) => {
    const cluster = new Cluster(t);
    const first = await cluster.pod('cart-0');
    const { fleet, agent } = cluster.replica('ca-0');
    await cluster.clock.advance(1_000);
    agent(first, 'cart-0').report(5);
    await cluster.deletePod('cart-0');
    await cluster.pod('cart-0');
    // Both happen before the API server lets the replica list again.
    cluster.api.compact();
    await cluster.clock.advance(60_000);
    assert.deepEqual(cluster.live(fleet), ['cart-0']);
    assert.equal(cluster.stragglers(fleet), 1, 'the new one has not reported');
  });

  it('knows what agents hold that are connected to another replica', async (t) => {
    const cluster = new Cluster(t);
    const uid = await cluster.pod('cart-1');
    const [a, b] = [cluster.replica('ca-0'), cluster.replica('ca-1')];
    await cluster.clock.advance(1_000);
    a.agent(uid, 'cart-1').report(5);
    assert.deepEqual([cluster.stragglers(a.fleet), cluster.stragglers(b.fleet)], [0, 1]);
    await cluster.clock.advance(20_000);
    assert.deepEqual([cluster.stragglers(a.fleet), cluster.stragglers(b.fleet)], [0, 0]);
  });

  it('follows an agent from one replica to another, with the newest of what it said', async (t) => {
    const cluster = new Cluster(t);
    const uid = await cluster.pod('cart-1');
    const [a, b, c] = [cluster.replica('ca-0'), cluster.replica('ca-1'), cluster.replica('ca-2')];
    await cluster.clock.advance(1_000);
    const first = a.agent(uid, 'cart-1');
    first.report(5);
    await cluster.clock.advance(20_000);
    first.close();
    await cluster.clock.advance(1_000);
    // Its pod restarted its agent, which holds an older bundle again.
    b.agent(uid, 'cart-1').report(4);
    await cluster.clock.advance(40_000);
    for (const { fleet } of [a, b, c]) assert.equal(cluster.stragglers(fleet), 1);
  });

  it('is not complete while another replica gives its agents another bundle, or SVIDs of another issuer', async (t) => {
    const cluster = new Cluster(t);
    const [a, b] = [cluster.replica('ca-0'), cluster.replica('ca-1')];
    await cluster.clock.advance(20_000);
    assert.equal(a.fleet.complete, true);
    for (const [sequence, issuer] of [
      [6, ISSUER],
      [6, 'bb'],
    ] as const) {
      a.read(sequence, issuer);
      assert.match(a.fleet.unknown, /not known to have the newest trust state: ca-1/);
      await cluster.clock.advance(60_000);
      assert.equal(a.fleet.complete, false, 'however long it takes');
      b.read(sequence, issuer);
      assert.equal(a.fleet.complete, false, 'it has to say so');
      await cluster.clock.advance(20_000);
      assert.equal(a.fleet.complete, true);
    }
  });

  it('waits for no replica that has said that it serves nobody any more', async (t) => {
    const cluster = new Cluster(t);
    const [a, b] = [cluster.replica('ca-0'), cluster.replica('ca-1')];
    await cluster.clock.advance(20_000);
    a.read(6);
    await b.end();
    await cluster.clock.advance(1_000);
    assert.equal(a.fleet.complete, false, 'killed, for all that is known');
    await b.publisher.end(never);
    await cluster.clock.advance(1_000);
    assert.equal(a.fleet.complete, true);
  });

  it('keeps what a replica told for a while after it was killed, then lets go', async (t) => {
    const cluster = new Cluster(t);
    const uid = await cluster.pod('cart-1');
    const [a, b] = [cluster.replica('ca-0'), cluster.replica('ca-1')];
    await cluster.clock.advance(1_000);
    a.agent(uid, 'cart-1').report(5);
    await cluster.clock.advance(20_000);
    await a.end();
    assert.equal(cluster.stragglers(b.fleet), 0);
    await cluster.clock.advance(1_000_000);
    assert.equal(cluster.stragglers(b.fleet), 1, 'nobody has heard of it since');
    await cluster.clock.advance(6_000_000);
    assert.equal(cluster.api.stored(CONFIG_MAP, { namespace: 'kedge', name: a.name }), undefined, 'removed');
    assert.ok(cluster.api.stored(CONFIG_MAP, { namespace: 'kedge', name: b.name }) !== undefined);
  });

  it('lets go as soon of one whose clock was ahead: nothing was written later than it was seen', async (t) => {
    const cluster = new Cluster(t);
    const { peers } = cluster.replica('ca-0');
    const writtenAtMs = cluster.clock.now() + 10 * 3_600_000;
    const report = encodeReplicaReport(
      { replica: 'ahead', writtenAtMs, trust: null, ended: false, instances: [] },
      () => false,
    );
    const draft = {
      metadata: { namespace: 'kedge', name: 'kedge-fleet-ahead', labels: FLEET_REPORT_LABELS },
      binaryData: { [FLEET_REPORT_KEY]: Buffer.from(report).toString('base64') },
    };
    await cluster.api.create(CONFIG_MAP, draft, { signal: never });
    await cluster.clock.advance(1_000);
    assert.equal(peers.replicas, 1);
    await cluster.clock.advance(1_000_000);
    assert.equal(peers.replicas, 0);
  });

  it('finds out by asking that a pod without the label is gone', async (t) => {
    const cluster = new Cluster(t);
    const uid = await cluster.pod('by-hand', {});
    const { fleet, agent } = cluster.replica('ca-0');
    await cluster.clock.advance(1_000);
    const { report, close } = agent(uid, 'by-hand');
    report(5);
    close();
    await cluster.clock.advance(120_000);
    assert.deepEqual(cluster.live(fleet), ['by-hand'], 'it is there');
    await cluster.deletePod('by-hand');
    cluster.api.fault = ({ verb }) => (verb === 'get' ? { before: refusal('kubernetes_unreachable') } : null);
    await cluster.clock.advance(120_000);
    assert.deepEqual(cluster.live(fleet), ['by-hand'], 'nobody could look');
    cluster.api.fault = () => null;
    await cluster.clock.advance(120_000);
    assert.deepEqual(cluster.live(fleet), []);
  });

  it('is not complete while a report of another replica cannot be read, which is logged and never trusted', async (t) => {
    const cluster = new Cluster(t);
    const uid = await cluster.pod('cart-1');
    const [a, b] = [cluster.replica('ca-0'), cluster.replica('ca-1')];
    await cluster.clock.advance(1_000);
    a.agent(uid, 'cart-1').report(5);
    await cluster.clock.advance(20_000);
    assert.equal(b.fleet.complete, true);
    const ref = { namespace: 'kedge', name: a.name };
    const { resourceVersion: _, ...metadata } = cluster.api.stored(CONFIG_MAP, ref)!.metadata;
    for (const broken of [{ report: 'AAAA' }, { report: 17 }, {}, null]) {
      await cluster.api.replace(CONFIG_MAP, { metadata, binaryData: broken }, { signal: never });
      await cluster.clock.advance(1_000);
      assert.deepEqual([b.fleet.complete, cluster.stragglers(b.fleet)], [false, 1]);
    }
    assert.ok(cluster.log.events.includes('fleet.peer_report_refused'));
    await cluster.clock.advance(400_000);
    assert.deepEqual(
      [b.fleet.complete, cluster.stragglers(b.fleet)],
      [true, 0],
      'its replica has written it anew',
    );
  });
});

describe('the reports of a replica', () => {
  const writes = (cluster: Cluster): number =>
    cluster.api.count('create', 'configmaps') + cluster.api.count('replace', 'configmaps');

  it('are written at most once in some seconds, whatever a thousand agents say', async (t) => {
    const cluster = new Cluster(t);
    const { agent } = cluster.replica('ca-0');
    const agents = Array.from({ length: 1_000 }, (_, i) => agent(`u${i}`));
    for (let sequence = 1; sequence <= 5; sequence += 1) {
      for (const { report } of agents) {
        report(sequence);
      }
      await cluster.clock.advance(12_000);
    }
    assert.ok(writes(cluster) <= 12, `${writes(cluster)} writes in a minute`);
  });

  it('are written every few minutes when only the ends of SVIDs change', async (t) => {
    const cluster = new Cluster(t);
    const { agent } = cluster.replica('ca-0');
    const { report } = agent('u1');
    report(5);
    await cluster.clock.advance(20_000);
    const before = writes(cluster);
    for (let i = 0; i < 360; i += 1) {
      report(5);
      await cluster.clock.advance(10_000);
    }
    const hourly = writes(cluster) - before;
    assert.ok(hourly >= 10 && hourly <= 13, `${hourly} writes in an hour`);
  });

  it('go on by themselves after an outage of the API server, which is logged once', async (t) => {
    const cluster = new Cluster(t);
    const uid = await cluster.pod('cart-1');
    const [a, b] = [cluster.replica('ca-0'), cluster.replica('ca-1')];
    await cluster.clock.advance(1_000);
    cluster.api.fault = () => ({ before: refusal('kubernetes_unreachable') });
    cluster.api.endWatches();
    a.agent(uid, 'cart-1').report(5);
    await cluster.clock.advance(300_000);
    assert.equal(b.fleet.complete, false);
    assert.equal(cluster.stragglers(b.fleet), 1);
    cluster.api.fault = () => null;
    await cluster.clock.advance(150_000);
    assert.equal(cluster.stragglers(b.fleet), 0);
    assert.equal(cluster.log.of('fleet.report_failed').length, 2, 'once by each replica');
  });

  it('are under a name that the API takes, whatever the replica is called', () => {
    assert.equal(reportName('kedge-ca-7d9f-x2'), 'kedge-fleet-kedge-ca-7d9f-x2');
    assert.equal(reportName('My_Host'), 'kedge-fleet-my-host');
    const long = reportName('x'.repeat(250).concat('-----'));
    assert.match(long, /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/);
    assert.ok(long.length <= 253);
  });
});
