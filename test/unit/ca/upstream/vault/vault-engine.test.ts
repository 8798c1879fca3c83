/** The authority engine with its root in Vault: it follows that, goes on without it, and never signs ahead of the fleet. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import type { TrustState } from '../../../../../ca/authority/trust-state.ts';
import { SelfSignedUpstream } from '../../../../../ca/upstream/self-signed-upstream.ts';
import { systemRandom } from '../../../../../host/random.ts';
import { equalBytes } from '../../../../../pki/bytes.ts';
import { FakeVault } from '../../../../fakes/fake-vault.ts';
import type { VaultFlavour } from '../../../../fakes/vault/vault-answer.ts';
import { type Replica, TestTrustDomain, trustDomain, until } from '../../../../support/authority-replica.ts';
import { coverageOfAll } from '../../../../support/coverage.ts';
import { temporaryFolder } from '../../../../support/temporary-folder.ts';
import { vaultUpstream } from '../../../../support/vault.ts';
import { root } from '../../../../support/vault-bed.ts';
import { documentedPolicy } from '../../../../support/vault-policy.ts';

const DAY = 86_400_000;
type Names = Readonly<Record<string, unknown>>;
const phases = ({ anchors }: TrustState) => anchors.map(({ upstream, phase }) => `${upstream} ${phase}`);

async function setUp(t: TestContext, flavour: VaultFlavour = 'openbao-2.6') {
  const domain = new TestTrustDomain(t);
  const { clock } = domain;
  const vault = async (name: string) => {
    const fake = await FakeVault.start({ flavour, now: () => clock.now() });
    t.after(() => fake.close().catch(() => undefined));
    const pki = fake.mountPki('pki');
    await pki.generateRoot(root(name) as Names);
    fake.policy('kedge', documentedPolicy());
    const tokenFile = join(temporaryFolder(t), 'token');
    writeFileSync(tokenFile, fake.token({ policies: ['kedge'], ttlSeconds: null }));
    const access = vaultUpstream({ address: fake.url, login: { kind: 'token', tokenFile }, clock });
    t.after(() => access.close());
    return { fake, pki, upstream: access.upstream, mints: () => fake.count(/sign-intermediate$/) };
  };
  /** What the one instance of the fleet holds from now on: all that there is. */
  const follows = async (
    replica: Replica,
    bundleSequence?: number,
    authorityKeyId?: string,
  ): Promise<void> => {
    const { bundle, signingIssuer } = replica.engine.current();
    replica.coverage = coverageOfAll({
      id: '1',
      bundleSequence: bundleSequence ?? bundle.sequence,
      authorityKeyId: authorityKeyId ?? signingIssuer?.issuer.id ?? '',
      svidNotAfterMs: clock.now() + DAY,
    });
    await clock.advance(2_000);
  };
  return { domain, clock, vault, follows };
}

const rootOf = (replica: Replica): Uint8Array | undefined => {
  const { state, signingIssuer } = replica.engine.current();
  return state.anchors.find(({ id }) => id === signingIssuer?.issuer.anchorId)?.certificate;
};
const isUnder = (replica: Replica, der: Uint8Array): boolean =>
  equalBytes(rootOf(replica) ?? new Uint8Array(), der);

describe('an engine under Vault', () => {
  for (const flavour of ['vault-1.8', 'openbao-2.6'] as const) {
    it(`begins with its root, and has issuers replaced there in time (${flavour})`, async (t) => {
      const { domain, vault, follows } = await setUp(t, flavour);
      const { upstream, pki, mints } = await vault('A');
      const replica = domain.replica({ upstream });
      await domain.start(replica);
      assert.deepEqual(phases(replica.engine.current().state), ['vault active']);
      assert.ok(isUnder(replica, pki.default!.der));
      await follows(replica);
      const first = replica.engine.signingIssuer()?.issuer.id;
      await domain.pass(20 * DAY + 60_000);
      await until(() => replica.engine.signingIssuer()?.issuer.id !== first);
      assert.equal(mints(), 2);
    });
  }

  it('starts without Vault when it has an issuer that is valid, though the next one is due', async (t) => {
    const { domain, clock, vault } = await setUp(t);
    const { fake, upstream, mints } = await vault('A');
    const before = domain.replica({ upstream });
    await domain.start(before);
    await before.engine.stop();
    await domain.pass(25 * DAY);
    const { port } = fake;
    await fake.close();
    const replica = domain.replica({ upstream });
    await replica.engine.start(new AbortController().signal);
    const health = replica.engine.health();
    assert.deepEqual([health.ok, health.degraded], [true, true]);
    assert.match(health.reason, /no answer from Vault/);
    await fake.listen(port);
    const first = replica.engine.signingIssuer()?.issuer.id;
    for (let i = 0; i < 10 && replica.engine.signingIssuer()?.issuer.id === first; i += 1) {
      await clock.advance(30_000);
      await new Promise((resolve) => setImmediate(resolve));
      await until(() => clock.sleeping > 0);
    }
    await until(() => replica.engine.signingIssuer()?.issuer.id !== first);
    assert.equal(mints(), 2);
  });

  it('follows another root of its mount, and signs nothing under it before the fleet has', async (t) => {
    const { domain, clock, vault, follows } = await setUp(t);
    const { upstream, pki, mints, fake } = await vault('A');
    const replica = domain.replica({ upstream });
    await domain.start(replica);
    await follows(replica);
    const issuer = replica.engine.signingIssuer()?.issuer.id ?? '';
    const [rootA] = pki.issuers;
    const rootB = await pki.generateRoot(root('B', { issuer_name: 'root-b' }) as Names);
    pki.defaultId = rootB.id;
    await clock.advance(61_000);
    await until(() => replica.engine.current().state.anchors.length === 2);
    assert.deepEqual(phases(replica.engine.current().state), ['vault active', 'vault prepared']);
    assert.deepEqual([mints(), isUnder(replica, rootA!.der)], [1, true]);
    await follows(replica, 2, issuer);
    await until(() => isUnder(replica, rootB.der));
    await follows(replica);
    await until(() => replica.engine.current().bundle.sequence === 3);
    await follows(replica);
    await until(() => replica.engine.current().state.rotation === null);
    assert.deepEqual(phases(replica.engine.current().state), ['vault active']);
    assert.deepEqual(
      fake.seen.map(({ line }) => line).filter((line) => line.endsWith('sign-intermediate')),
      ['POST pki/root/sign-intermediate', 'POST pki/root/sign-intermediate'],
    );
  });

  it('takes over from the embedded anchor, and from another Vault', async (t) => {
    const { domain, vault, follows } = await setUp(t);
    const self = domain.replica();
    await domain.start(self);
    await follows(self);
    await self.engine.stop();
    const completes = async (replica: Replica, der: Uint8Array): Promise<void> => {
      const issuer = replica.engine.signingIssuer()?.issuer.id ?? '';
      const { sequence } = replica.engine.current().bundle;
      replica.coverage = coverageOfAll({
        id: '1',
        bundleSequence: sequence,
        authorityKeyId: issuer,
        svidNotAfterMs: 9e15,
      });
      await until(() => replica.engine.current().state.anchors.length === 2);
      assert.ok(!isUnder(replica, der));
      await follows(replica, undefined, issuer);
      await until(() => isUnder(replica, der));
      await follows(replica);
      await until(() => replica.engine.current().state.anchors.length === 1);
      await follows(replica);
      await until(() => replica.engine.current().state.rotation === null);
    };
    const [one, other] = [await vault('A'), await vault('B')];
    const former = (keys: Replica['keys']) =>
      new SelfSignedUpstream({
        trustDomain,
        keys,
        keyAlgorithm: 'ec-p256',
        random: systemRandom,
        uriNameConstraints: false,
      });
    const first = domain.replica({ upstream: one.upstream, formerUpstreams: [former(self.keys)] });
    await domain.start(first);
    await completes(first, one.pki.default!.der);
    await first.engine.stop();
    const second = domain.replica({ upstream: other.upstream, formerUpstreams: [former(self.keys)] });
    await domain.start(second);
    await completes(second, other.pki.default!.der);
    assert.deepEqual(phases(second.engine.current().state), ['vault active']);
    assert.deepEqual([one.mints(), other.mints()], [1, 1]);
  });
});
