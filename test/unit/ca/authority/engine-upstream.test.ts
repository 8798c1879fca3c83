/** The authority engine under an upstream authority that is not our own: it follows that, and never signs ahead of the fleet. */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import type { KeyHandle } from '../../../../ca/keys/key-manager.ts';
import { DEFAULT_LIFECYCLE_SETTINGS } from '../../../../ca/authority/lifecycle-settings.ts';
import type { TrustState } from '../../../../ca/authority/trust-state.ts';
import type { UpstreamAuthority } from '../../../../ca/upstream/upstream-authority.ts';
import { systemRandom } from '../../../../host/random.ts';
import { KedgeError } from '../../../../pki/kedge-error.ts';
import { Secret } from '../../../../pki/secret.ts';
import { ExternalUpstream, GivingUpstream } from '../../../fakes/external-upstream.ts';
import {
  type Replica,
  TestTrustDomain,
  until,
  WatchedKeyManager,
} from '../../../support/authority-replica.ts';
import { makeAnchor, makeIssuer, type TestCa } from '../../../support/certificates.ts';
import { coverageOfAll } from '../../../support/coverage.ts';

const DAY = 86_400_000;

const phases = ({ anchors }: TrustState) => anchors.map(({ upstream, phase }) => `${upstream} ${phase}`);

/** A trust domain under an upstream of that kind, and a fleet of one that holds what is said. */
async function setUp(t: TestContext) {
  const domain = new TestTrustDomain(t);
  const lifetimes = () => ({
    notBeforeMs: domain.clock.now() - DAY,
    notAfterMs: domain.clock.now() + 1_000 * DAY,
  });
  const root = () => makeAnchor(lifetimes());
  const start = async (
    upstream: UpstreamAuthority | 'self',
    more: object = {},
    coverage = coverageOfAll(),
  ): Promise<Replica> => {
    const replica = domain.replica(upstream === 'self' ? more : { upstream, ...more });
    replica.coverage = coverage;
    await domain.start(replica);
    return replica;
  };
  /** What the one instance of the fleet holds from now on. */
  const holds = async (replica: Replica, bundleSequence: number, authorityKeyId: string): Promise<void> => {
    const svidNotAfterMs = domain.clock.now() + DAY;
    replica.coverage = coverageOfAll({ id: '1', bundleSequence, authorityKeyId, svidNotAfterMs });
    await domain.clock.advance(2_000);
  };
  const follows = (replica: Replica) =>
    holds(replica, replica.engine.current().bundle.sequence, replica.engine.signingIssuer()?.issuer.id ?? '');
  return { domain, root, lifetimes, start, holds, follows };
}

const anchorOf = (replica: Replica): string => replica.engine.signingIssuer()?.issuer.anchorId ?? '';

describe('an engine under an external upstream', () => {
  it('begins with the anchor that the upstream has, and has its issuers minted there', async (t) => {
    const { root, start } = await setUp(t);
    const upstream = new ExternalUpstream('vault', await root());
    const replica = await start(upstream);
    const { state } = replica.engine.current();
    assert.deepEqual([phases(state), upstream.minted], [['vault active'], 1]);
    assert.equal(state.anchors[0]?.key, null);
  });

  it('takes another root there into the bundle, and signs nothing under it before the fleet has followed', async (t) => {
    const { domain, root, start, holds, follows } = await setUp(t);
    const upstream = new ExternalUpstream('vault', await root());
    const replica = await start(upstream);
    await follows(replica);
    const before = anchorOf(replica);
    const issuer = replica.engine.signingIssuer()?.issuer.id ?? '';
    upstream.replace(await root());
    await until(() => replica.engine.current().state.anchors.length === 2);
    await domain.clock.advance(60_000);
    assert.deepEqual(phases(replica.engine.current().state), ['vault active', 'vault prepared']);
    assert.deepEqual([anchorOf(replica), upstream.minted], [before, 1]);
    assert.match(
      replica.engine.health().reason,
      /^rotation 1: waiting for 1 of 1 instances to acknowledge bundle 2/,
    );
    const { bundle } = replica.engine.current();
    assert.deepEqual([bundle.sequence, bundle.x509Authorities.length], [2, 2]);

    await holds(replica, 2, issuer);
    await until(() => anchorOf(replica) !== before);
    assert.deepEqual(phases(replica.engine.current().state), ['vault retired', 'vault active']);
    await follows(replica);
    await until(() => replica.engine.current().bundle.sequence === 3);
    await follows(replica);
    await until(() => replica.engine.current().state.rotation === null);
    const { state } = replica.engine.current();
    assert.deepEqual([phases(state), state.pastRotations[0]?.outcome], [['vault active'], 'completed']);
    assert.deepEqual(await domain.stored(), state);
  });

  it('looks at once when the upstream refuses to mint under the old root', async (t) => {
    const { domain, root, start, follows } = await setUp(t);
    const upstream = new ExternalUpstream('vault', await root());
    // Somebody there said nothing: no watch yields, only the refusal tells.
    const quiet = Object.assign(upstream, { watch: async function* () {} });
    const replica = await start(quiet);
    await follows(replica);
    upstream.replace(await root());
    const { looks } = upstream;
    await domain.pass(20 * DAY + 10_000);
    await until(() => replica.log.of('authority_engine.failed').length > 0);
    await until(() => upstream.looks > looks);
    await domain.clock.advance(30_000);
    await until(() => (replica.engine.knownState?.rotation ?? null) !== null);
    assert.deepEqual(phases(replica.engine.current().state), ['vault active', 'vault prepared']);
  });

  it('goes on with what it has while the upstream is away, says so, and recovers by itself', async (t) => {
    const { domain, root, start, follows } = await setUp(t);
    const upstream = new ExternalUpstream('vault', await root());
    const replica = await start(upstream);
    await follows(replica);
    upstream.fault = new KedgeError('upstream_refused', 'Vault is sealed');
    await domain.clock.advance(301_000);
    await until(() => replica.engine.health().degraded);
    const health = replica.engine.health();
    assert.deepEqual([health.ok, health.degraded], [true, true]);
    assert.match(
      health.reason,
      /issuer [0-9a-f]{8} is replaced at .*; upstream authority \(vault\): Vault is sealed/,
    );
    upstream.fault = null;
    await domain.clock.advance(61_000);
    assert.equal(replica.engine.health().degraded, false);
  });

  it('refuses an anchor that is none, keeps what it has, and says why', async (t) => {
    const { domain, root, start, follows } = await setUp(t);
    const upstream = new ExternalUpstream('vault', await root());
    const replica = await start(upstream);
    await follows(replica);
    upstream.replace(await makeIssuer(await root()));
    await domain.clock.advance(1_000);
    await until(() => replica.engine.health().degraded);
    assert.match(replica.engine.health().reason, /upstream authority \(vault\): /);
    assert.equal(replica.engine.current().state.anchors.length, 1);
  });
});

describe('an engine whose configuration names another upstream', () => {
  it('goes over from our own anchor by a rotation, without a moment under an anchor that is not known', async (t) => {
    const { root, start, holds, follows } = await setUp(t);
    const own = await start('self');
    await follows(own);
    const before = own.engine.signingIssuer()?.issuer;
    await own.engine.stop();

    const upstream = new ExternalUpstream('vault', await root());
    const replica = await start(upstream, {}, own.coverage);
    await until(() => replica.engine.current().state.anchors.length === 2);
    assert.deepEqual(phases(replica.engine.current().state), ['self active', 'vault prepared']);
    assert.equal(replica.engine.signingIssuer()?.issuer.id, before?.id);
    await holds(replica, 2, before?.id ?? '');
    await until(() => anchorOf(replica) !== before?.anchorId);
    await follows(replica);
    await until(() => replica.engine.current().bundle.sequence === 3);
    await follows(replica);
    await until(() => replica.engine.current().state.rotation === null);
    assert.deepEqual(phases(replica.engine.current().state), ['vault active']);
    assert.ok(replica.keys.destroyed.has(before?.key.id ?? ''));
  });

  it('has issuers of the old anchor minted by the old upstream while that is still configured', async (t) => {
    const { domain, root, start, follows } = await setUp(t);
    const former = new ExternalUpstream('disk', await root());
    const first = await start(former);
    await first.engine.stop();
    const settings = {
      ...DEFAULT_LIFECYCLE_SETTINGS,
      rotation: { ...DEFAULT_LIFECYCLE_SETTINGS.rotation, automatic: false },
    };
    const upstream = new ExternalUpstream('vault', await root());
    const replica = await start(upstream, { formerUpstreams: [former], settings });
    await follows(replica);
    const issuer = replica.engine.signingIssuer()?.issuer.id;
    assert.match(replica.engine.health().reason, /is held back: .*\(rotation\.automatic\)/);
    await domain.pass(20 * DAY + 10_000);
    await until(() => replica.engine.signingIssuer()?.issuer.id !== issuer);
    assert.deepEqual([former.minted, upstream.minted], [2, 0]);
    assert.deepEqual(phases(replica.engine.current().state), ['disk active']);
  });
});

describe('an engine under an upstream that gives issuers with their keys', () => {
  /** Takes keys as they are, and knows them again. */
  class TakingKeyManager extends WatchedKeyManager {
    readonly #taken = new Map<string, TestCa['signer']>();

    async take({ signer }: TestCa): Promise<KeyHandle> {
      const id = `given-${this.#taken.size + 1}`;
      this.#taken.set(id, signer);
      const handle = { id, manager: 'store', algorithm: 'ec-p256' } as const;
      return { ...handle, spki: signer.spki, reference: Uint8Array.of(1) };
    }

    override async signer(handle: KeyHandle) {
      return this.#taken.get(handle.id) ?? (await super.signer(handle));
    }
  }

  it('signs with them, takes the next as it comes, and holds back one under a root that is not known yet', async (t) => {
    const { domain, root, lifetimes, start, holds, follows } = await setUp(t);
    const keys = new TakingKeyManager({
      trustDomain: 'example.org',
      sealingKey: new Secret(domain.sealingKey),
      random: systemRandom,
    });
    const first = await root();
    const given = async (anchor: TestCa) =>
      makeIssuer(anchor, { ...lifetimes(), notAfterMs: domain.clock.now() + 90 * DAY });
    const upstream = new GivingUpstream(first, await given(first), (ca) => keys.take(ca));
    const replica = await start(upstream, { keys });
    const spki = () => replica.engine.signingIssuer()?.signer.spki;
    assert.equal(spki(), upstream.issuer.signer.spki);
    await follows(replica);

    upstream.issuer = await given(first);
    upstream.replace(first);
    await until(() => spki() === upstream.issuer.signer.spki);
    const issuer = replica.engine.signingIssuer()?.issuer.id ?? '';
    await follows(replica);

    const second = await root();
    upstream.issuer = await given(second);
    upstream.replace(second);
    await until(() => replica.engine.current().state.anchors.length === 2);
    await domain.clock.advance(60_000);
    assert.equal(replica.engine.signingIssuer()?.issuer.id, issuer, 'it is held back');
    await holds(replica, 2, issuer);
    await until(() => spki() === upstream.issuer.signer.spki);
    await follows(replica);
    await until(() => replica.engine.current().bundle.sequence === 3);
    assert.deepEqual(phases(replica.engine.current().state), ['disk active']);
  });
});
