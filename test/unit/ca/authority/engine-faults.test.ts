/** The authority engine when something around it fails. Faults of a swap come in pairs: not persisted, and persisted but reported failed. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { encodeTrustState } from '../../../../ca/authority/trust-state-codec.ts';
import type { TrustState } from '../../../../ca/authority/trust-state.ts';
import { keysOf } from '../../../../ca/authority/trust-state-rules.ts';
import type { MintedIssuer } from '../../../../ca/upstream/upstream-authority.ts';
import { toHex } from '../../../../pki/bytes.ts';
import { parseCertificate } from '../../../../pki/certificate.ts';
import { KedgeError } from '../../../../pki/kedge-error.ts';
import { parseCsr } from '../../../../pki/csr.ts';
import { never, type Replica, TestTrustDomain, until } from '../../../support/authority-replica.ts';
import { ext, HOUR_MS, makeAnchor, makeIssuer, newSigner } from '../../../support/certificates.ts';
import { expectRejection } from '../../../support/expect-code.ts';
import { SWAP_FAULTS } from '../../../support/faulty-trust-store.ts';
import { settle } from '../../../support/manual-clock.ts';

const MINUTE = 60_000;
const DAY = 24 * HOUR_MS;

const failures = (replica: Replica) => replica.log.of('authority_engine.failed');

/** One anchor, one active issuer, and of all the keys that were ever made only theirs in use. */
function assertOneOfEach(state: TrustState, ...replicas: readonly Replica[]): void {
  assert.deepEqual(
    [state.sequence, state.anchors.map(({ phase }) => phase), state.issuers.map(({ phase }) => phase)],
    [1, ['active'], ['active']],
  );
  assert.deepEqual(state.discardedKeys, []);
  const kept = new Set(keysOf(state).map(({ id }) => id));
  for (const { keys } of replicas) {
    for (const id of keys.destroyed) assert.ok(!kept.has(id), `${id} is in use, and was destroyed`);
  }
}

describe('a swap whose outcome is unknown', () => {
  // The four swaps of a first start: anchor prepared, anchor active, issuer prepared, issuer active.
  for (const fault of SWAP_FAULTS) {
    for (const nth of [1, 2, 3, 4]) {
      it(`is looked into, and the engine goes on: swap ${nth} of a first start, ${fault}`, async (t) => {
        const domain = new TestTrustDomain(t);
        const replica = domain.replica();
        replica.store.failSwap(nth, fault);
        await domain.start(replica);
        assert.equal(failures(replica).length, 1);
        const state = await domain.stored();
        assertOneOfEach(state, replica);
        assert.deepEqual(replica.engine.current().state, state);
        await replica.engine.signingIssuer()!.signer.sign(Buffer.from('x'));
        // The key that a lost swap would have brought is destroyed once it is certain that the swap is lost.
        const kept = new Set(keysOf(state).map(({ id }) => id));
        const lost = replica.keys.generated.filter((id) => !kept.has(id));
        assert.equal(lost.length, Number(fault === 'not persisted' && (nth === 1 || nth === 3)));
        for (const id of lost) assert.ok(replica.keys.destroyed.has(id));
      });

      it(`may be the last thing that a process does: swap ${nth} of a first start, ${fault}`, async (t) => {
        const domain = new TestTrustDomain(t);
        const crashed = domain.replica();
        crashed.store.failSwap(nth, fault);
        const crash = new AbortController();
        const started = crashed.engine.start(crash.signal);
        started.catch(() => undefined);
        await until(() => failures(crashed).length === 1);
        crash.abort();
        await assert.rejects(started);
        const next = domain.replica();
        await domain.start(next);
        assertOneOfEach(await domain.stored(), next);
        const again = crashed.keys.generated.length + next.keys.generated.length - 2;
        assert.equal(
          again,
          Number(fault === 'not persisted' && (nth === 1 || nth === 3)),
          'it minted in vain',
        );
      });
    }

    // The two swaps of a renewal, then the two of the end of the old issuer.
    for (const nth of [1, 2, 3, 4]) {
      it(`is looked into while an issuer is renewed and removed: swap ${nth}, ${fault}`, async (t) => {
        const domain = new TestTrustDomain(t);
        const replica = domain.replica();
        await domain.start(replica);
        const old = replica.engine.signingIssuer()!.issuer;
        replica.store.failSwap(replica.store.swaps + nth, fault);
        await domain.pass(20 * DAY + 10_000);
        const renewed = until(() => (replica.engine.signingIssuer()?.issuer.id ?? old.id) !== old.id);
        await domain.attend(replica, renewed);
        await domain.pass(DAY + 5 * MINUTE + 40_000);
        const { log, engine } = replica;
        const removed = until(
          () => log.events.includes('issuer.removed') && engine.current().state.discardedKeys.length === 0,
        );
        await domain.attend(replica, removed);
        assert.equal(failures(replica).length, 1);
        assertOneOfEach(await domain.stored(), replica);
        assert.ok(replica.keys.destroyed.has(old.key.id));
      });
    }
  }
});

describe('a trust store that is away', () => {
  it('does not keep the engine from signing, until the issuer ends; then all goes on by itself', async (t) => {
    const domain = new TestTrustDomain(t);
    const replica = domain.replica();
    await domain.start(replica);
    const view = replica.engine.current();
    replica.store.away = true;
    await domain.pass(20 * DAY + 10_000);
    await until(() => failures(replica).length > 0);
    await domain.clock.advance(60_000);
    assert.equal(replica.engine.current(), view);
    const health = replica.engine.health();
    assert.deepEqual([health.ok, health.degraded], [true, true]);
    await domain.pass(11 * DAY);
    assert.equal(replica.engine.signingIssuer(), null);
    assert.equal(replica.engine.health().ok, false);
    assert.equal(replica.engine.current().bundle, view.bundle, 'the bundle is served on');
    replica.store.away = false;
    const recovered = until(() => replica.engine.signingIssuer() !== null);
    await domain.clock.advance(30_000);
    await domain.attend(replica, recovered);
    await until(() => !replica.engine.health().degraded);
    assert.equal(replica.log.of('authority_engine.recovered').length, 1);
  });

  it('is noticed although nothing is due: the watch ends, and health says so since when', async (t) => {
    const domain = new TestTrustDomain(t);
    const [replica, other] = [domain.replica(), domain.openStore()];
    await domain.start(replica);
    replica.store.away = true;
    const state = await domain.stored();
    const { version } = (await other.read(never))!;
    await other.swap(version, encodeTrustState(state), never);
    await domain.clock.advance(1_000);
    await until(() => replica.engine.health().degraded);
    assert.ok(replica.log.of('trust_store.watch_failed').length > 0);
    assert.match(replica.engine.health().reason, /^since 2026-01-01T00:00:01.000Z: the connection/);
  });

  it('is given up by its deadline when it does not answer at all', async (t) => {
    const domain = new TestTrustDomain(t);
    const replica = domain.replica({ storeTimeoutMs: 5_000 });
    replica.store.hanging = true;
    const started = replica.engine.start(never);
    await until(() => replica.store.reads === 1);
    await domain.clock.advance(5_000);
    await until(() => failures(replica).length === 1);
    assert.equal(failures(replica)[0]?.['code'], 'deadline_exceeded');
    replica.store.hanging = false;
    await domain.attend(replica, Promise.all([started, domain.clock.advance(500)]));
  });
});

describe('a trust store that went back in time', () => {
  it('is not followed: neither to an older bundle, nor to another one of the same sequence', async (t) => {
    const domain = new TestTrustDomain(t);
    const replica = domain.replica();
    await domain.start(replica);
    const store = domain.openStore();
    const good = await domain.stored();
    const anchor = await makeAnchor({
      notBeforeMs: domain.clock.now() - HOUR_MS,
      notAfterMs: domain.clock.now() + DAY,
    });
    const table: readonly { name: string; of: (state: TrustState) => TrustState }[] = [
      {
        name: 'another bundle of the same sequence',
        of: (state) => ({ ...state, anchors: [...state.anchors, foreign(anchor.der, state)] }),
      },
      {
        name: 'a later bundle',
        of: (state) => ({ ...state, sequence: 5, anchors: [...state.anchors, foreign(anchor.der, state)] }),
      },
      { name: 'the bundle before that', of: (state) => ({ ...state, sequence: 4 }) },
    ];
    const outcomes: Record<string, boolean> = {};
    for (const { name, of } of table) {
      const { version } = (await store.read(never))!;
      const next = of(good);
      await store.swap(version, encodeTrustState(next), never);
      for (let i = 0; i < 3; i += 1) await domain.clock.advance(30_000);
      outcomes[name] = replica.engine.current().bundle.x509Authorities.length === next.anchors.length;
    }
    assert.deepEqual(outcomes, {
      'another bundle of the same sequence': false,
      'a later bundle': true,
      'the bundle before that': false,
    });
    assert.ok(failures(replica).every(({ code }) => code === 'bundle_sequence_regressed'));
    assert.ok(replica.engine.health().ok && replica.engine.health().degraded);
  });

  it('is not followed when it is empty, and no second root of trust is made', async (t) => {
    const domain = new TestTrustDomain(t);
    const replica = domain.replica();
    await domain.start(replica);
    replica.store.emptied = true;
    await domain.pass(20 * DAY + 10_000);
    await until(() => failures(replica).length > 0);
    assert.match(
      String(failures(replica)[0]?.['message']),
      /the trust store is empty, and the bundle 1 is known/,
    );
    assert.equal(replica.upstream.anchorsAsked, 1);
    assert.ok(replica.engine.health().ok);
  });
});

describe('an upstream authority that fails', () => {
  it('is asked again no sooner than it said', async (t) => {
    const domain = new TestTrustDomain(t);
    const replica = domain.replica();
    replica.upstream.onMintIssuer = () =>
      Promise.reject(new KedgeError('upstream_refused', 'sealed', { retryAfterMs: 5_000 }));
    const started = replica.engine.start(never);
    await until(() => failures(replica).length === 1);
    await domain.clock.advance(4_999);
    assert.equal(replica.upstream.issuersAsked, 1);
    replica.upstream.onMintIssuer = null;
    await domain.attend(replica, Promise.all([started, domain.clock.advance(501)]));
    assertOneOfEach(await domain.stored(), replica);
  });

  it('that offers no anchor is upstream_refused', async (t) => {
    const domain = new TestTrustDomain(t);
    const replica = domain.replica();
    replica.upstream.onNewAnchor = async () => null;
    const giveUp = new AbortController();
    const started = expectRejection('upstream_refused', replica.engine.start(giveUp.signal));
    await until(() => failures(replica).length === 1);
    giveUp.abort();
    await started;
  });

  it('that does not answer is given up by the deadline, and its late answer is not used', async (t) => {
    const domain = new TestTrustDomain(t);
    const replica = domain.replica({ mintTimeoutMs: 5_000 });
    const late = Promise.withResolvers<MintedIssuer>();
    replica.upstream.onMintIssuer = () => late.promise;
    const started = replica.engine.start(never);
    await until(() => replica.upstream.issuersAsked === 1);
    await domain.clock.advance(5_000);
    await until(() => failures(replica).length === 1);
    assert.equal(failures(replica)[0]?.['code'], 'deadline_exceeded');
    replica.upstream.onMintIssuer = null;
    await domain.attend(replica, Promise.all([started, domain.clock.advance(500)]));
    late.reject(new KedgeError('upstream_refused', 'too late'));
    await settle();
    const abandoned = replica.keys.generated[1]!;
    assert.ok(replica.keys.destroyed.has(abandoned));
    assertOneOfEach(await domain.stored(), replica);
  });

  it('does not keep the engine from signing with what it has', async (t) => {
    const domain = new TestTrustDomain(t);
    const replica = domain.replica();
    await domain.start(replica);
    const signing = replica.engine.signingIssuer();
    replica.upstream.onMintIssuer = () => Promise.reject(new KedgeError('upstream_refused', 'sealed'));
    await domain.pass(20 * DAY + 10_000);
    await until(() => failures(replica).length > 0);
    assert.equal(replica.engine.signingIssuer(), signing);
    assert.deepEqual([replica.engine.health().ok, replica.engine.health().degraded], [true, true]);
  });

  const bad: readonly {
    name: string;
    mint: (own: {
      anchor: Uint8Array;
      csr: Uint8Array;
      nowMs: number;
      good: () => Promise<MintedIssuer>;
    }) => Promise<MintedIssuer>;
    message: RegExp;
  }[] = [
    { name: 'no certificate at all', mint: async () => ({ chain: [] }), message: /of another key/ },
    {
      name: 'bytes that are no certificate',
      mint: async () => ({ chain: [Uint8Array.of(1, 2, 3)] }),
      message: /not valid DER/,
    },
    {
      name: 'a certificate for another key',
      mint: async ({ nowMs }) => ({
        chain: [
          (await makeIssuer(await makeAnchor(), { notBeforeMs: nowMs - 1_000, notAfterMs: nowMs + HOUR_MS }))
            .der,
        ],
      }),
      message: /of another key than the one that is to sign/,
    },
    {
      name: 'the anchor instead of an issuer',
      mint: async ({ anchor }) => ({ chain: [anchor] }),
      message: /has the trust anchor in it/,
    },
    {
      name: 'an issuer of another anchor, for the right key',
      mint: async ({ csr, nowMs }) => {
        const times = { notBeforeMs: nowMs - 1_000, notAfterMs: nowMs + HOUR_MS };
        const { spki } = parseCsr(csr);
        const holder = { ...newSigner(), spki };
        return { chain: [(await makeIssuer(await makeAnchor(times), { ...times, signer: holder })).der] };
      },
      message: /does not follow from the next/,
    },
    {
      name: 'a chain with something that does not belong there',
      mint: async ({ good, anchor }) => ({ chain: [...(await good()).chain, anchor] }),
      message: /has the trust anchor in it/,
    },
  ];
  for (const { name, mint, message } of bad) {
    it(`is not trusted: it gives ${name}`, async (t) => {
      const domain = new TestTrustDomain(t);
      const replica = domain.replica();
      const { upstream } = replica;
      upstream.onMintIssuer = (request) =>
        mint({
          anchor: request.anchor.certificate,
          csr: request.csr,
          nowMs: domain.clock.now(),
          good: () => {
            upstream.onMintIssuer = null;
            return upstream.mintIssuer(request, never);
          },
        });
      const giveUp = new AbortController();
      const started = expectRejection('authority_unusable', replica.engine.start(giveUp.signal));
      await until(() => failures(replica).length === 1);
      giveUp.abort();
      assert.match((await started).message, message);
      assert.deepEqual((await domain.stored()).issuers, []);
      const issuerKeys = replica.keys.generated.filter((id) => id.startsWith('issuer-'));
      assert.deepEqual([...replica.keys.destroyed], issuerKeys, 'its key was kept');
    });
  }

  it('is not trusted: it gives an issuer that lives longer than asked', async (t) => {
    const domain = new TestTrustDomain(t);
    const replica = domain.replica();
    const { upstream } = replica;
    upstream.onMintIssuer = (request) => {
      upstream.onMintIssuer = null;
      return upstream.mintIssuer({ ...request, notAfterMs: request.notAfterMs + 10 * MINUTE }, never);
    };
    const giveUp = new AbortController();
    const started = expectRejection('authority_unusable', replica.engine.start(giveUp.signal));
    await until(() => failures(replica).length === 1);
    giveUp.abort();
    assert.match((await started).message, /longer than asked/);
  });

  it('is not trusted: it gives an anchor of another trust domain, or with another key than it says', async (t) => {
    for (const which of ['key', 'trust domain']) {
      const domain = new TestTrustDomain(t);
      const replica = domain.replica();
      const times = { notBeforeMs: domain.clock.now() - 1_000, notAfterMs: domain.clock.now() + DAY };
      const foreign = await makeAnchor(
        which === 'key' ? times : { ...times, extensions: { san: ext.uris('spiffe://other.example') } },
      );
      const key = await replica.keys.generate('anchor-x', 'ec-p256');
      replica.upstream.onNewAnchor = async () => ({
        certificate: foreign.der,
        key: which === 'key' ? key : null,
      });
      const giveUp = new AbortController();
      const started = expectRejection('authority_unusable', replica.engine.start(giveUp.signal));
      await until(() => failures(replica).length === 1);
      giveUp.abort();
      await started;
      assert.equal(replica.keys.destroyed.has('anchor-x'), which === 'key');
      assert.equal(replica.store.swaps, 0);
    }
  });
});

describe('what else may fail', () => {
  it('is a key that cannot be destroyed: it is tried until it can', async (t) => {
    const domain = new TestTrustDomain(t);
    const replica = domain.replica();
    await domain.start(replica);
    const old = replica.engine.signingIssuer()!.issuer;
    await domain.pass(20 * DAY + 10_000);
    await until(() => replica.engine.signingIssuer()?.issuer.id !== old.id);
    replica.keys.destroyFault = new KedgeError('key_not_found', 'the token was pulled out');
    await domain.pass(DAY + 5 * MINUTE + 20_000);
    await until(() => failures(replica).length > 0);
    assert.equal((await domain.stored()).discardedKeys[0]?.id, old.key.id);
    assert.ok(replica.engine.health().ok);
    replica.keys.destroyFault = null;
    await domain.clock.advance(30_000);
    await until(() => replica.engine.current().state.discardedKeys.length === 0);
    assert.ok(replica.keys.destroyed.has(old.key.id));
  });

  it('is an issuer of another replica whose key does not open here: the bundle is taken, and nothing is signed', async (t) => {
    const domain = new TestTrustDomain(t);
    const [a, b] = [domain.replica(), domain.replica()];
    await domain.start(a);
    await domain.start(b);
    const state = await domain.stored();
    const [issuer] = state.issuers;
    await b.engine.stop();
    // The document is whole, the sealed key in it is not.
    const reference = Uint8Array.from(issuer!.key.reference);
    reference[20] = reference[20]! ^ 1;
    const spoiled = { ...issuer!, id: issuer!.id, key: { ...issuer!.key, reference } };
    const store = domain.openStore();
    const { version } = (await store.read(never))!;
    await store.swap(version, encodeTrustState({ ...state, issuers: [spoiled] }), never);
    const c = domain.replica();
    const error = await expectRejection('key_sealed', c.engine.start(never));
    assert.match(error.hint ?? '', /altered/);
    assert.equal(c.engine.current().bundle.sequence, 1);
    assert.equal(c.engine.signingIssuer(), null);
  });

  it('is a listener that throws: the others hear of it all the same', async (t) => {
    const domain = new TestTrustDomain(t);
    const replica = domain.replica();
    const heard: number[] = [];
    const silenced = replica.engine.onChange(() => heard.push(1));
    replica.engine.onChange(() => {
      throw new Error('broken');
    });
    replica.engine.onChange(() => heard.push(3));
    silenced();
    await domain.start(replica);
    assert.deepEqual(heard, [3, 3, 3, 3]);
    assert.equal(replica.log.of('trust_listener.failed').length, 4);
    assert.equal(failures(replica).length, 0);
  });

  it('never puts a key into the log', async (t) => {
    const domain = new TestTrustDomain(t);
    const replica = domain.replica();
    replica.store.failSwap(2, 'not persisted');
    await domain.start(replica);
    const text = JSON.stringify(replica.log.lines);
    for (const { reference } of keysOf(await domain.stored())) {
      assert.ok(!text.includes(Buffer.from(reference).toString('base64')));
      assert.ok(!text.includes(toHex(reference)));
    }
  });
});

/** Another anchor, as a state would hold it. */
function foreign(certificate: Uint8Array, state: TrustState): TrustState['anchors'][number] {
  const { subjectKeyId, notBeforeMs, notAfterMs } = parseCertificate(certificate);
  return {
    ...state.anchors[0]!,
    id: toHex(subjectKeyId!),
    phase: 'prepared',
    certificate,
    notBeforeMs,
    notAfterMs,
    key: null,
  };
}
