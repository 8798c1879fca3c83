/** Replicas of the lifecycle on one trust state in the Kubernetes API, with no leader. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { KubernetesTrustStore } from '../../../../ca/store/kubernetes-trust-store.ts';
import type { TrustStore } from '../../../../ca/store/trust-store.ts';
import { silentLog } from '../../../../host/log.ts';
import { toHex } from '../../../../pki/bytes.ts';
import { MemoryKubernetes, type MemoryFault, refusal } from '../../../fakes/memory-kubernetes.ts';
import { type Replica, TestTrustDomain, until } from '../../../support/authority-replica.ts';

const DAY = 24 * 3_600_000;
const where = { namespace: 'kedge', name: 'kedge-trust-state' };

class ClusterTrustDomain extends TestTrustDomain {
  readonly api = new MemoryKubernetes();

  override openStore(): TrustStore {
    return new KubernetesTrustStore({ api: this.api, where, clock: this.clock, log: silentLog });
  }

  async startAll(count: number): Promise<readonly Replica[]> {
    const replicas = Array.from({ length: count }, () => this.replica());
    await Promise.all(replicas.map((replica) => this.start(replica)));
    return replicas;
  }

  /** Time passes until the active issuer has been replaced, and everybody has seen that. */
  async renew(replicas: readonly Replica[]): Promise<void> {
    const before = issuerOf(replicas[0]!);
    await this.pass(21 * DAY);
    await this.settleAll(replicas, () =>
      replicas.every((replica) => issuerOf(replica) !== null && issuerOf(replica) !== before),
    );
  }

  /** Lets everybody work, and time pass for those who back off, until `holds`. */
  async settleAll(replicas: readonly Replica[], holds: () => boolean): Promise<void> {
    for (let round = 0; round < 200 && !holds(); round += 1) {
      for (let turn = 0; turn < 200; turn += 1) await new Promise((resolve) => setImmediate(resolve));
      if (!holds()) await this.clock.advance(1_000);
    }
    assert.ok(
      holds(),
      `it never came to pass: ${replicas.map(({ engine }) => engine.health().reason).join('; ')}`,
    );
  }
}

const issuerOf = ({ engine }: Replica): string | null => engine.signingIssuer()?.issuer.id ?? null;

/** All keys that were made and are not in the state are destroyed, and none that is. */
async function assertNoKeyLeftOver(domain: ClusterTrustDomain, replicas: readonly Replica[]): Promise<void> {
  const state = await domain.stored();
  const held = new Set(
    [...state.anchors, ...state.issuers].flatMap(({ key }) => (key === null ? [] : [key.id])),
  );
  for (const { keys } of replicas) {
    for (const id of keys.generated) assert.equal(keys.destroyed.has(id), !held.has(id), id);
  }
}

describe('three replicas of the lifecycle in a cluster', () => {
  it('that start at once on nothing make one anchor and one issuer, and all sign with it', async (t) => {
    const domain = new ClusterTrustDomain(t);
    const replicas = await domain.startAll(3);
    const views = replicas.map(({ engine }) => engine.current());
    assert.equal(new Set(views.map(({ bundle }) => bundle.x509Authorities.map(toHex).join())).size, 1);
    assert.equal(new Set(replicas.map(issuerOf)).size, 1);
    const { sequence, anchors, issuers } = await domain.stored();
    assert.deepEqual([sequence, anchors.length, issuers.length], [1, 1, 1]);
    await domain.settleAll(replicas, () => replicas.every(({ engine }) => !engine.health().degraded));
    await assertNoKeyLeftOver(domain, replicas);
  });

  it('replace the issuer once each time, whoever is first', async (t) => {
    const domain = new ClusterTrustDomain(t);
    const replicas = await domain.startAll(3);
    const seen = new Set([issuerOf(replicas[0]!)]);
    for (let round = 0; round < 4; round += 1) {
      await domain.renew(replicas);
      await domain.settleAll(replicas, () => new Set(replicas.map(issuerOf)).size === 1);
      seen.add(issuerOf(replicas[0]!));
    }
    assert.equal(seen.size, 5, 'each renewal gave one issuer to all');
    assert.equal((await domain.stored()).anchors.length, 1);
  });

  const storms: readonly { readonly name: string; readonly fault: (n: number) => MemoryFault }[] = [
    { name: 'refuses', fault: (n) => (n % 3 === 0 ? { before: refusal('kubernetes_unavailable') } : null) },
    {
      name: 'stores and reports as failed',
      fault: (n) => (n % 3 === 0 ? { after: refusal('kubernetes_unreachable') } : null),
    },
    {
      name: 'refuses, or stores and reports as failed,',
      fault: (n) =>
        n % 2 === 0
          ? null
          : n % 4 === 1
            ? { before: refusal('kubernetes_throttled') }
            : { after: refusal('kubernetes_unreachable') },
    },
  ];
  for (const { name, fault } of storms) {
    it(`agree on one issuer with an API server that ${name} every few calls`, async (t) => {
      const domain = new ClusterTrustDomain(t);
      let calls = 0;
      domain.api.fault = ({ verb, resource }) => {
        if (resource !== 'secrets' || verb === 'watch' || verb === 'list') return null;
        calls += 1;
        return fault(calls);
      };
      const replicas = await domain.startAll(3);
      await domain.renew(replicas);
      domain.api.fault = () => null;
      await domain.settleAll(replicas, () => new Set(replicas.map(issuerOf)).size === 1);
      const { anchors, issuers } = await domain.stored();
      assert.equal(anchors.length, 1);
      assert.equal(issuers.filter(({ phase }) => phase === 'active').length, 1);
    });
  }

  it('go on with two when one is killed at any call, which loses nothing', async (t) => {
    for (let kill = 1; kill <= 12; kill += 1) {
      const domain = new ClusterTrustDomain(t);
      const [victim, ...others] = [domain.replica(), domain.replica(), domain.replica()] as const;
      // The victim's calls are told from those of others by their number, as all start in one order.
      let calls = 0;
      let killed = false;
      domain.api.fault = () => {
        calls += 1;
        if (calls !== kill) return null;
        killed = true;
        void victim.engine.stop();
        return kill % 2 === 0
          ? { before: refusal('kubernetes_unreachable') }
          : { after: refusal('kubernetes_unreachable') };
      };
      const stop = new AbortController();
      domain.start(victim, stop.signal).catch(() => undefined);
      await until(() => killed || issuerOf(victim) !== null);
      stop.abort();
      await Promise.all(others.map((replica) => domain.start(replica)));
      assert.equal(new Set(others.map(issuerOf)).size, 1, `killed at call ${kill}`);
      const { anchors, issuers } = await domain.stored();
      assert.equal(anchors.length, 1, `killed at call ${kill}`);
      assert.equal(issuers.filter(({ phase }) => phase === 'active').length, 1);
    }
  });
});
