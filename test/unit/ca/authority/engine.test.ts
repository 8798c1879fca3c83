import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { DEFAULT_LIFECYCLE_SETTINGS } from '../../../../ca/authority/lifecycle-settings.ts';
import { encodeTrustState } from '../../../../ca/authority/trust-state-codec.ts';
import type { TrustState } from '../../../../ca/authority/trust-state.ts';
import type { TrustView } from '../../../../ca/authority/trust-view.ts';
import type { TrustStore } from '../../../../ca/store/trust-store.ts';
import { schemeOf } from '../../../../pki/algorithms.ts';
import { parseCertificate } from '../../../../pki/certificate.ts';
import { verifySignature } from '../../../../pki/public-key.ts';
import { KedgeError } from '../../../../pki/kedge-error.ts';
import { TrustDomain } from '../../../../pki/spiffe-id.ts';
import { never, TestTrustDomain, until } from '../../../support/authority-replica.ts';
import { coverageOfAll } from '../../../support/coverage.ts';
import { expectCode, expectRejection } from '../../../support/expect-code.ts';
import { settle } from '../../../support/manual-clock.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const phasesOf = ({ issuers }: TrustState) => issuers.map(({ phase }) => phase);

/** Changes what a store holds, as another replica or an operator would. */
async function edit(
  store: TrustStore,
  change: (state: TrustState) => TrustState,
  domain: TestTrustDomain,
): Promise<void> {
  const state = await domain.stored();
  const { version } = (await store.read(never))!;
  await store.swap(version, encodeTrustState(change(state)), never);
}

describe('the start of an authority engine', () => {
  it('makes an anchor and an issuer where there are none, and then can sign', async (t) => {
    const domain = new TestTrustDomain(t);
    const replica = domain.replica();
    await domain.start(replica);
    const { state, bundle, signingIssuer } = replica.engine.current();
    assert.deepEqual([bundle.trustDomain, bundle.sequence], ['example.org', 1]);
    assert.deepEqual(bundle.x509Authorities, [state.anchors[0]?.certificate]);
    assert.deepEqual([state.anchors[0]?.phase, phasesOf(state)], ['active', ['active']]);
    assert.ok(signingIssuer !== null);
    assert.equal(signingIssuer, replica.engine.signingIssuer());
    assert.deepEqual(
      signingIssuer.chain,
      [state.issuers[0]?.certificate],
      'the anchor is no part of the chain',
    );
    const data = Buffer.from('data');
    const signature = await signingIssuer.signer.sign(data);
    const { spki } = parseCertificate(signingIssuer.issuer.certificate);
    assert.ok(verifySignature(schemeOf(signingIssuer.signer.algorithm), spki, data, signature, 'internal'));
    assert.deepEqual(await domain.stored(), state);
    assert.deepEqual(replica.log.events, [
      'trust_state.loaded',
      'anchor.activated',
      'issuer.prepared',
      'issuer.activated',
    ]);
  });

  it('goes on with what the store holds, mints nothing, and says what comes next', async (t) => {
    const domain = new TestTrustDomain(t);
    const first = domain.replica();
    await domain.start(first);
    const before = first.engine.current();
    await first.engine.stop();
    const second = domain.replica();
    await domain.start(second);
    assert.deepEqual(second.engine.current().state, before.state);
    assert.deepEqual(
      [second.upstream.anchorsAsked, second.upstream.issuersAsked, second.store.swaps],
      [0, 0, 0],
    );
    const { ok, degraded, reason } = second.engine.health();
    assert.deepEqual([ok, degraded], [true, false]);
    assert.match(reason, /^issuer [0-9a-f]{8} is replaced at 2026-01-21T/);
  });

  it('loads nothing that only minting needs when there is nothing to mint', async (t) => {
    const domain = new TestTrustDomain(t);
    const first = domain.replica();
    await domain.start(first);
    await first.engine.stop();
    const loaded = loadedByStart(domain);
    assert.ok(
      loaded.some((url) => url.endsWith('/ca/authority/engine.ts')),
      'the list of modules is broken',
    );
    assert.deepEqual(
      loaded.filter((url) => /@peculiar|pkijs|asn1js|authority-profile/.test(url)),
      [],
    );
  });

  it('shows nothing before it has read a state', async (t) => {
    const { engine } = new TestTrustDomain(t).replica();
    expectCode('issuer_unavailable', () => engine.current());
    assert.equal(engine.signingIssuer(), null);
    assert.deepEqual(engine.health(), { ok: false, degraded: false, reason: 'not started' });
  });

  it('refuses settings under which no fleet could live', (t) => {
    const domain = new TestTrustDomain(t);
    const settings = { ...DEFAULT_LIFECYCLE_SETTINGS, maxSvidTtlMs: 0 };
    expectCode('config_invalid', () => domain.replica({ settings }));
  });

  it('refuses the store of another trust domain, at once, and changes nothing', async (t) => {
    const domain = new TestTrustDomain(t);
    await domain.start(domain.replica());
    const before = await domain.stored();
    const other = domain.replica({ trustDomain: TrustDomain.parse('example.com') });
    const error = await expectRejection('trust_domain_mismatch', other.engine.start(never));
    assert.match(error.message, /"example.org", the config says "example.com"/);
    assert.deepEqual([await domain.stored(), other.store.swaps], [before, 0]);
    assert.equal(other.engine.health().ok, false);
  });

  it('refuses another sealing key, at once, and changes nothing', async (t) => {
    const domain = new TestTrustDomain(t);
    await domain.start(domain.replica());
    const other = domain.replica({ sealingKey: new Uint8Array(32) });
    await expectRejection('key_sealed', other.engine.start(never));
    assert.equal(other.store.swaps, 0);
    assert.equal(other.engine.signingIssuer(), null);
  });

  it('refuses a document that is no trust state, or a newer one, at once', async (t) => {
    for (const [document, code] of [
      ['{}', 'trust_state_invalid'],
      ['not JSON', 'trust_state_invalid'],
      ['{"schema":3}', 'store_newer_version'],
    ] as const) {
      const domain = new TestTrustDomain(t);
      await domain.openStore().swap(null, Buffer.from(document), never);
      const replica = domain.replica();
      await expectRejection(code, replica.engine.start(never));
      assert.equal(replica.store.swaps, 0);
    }
  });

  it('waits, where it is patient, for a document that is broken to be mended, and says so meanwhile', async (t) => {
    const domain = new TestTrustDomain(t);
    const first = domain.replica();
    await domain.start(first);
    await first.engine.stop();
    const store = domain.openStore();
    const { version, document } = (await store.read(never))!;
    const broken = await store.swap(version, Buffer.from('{}'), never);
    const replica = domain.replica({ patient: true });
    const started = replica.engine.start(never);
    await until(() => replica.log.of('authority_engine.failed').length === 1);
    assert.match(replica.engine.health().reason, /^since .*trust state/);
    await store.swap(broken, document, never);
    await domain.attend(replica, started);
    assert.equal(replica.engine.health().ok, true);
    assert.deepEqual(replica.engine.current().state, first.engine.current().state);
    assert.equal(replica.store.swaps, 0);
  });

  it('refuses a state in which nothing may sign, with the reason in words', async (t) => {
    const domain = new TestTrustDomain(t);
    const first = domain.replica();
    await domain.start(first);
    await first.engine.stop();
    await domain.pass(6 * 365 * DAY);
    const error = await expectRejection('issuer_unavailable', domain.replica().engine.start(never));
    assert.match(
      error.message,
      /no trust anchor may sign a new issuer: [0-9a-f]{8} is expired since 2030-12-31/,
    );
    assert.match(error.hint ?? '', /rotated/);
  });

  it('waits for a store that is away, with back-off, until it is back', async (t) => {
    const domain = new TestTrustDomain(t);
    const replica = domain.replica();
    replica.store.away = true;
    const started = replica.engine.start(never);
    await until(() => replica.log.of('authority_engine.failed').length === 1);
    const { ok, degraded, reason } = replica.engine.health();
    assert.deepEqual([ok, degraded], [false, true]);
    assert.match(reason, /since 2026-01-01T.*connection to the trust store was lost/);
    replica.store.away = false;
    await domain.attend(replica, Promise.all([started, domain.clock.advance(500)]));
    assert.deepEqual([replica.engine.health().ok, replica.engine.health().degraded], [true, false]);
    assert.deepEqual(replica.log.of('authority_engine.recovered').length, 1);
  });

  it('gives up when its signal aborts, with the last error rather than the reason', async (t) => {
    const domain = new TestTrustDomain(t);
    const replica = domain.replica();
    replica.store.away = true;
    const giveUp = new AbortController();
    const started = expectRejection('store_unavailable', replica.engine.start(giveUp.signal));
    await until(() => replica.log.of('authority_engine.failed').length === 1);
    giveUp.abort(new Error('too long'));
    await started;
    await settle();
    assert.equal(domain.clock.sleeping, 0);
  });

  it('is stopped without a trace, also when it is stopped twice', async (t) => {
    const domain = new TestTrustDomain(t);
    const replica = domain.replica();
    await domain.start(replica);
    await replica.engine.stop();
    await replica.engine.stop();
    await settle();
    assert.equal(domain.clock.sleeping, 0);
    assert.ok(
      replica.engine.signingIssuer() !== null,
      'what was issued under it is still served while draining',
    );
  });
});

describe('the life of issuers under a running engine', () => {
  it('is renewed in time, told to listeners, and the old one ends with its key', async (t) => {
    const domain = new TestTrustDomain(t);
    const replica = domain.replica();
    await domain.start(replica);
    const { engine, keys, log } = replica;
    const views: TrustView[] = [];
    engine.onChange((view) => views.push(view));
    const old = engine.signingIssuer()!;
    log.lines.length = 0;
    await domain.pass(20 * DAY + 10_000);
    await until(() => engine.signingIssuer()?.issuer.id !== old.issuer.id);
    await until(() => log.events.includes('issuer.activated'));
    assert.deepEqual(log.events, ['issuer.prepared', 'issuer.retired', 'issuer.activated']);
    assert.equal(views.at(-1), engine.current());
    assert.equal(engine.current().bundle.sequence, 1, 'an issuer is no part of the bundle');
    assert.ok(
      (await old.signer.sign(Buffer.from('x'))).length > 0,
      'whoever signs at this instant can end that',
    );
    await domain.pass(DAY + 5 * MINUTE + 20_000);
    await until(() => log.events.includes('issuer.removed'));
    assert.deepEqual([...keys.destroyed], [old.issuer.key.id]);
    await assert.rejects(async () => old.signer.sign(Buffer.from('x')), { code: 'key_not_found' });
    await until(() => engine.current().state.discardedKeys.length === 0);
    assert.deepEqual(phasesOf(await domain.stored()), ['active']);
  });

  it('waits with the end of an old one for live instances that hold SVIDs under it', async (t) => {
    const domain = new TestTrustDomain(t);
    const replica = domain.replica();
    await domain.start(replica);
    const old = replica.engine.signingIssuer()!.issuer;
    await domain.pass(20 * DAY + 10_000);
    await until(() => replica.engine.signingIssuer()?.issuer.id !== old.id);
    const svidNotAfterMs = domain.clock.now() + 5 * DAY;
    replica.coverage = coverageOfAll({
      id: 'pod',
      bundleSequence: 1,
      authorityKeyId: old.id,
      svidNotAfterMs,
    });
    await domain.pass(2 * DAY);
    await settle();
    assert.deepEqual(phasesOf(await domain.stored()), ['retired', 'active']);
    assert.match(
      replica.engine.health().reason,
      new RegExp(`retired issuer ${old.id.slice(0, 8)} is removed at 2026-01-26`),
    );
    replica.coverage = coverageOfAll();
    await domain.pass(2 * HOUR);
    await until(() => replica.log.events.includes('issuer.removed'));
  });

  it('ends at once when the clock jumps beyond its end, and another follows as soon as that is noticed', async (t) => {
    const domain = new TestTrustDomain(t);
    const replica = domain.replica();
    await domain.start(replica);
    const old = replica.engine.signingIssuer()!;
    domain.clock.jumpWall(31 * DAY);
    assert.equal(replica.engine.signingIssuer(), null);
    assert.equal(replica.engine.current().signingIssuer, null);
    assert.equal(replica.engine.current().bundle.sequence, 1);
    assert.equal(replica.engine.health().ok, false);
    domain.clock.jumpWall(-31 * DAY);
    assert.equal(replica.engine.signingIssuer(), old, 'the clock was wrong for a moment');
    await domain.pass(31 * DAY);
    await until(() => replica.engine.signingIssuer() !== null);
    assert.notEqual(replica.engine.signingIssuer()?.issuer.id, old.issuer.id);
  });

  it('lives through a clock that goes back before its begin, with another issuer', async (t) => {
    const domain = new TestTrustDomain(t);
    const replica = domain.replica();
    await domain.start(replica);
    const first = replica.engine.signingIssuer()!.issuer;
    await domain.pass(20 * DAY + 10_000);
    await until(() => replica.engine.signingIssuer()?.issuer.id !== first.id);
    const second = replica.engine.signingIssuer()!.issuer;
    domain.clock.jumpWall(-10 * DAY);
    assert.equal(replica.engine.signingIssuer(), null);
    await domain.clock.advance(10_000);
    await until(() => replica.engine.signingIssuer() !== null);
    const third = replica.engine.signingIssuer()!.issuer;
    assert.ok(![first.id, second.id].includes(third.id));
  });

  it('ends at once when it is tainted, and another follows', async (t) => {
    const domain = new TestTrustDomain(t);
    const replica = domain.replica();
    await domain.start(replica);
    const views: TrustView[] = [];
    replica.engine.onChange((view) => views.push(view));
    const old = replica.engine.signingIssuer()!.issuer;
    const taint = (state: TrustState): TrustState => ({
      ...state,
      issuers: state.issuers.map((issuer) => ({ ...issuer, taintedAtMs: domain.clock.now() })),
    });
    await edit(domain.openStore(), taint, domain);
    await domain.clock.advance(1_000);
    await until(() => (replica.engine.signingIssuer()?.issuer.id ?? old.id) !== old.id);
    assert.equal(views[0]?.signingIssuer, null, 'the tainted issuer could sign while another was minted');
    assert.ok(replica.log.events.includes('issuer.tainted'));
    assert.equal((await domain.stored()).issuers[0]?.phase, 'retired');
  });
});

describe('replicas on one store', () => {
  it('begin at the same time and end with one anchor and one issuer, all with the same view', async (t) => {
    const domain = new TestTrustDomain(t);
    const replicas = [domain.replica(), domain.replica(), domain.replica()];
    await Promise.all(replicas.map((replica) => domain.start(replica)));
    await domain.clock.advance(1_000);
    const state = await domain.stored();
    assert.deepEqual([state.anchors.length, phasesOf(state), state.sequence], [1, ['active'], 1]);
    const kept = new Set([state.anchors[0]!.key!.id, state.issuers[0]!.key.id]);
    for (const { engine, keys } of replicas) {
      await until(() => engine.signingIssuer()?.issuer.id === state.issuers[0]?.id);
      assert.deepEqual(engine.current().state, state);
      for (const id of keys.generated)
        assert.equal(keys.destroyed.has(id), !kept.has(id), `the fate of ${id}`);
    }
  });

  it('follow each other: what one does, the others sign with a moment later', async (t) => {
    const domain = new TestTrustDomain(t);
    const [a, b] = [domain.replica(), domain.replica()];
    await domain.start(a);
    await domain.start(b);
    const old = b.engine.signingIssuer()!;
    b.upstream.onMintIssuer = () => Promise.reject(new KedgeError('upstream_refused', 'not here'));
    await domain.pass(20 * DAY + 10_000);
    await until(() => a.engine.signingIssuer()?.issuer.id !== old.issuer.id);
    await domain.clock.advance(30_000);
    await until(() => b.engine.signingIssuer()?.issuer.id === a.engine.signingIssuer()?.issuer.id);
    await domain.pass(DAY + 5 * MINUTE + 20_000);
    await domain.clock.advance(30_000);
    await until(() => b.log.events.includes('issuer.removed'));
    await assert.rejects(async () => old.signer.sign(Buffer.from('x')), { code: 'key_not_found' });
  });

  it('go on when one of them, in the middle of minting, loses the race', async (t) => {
    const domain = new TestTrustDomain(t);
    const [a, b] = [domain.replica(), domain.replica()];
    await domain.start(a);
    await domain.start(b);
    const old = a.engine.signingIssuer()!.issuer.id;
    const gate = Promise.withResolvers<void>();
    const upstream = a.upstream;
    upstream.onMintIssuer = async (request) => {
      await gate.promise;
      upstream.onMintIssuer = null;
      return upstream.mintIssuer(request, never);
    };
    await domain.pass(20 * DAY + 10_000);
    await until(() => (b.engine.signingIssuer()?.issuer.id ?? old) !== old);
    gate.resolve();
    await until(() => a.engine.signingIssuer()?.issuer.id === b.engine.signingIssuer()?.issuer.id);
    assert.deepEqual(phasesOf(await domain.stored()), ['retired', 'active']);
    const lost = a.keys.generated.at(-1)!;
    await until(() => a.keys.destroyed.has(lost));
  });
});

/** The modules that a new process loads to start an engine on a store that holds all it needs. */
function loadedByStart(domain: TestTrustDomain): readonly string[] {
  const root = join(import.meta.dirname, '../../../..');
  const script = `
    import { registerHooks } from 'node:module';
    const loaded = [];
    registerHooks({ load: (url, context, next) => (loaded.push(url), next(url, context)) });
    const load = (file) => import(${JSON.stringify(root)} + '/' + file);
    const [{ AuthorityEngine }, { DEFAULT_LIFECYCLE_SETTINGS }, { NO_COVERAGE }] = await Promise.all(
      ['engine', 'lifecycle-settings', 'coverage'].map((name) => load('ca/authority/' + name + '.ts')));
    const { SqliteTrustStore } = await load('ca/store/sqlite-trust-store.ts');
    const { SealedKeyManager } = await load('ca/keys/sealed-key-manager.ts');
    const { SelfSignedUpstream } = await load('ca/upstream/self-signed-upstream.ts');
    const { systemRandom: random } = await load('host/random.ts');
    const { systemClock } = await load('host/clock.ts');
    const { silentLog: log } = await load('host/log.ts');
    const { Secret } = await load('pki/secret.ts');
    const { TrustDomain } = await load('pki/spiffe-id.ts');
    const trustDomain = TrustDomain.parse('example.org');
    const sealingKey = new Secret(Buffer.from(process.argv[2], 'hex'));
    const keys = new SealedKeyManager({ trustDomain: trustDomain.name, sealingKey, random });
    const store = new SqliteTrustStore({ path: process.argv[1], clock: systemClock });
    const upstream = new SelfSignedUpstream({ trustDomain, keys, keyAlgorithm: 'ec-p256', random, uriNameConstraints: false });
    const clock = { ...systemClock, now: () => ${domain.clock.now()} };
    const engine = new AuthorityEngine({ trustDomain, keys, upstream, random, issuerKeyAlgorithm: 'ec-p256', store,
      coverage: () => NO_COVERAGE, clock, log, settings: DEFAULT_LIFECYCLE_SETTINGS });
    await engine.start(new AbortController().signal);
    await engine.signingIssuer().signer.sign(Buffer.from('x'));
    await engine.stop();
    console.log(JSON.stringify(loaded));
  `;
  const child = spawnSync(
    process.execPath,
    ['--input-type=module', '-e', script, domain.path, Buffer.from(domain.sealingKey).toString('hex')],
    { encoding: 'utf8' },
  );
  assert.equal(child.status, 0, child.stderr);
  return JSON.parse(child.stdout) as string[];
}
