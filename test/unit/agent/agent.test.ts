import assert from 'node:assert/strict';
import { before, beforeEach, describe, it } from 'node:test';
import { Agent, type AgentOptions, CLOCK_SKEW_WARN_MS } from '../../../agent/agent.ts';
import { agentMetrics } from '../../../agent/agent-metrics.ts';
import { instantOf } from '../../../agent/deadline.ts';
import type { IdentitySource, IssuedIdentity } from '../../../agent/identity-source.ts';
import { drawRenewal, expiryOf } from '../../../agent/renewal.ts';
import { type BundleSnapshot, heldSnapshot } from '../../../agent/snapshot.ts';
import { type Log, silentLog } from '../../../host/log.ts';
import { MetricsRegistry } from '../../../host/metrics.ts';
import { Wakeup } from '../../../host/wakeup.ts';
import { KedgeError } from '../../../pki/kedge-error.ts';
import { bundleOf } from '../../fakes/fake-ca.ts';
import { FakeFeed, hang } from '../../fakes/fake-feed.ts';
import { fixedRandom } from '../../fakes/fixed-random.ts';
import { RecordingTrust } from '../../fakes/recording-trust.ts';
import { HOUR_MS, makeAnchor } from '../../support/certificates.ts';
import { ManualClock, settle } from '../../support/manual-clock.ts';
import { EXAMPLE_ORG, SnapshotFactory } from '../../support/snapshots.ts';

const START_MS = Date.UTC(2026, 0, 1);

/** A CA by the manual clock: gives SVIDs of an hour, or fails, as a test wants. */
class FakeSource implements IdentitySource {
  readonly #factory: SnapshotFactory;
  readonly #clock: ManualClock;
  attempts = 0;
  sequence = 1n;
  clockSkewMs = 0;
  failure: Error | null = null;
  hangs = false;

  constructor(factory: SnapshotFactory, clock: ManualClock) {
    this.#factory = factory;
    this.#clock = clock;
  }

  async issue(_held: BundleSnapshot | null, signal: AbortSignal): Promise<IssuedIdentity> {
    this.attempts += 1;
    if (this.hangs) return await hang(signal);
    if (this.failure !== null) throw this.failure;
    const svid = await this.#factory.svid({ nowMs: this.#clock.now(), lifetimeMs: HOUR_MS });
    const now = instantOf(this.#clock);
    const expiry = expiryOf(svid.notAfterMs, now);
    const renewal = drawRenewal({ now, expiry, caNowMs: now.wallMs, hint: undefined, fraction: 0 });
    const { clockSkewMs } = this;
    return { svid, bundle: this.#factory.bundle(this.sequence), expiry, renewal, clockSkewMs };
  }
}

describe('the agent', () => {
  let factory: SnapshotFactory;
  let clock: ManualClock;
  let source: FakeSource;
  let feed: FakeFeed;
  let agent: Agent;
  let registry: MetricsRegistry;
  let trust: RecordingTrust;
  let events: string[];

  before(async () => {
    factory = await SnapshotFactory.make(START_MS);
  });
  beforeEach(() => {
    clock = new ManualClock(START_MS);
    source = new FakeSource(factory, clock);
    feed = new FakeFeed();
    registry = new MetricsRegistry();
    [trust, events] = [new RecordingTrust(), []];
  });

  const log: Log = {
    ...silentLog,
    info: (event) => void events.push(event),
    warn: (event) => void events.push(event),
    error: (event) => void events.push(event),
  };
  /** Runs the agent for the length of a test. */
  const withAgent = async (test: () => Promise<void>, options: Partial<AgentOptions> = {}): Promise<void> => {
    const stop = new AbortController();
    agent = new Agent({
      source,
      feeds: [feed],
      reportWakeup: new Wakeup(),
      trustDomain: EXAMPLE_ORG,
      trust,
      agentVersion: '0.0.0',
      clock,
      random: fixedRandom(0.5),
      log,
      metrics: agentMetrics(registry, () => 0),
      ...options,
    });
    const running = agent.run(stop.signal);
    try {
      await settle();
      await test();
    } finally {
      stop.abort();
      await running;
    }
  };
  const published = (): string[] => feed.log.filter((line) => line !== 'close');
  const issuedSerials = (): string[] =>
    feed.snapshots.map(({ svid }) => Buffer.from(svid.serialNumber).toString('hex'));
  const runFor = async (ms: number): Promise<void> => {
    // In steps, so that signing, which takes real time, falls between the moves of the clock.
    for (let left = ms; left > 0; left -= 60_000) {
      await clock.advance(Math.min(left, 60_000));
      await settle();
    }
  };
  const phase = (): string => agent.state.phase;

  it('gets an identity at once, brings it to its feed, and tells whom it trusts', () =>
    withAgent(async () => {
      await settle();
      assert.equal(phase(), 'serving');
      assert.deepEqual(published(), ['publish 1']);
      assert.deepEqual(trust.sequences, [1n]);
      assert.equal(agent.report().bundleSequence, 1n);
    }));

  it('renews at its instant, once, and lets the old one go only when the feed has the new one', () =>
    withAgent(async () => {
      await settle();
      const old = feed.snapshots[0]?.svid.privateKey;
      assert.ok(old !== undefined);
      const gate = Promise.withResolvers<void>();
      feed.onPublish = () => gate.promise;
      await runFor(HOUR_MS / 2);
      assert.equal(source.attempts, 2);
      assert.ok(old.expose().length > 0);
      assert.equal(agent.report().svid?.notAfterMs, BigInt(START_MS + HOUR_MS));
      gate.resolve();
      await settle();
      assert.throws(() => old.expose(), /destroyed/);
      assert.deepEqual(published(), ['publish 1', 'publish 2']);
      assert.equal(new Set(issuedSerials()).size, 2);
      await runFor(60_000);
      assert.equal(source.attempts, 2);
    }));

  it('keeps the old key until the slowest feed has the new one', async () => {
    const slow = new FakeFeed('slow');
    await withAgent(
      async () => {
        await settle();
        const old = feed.snapshots[0]?.svid.privateKey;
        assert.ok(old !== undefined);
        const gate = Promise.withResolvers<void>();
        slow.onPublish = () => gate.promise;
        await runFor(HOUR_MS / 2);
        assert.deepEqual(published(), ['publish 1', 'publish 2']);
        assert.ok(old.expose().length > 0);
        gate.resolve();
        await settle();
        assert.throws(() => old.expose(), /destroyed/);
      },
      { feeds: [feed, slow] },
    );
  });

  it('lets no feed wait for another', async () => {
    const broken = new FakeFeed('broken');
    const slow = new FakeFeed('slow');
    broken.onPublish = () => {
      throw new KedgeError('hook_failed', 'no');
    };
    slow.onPublish = (_snapshot, signal) => hang(signal);
    await withAgent(
      async () => {
        await settle();
        assert.deepEqual(published(), ['publish 1']);
        const { svid, feeds } = agent.report();
        assert.equal(svid, undefined);
        assert.deepEqual(
          feeds.map(({ name, errorCode }) => [name, errorCode]),
          [
            ['fake', ''],
            ['broken', 'hook_failed'],
            ['slow', ''],
          ],
        );
      },
      { feeds: [feed, broken, slow] },
    );
  });

  it('is ready once each feed has something for its consumers, whether they take it or not', async () => {
    const gate = Promise.withResolvers<void>();
    feed.onPublish = () => gate.promise;
    const refused = new FakeFeed();
    refused.onPublish = (snapshot) => {
      const delivered = heldSnapshot(snapshot);
      refused.consumerList = [
        { name: 'hook', best: 'loaded', delivered, loaded: null, errorCode: 'hook_failed' },
      ];
      return Promise.reject(new KedgeError('hook_failed', 'the hook failed'));
    };
    await withAgent(
      async () => {
        await settle();
        assert.equal(phase(), 'serving');
        assert.equal(agent.unready, `the feed ${feed.name} has nothing yet`);
        gate.resolve();
        await settle();
        assert.equal(agent.unready, null);
        source.failure = new KedgeError('ca_unreachable', 'away');
        await runFor(HOUR_MS);
        assert.equal(agent.unready, 'the agent is expired');
      },
      { feeds: [feed, refused] },
    );
  });

  describe('while the CA is away', () => {
    it('goes on serving until the SVID expires, and never after', () =>
      withAgent(async () => {
        await settle();
        source.failure = new KedgeError('ca_unreachable', 'nobody there');
        await runFor(HOUR_MS - 1);
        assert.equal(phase(), 'serving');
        assert.deepEqual(published(), ['publish 1']);
        await runFor(1);
        assert.equal(phase(), 'expired');
        assert.deepEqual(published(), ['publish 1', 'withdraw']);
        assert.equal(agent.report().svid, undefined);
      }));

    it('tries again with full jitter, at most every 30 s', () =>
      withAgent(async () => {
        await settle();
        source.failure = new KedgeError('ca_unreachable', 'nobody there');
        await runFor(HOUR_MS / 2);
        const before = source.attempts;
        await runFor(600_000);
        const tries = source.attempts - before;
        assert.ok(tries >= 20 && tries <= 50, String(tries));
      }));

    it('tries more often the less is left of the SVID', () =>
      withAgent(async () => {
        await settle();
        source.failure = new KedgeError('ca_unreachable', 'nobody there');
        await runFor(HOUR_MS - 20_000);
        const before = source.attempts;
        await runFor(19_000);
        const tries = source.attempts - before;
        assert.ok(tries >= 10 && tries <= 40, String(tries));
      }));

    it('serves again as soon as the CA is back', () =>
      withAgent(async () => {
        await settle();
        source.failure = new KedgeError('ca_unreachable', 'nobody there');
        await runFor(2 * HOUR_MS);
        assert.equal(phase(), 'expired');
        source.failure = null;
        await runFor(30_000);
        assert.equal(phase(), 'serving');
        assert.deepEqual(published(), ['publish 1', 'withdraw', 'publish 2']);
      }));

    it('forgets the key when it has expired', () =>
      withAgent(async () => {
        await settle();
        const key = feed.snapshots[0]?.svid.privateKey;
        source.failure = new KedgeError('ca_unreachable', 'nobody there');
        await runFor(HOUR_MS);
        await settle();
        assert.throws(() => key?.expose(), /destroyed/);
      }));
  });

  describe('that the CA refuses', () => {
    it('at its start, says so to its feed, and goes on asking', async () => {
      source.failure = new KedgeError('identity_denied', 'not you');
      await withAgent(async () => {
        await settle();
        assert.equal(phase(), 'denied');
        assert.deepEqual(published(), ['withdraw']);
        source.failure = null;
        await runFor(60_000);
        assert.equal(phase(), 'serving');
      });
    });

    it('later, serves what it has until that expires', () =>
      withAgent(async () => {
        await settle();
        source.failure = new KedgeError('identity_denied', 'not you');
        await runFor(HOUR_MS - 1);
        assert.equal(phase(), 'serving');
        await runFor(1);
        assert.equal(phase(), 'expired');
      }));

    it('with a time to wait, waits at least that long', async () => {
      source.failure = new KedgeError('overloaded', 'too many', { retryAfterMs: 20_000 });
      await withAgent(async () => {
        await settle();
        await clock.advance(19_999);
        assert.equal(source.attempts, 1);
        await clock.advance(15_000);
        assert.equal(source.attempts, 2);
      });
    });

    it('with a time beyond reason, waits 5 minutes and its own back-off', async () => {
      source.failure = new KedgeError('overloaded', 'too many', { retryAfterMs: 365 * 24 * HOUR_MS });
      await withAgent(async () => {
        await settle();
        await runFor(330_000);
        assert.equal(source.attempts, 2);
      });
    });

    it('is not taken for denied when the CA only cannot be reached, or does not know the token', async () => {
      for (const code of ['ca_unreachable', 'token_expired', 'ca_identity_mismatch'] as const) {
        source.failure = new KedgeError(code, 'no');
        feed = new FakeFeed();
        registry = new MetricsRegistry();
        await withAgent(async () => {
          await settle();
          assert.equal(phase(), 'starting');
          assert.deepEqual(published(), []);
        });
      }
    });
  });

  describe('when a clock jumps', () => {
    it('forward past the expiry, withdraws at once and asks for a new one', () =>
      withAgent(async () => {
        await settle();
        source.hangs = true;
        clock.jumpWall(2 * HOUR_MS);
        await clock.advance(10_000);
        assert.equal(phase(), 'expired');
        assert.deepEqual(published(), ['publish 1', 'withdraw']);
        assert.equal(source.attempts, 2);
      }));

    it('back by a day, still renews and expires on time', () =>
      withAgent(async () => {
        await settle();
        clock.jumpWall(-24 * HOUR_MS);
        source.failure = new KedgeError('ca_answer_invalid', 'not yet valid');
        await runFor(HOUR_MS / 2);
        assert.equal(source.attempts, 2);
        await runFor(HOUR_MS / 2);
        assert.equal(phase(), 'expired');
        assert.deepEqual(published(), ['publish 1', 'withdraw']);
      }));

    it('forward by a little, renews earlier and goes on', () =>
      withAgent(async () => {
        await settle();
        clock.jumpWall(HOUR_MS / 2);
        await clock.advance(10_000);
        await settle();
        assert.equal(source.attempts, 2);
        assert.equal(phase(), 'serving');
      }));
  });

  describe('that the CA talks to', () => {
    it('publishes a new bundle with the SVID that it has, and acknowledges it', () =>
      withAgent(async () => {
        await settle();
        const other = await makeAnchor();
        agent.receiveBundle(bundleOf(2n, factory.anchor, other));
        await settle();
        assert.deepEqual(published(), ['publish 1', 'publish 2']);
        assert.equal(feed.snapshots[1]?.svid, feed.snapshots[0]?.svid);
        assert.equal(agent.report().bundleSequence, 2n);
        assert.deepEqual(trust.sequences, [1n, 2n]);
        assert.equal(source.attempts, 1);
      }));

    it('acknowledges a bundle only when every feed has it', () =>
      withAgent(async () => {
        await settle();
        const gate = Promise.withResolvers<void>();
        feed.onPublish = () => gate.promise;
        agent.receiveBundle(bundleOf(2n, factory.anchor));
        await settle();
        assert.equal(agent.report().bundleSequence, 1n);
        gate.resolve();
        await settle();
        assert.equal(agent.report().bundleSequence, 2n);
      }));

    it('refuses a bundle of a lower sequence, of another trust domain, or without an anchor', async () => {
      source.sequence = 5n;
      await withAgent(async () => {
        await settle();
        agent.receiveBundle(bundleOf(4n, factory.anchor));
        agent.receiveBundle({ ...bundleOf(6n, factory.anchor), trustDomain: 'evil.org' });
        agent.receiveBundle(bundleOf(7n));
        await settle();
        assert.deepEqual(published(), ['publish 1']);
        assert.equal(events.filter((event) => event === 'bundle.refused').length, 3);
      });
    });

    it('does nothing for the bundle that it holds', () =>
      withAgent(async () => {
        await settle();
        agent.receiveBundle(bundleOf(1n, factory.anchor));
        await settle();
        assert.deepEqual(published(), ['publish 1']);
      }));

    it('renews soon when the anchor of its SVID leaves the bundle, and still publishes the bundle', () =>
      withAgent(async () => {
        await settle();
        agent.receiveBundle(bundleOf(2n, await makeAnchor()));
        await settle();
        assert.equal(feed.snapshots.at(-1)?.bundle.sequence, 2n);
        source.hangs = true;
        await clock.advance(1_000);
        assert.equal(source.attempts, 2);
        assert.equal(phase(), 'serving');
      }));

    it('renews when asked, in the window given', () =>
      withAgent(async () => {
        await settle();
        const window = { notBeforeMs: START_MS + 60_000, notAfterMs: START_MS + 120_000 };
        agent.receiveRenewalRequest({ authorityKeyId: Uint8Array.of(1), window }, START_MS);
        await runFor(89_000);
        assert.equal(source.attempts, 1);
        await runFor(2_000);
        assert.equal(source.attempts, 2);
      }));

    it('does not renew for a request that names the issuer that it hangs under', () =>
      withAgent(async () => {
        await settle();
        const authorityKeyId = feed.snapshots[0]?.svid.authorityKeyId ?? assert.fail();
        agent.receiveRenewalRequest({ authorityKeyId, window: undefined }, START_MS);
        await runFor(60_000);
        assert.equal(source.attempts, 1);
      }));
  });

  it('warns of a clock that is far off, and reports it', async () => {
    source.clockSkewMs = CLOCK_SKEW_WARN_MS + 1;
    await withAgent(async () => {
      await settle();
      assert.ok(events.includes('clock.skewed'));
      assert.equal(agent.report().clockSkewMs, BigInt(CLOCK_SKEW_WARN_MS + 1));
    });
  });

  it('counts what it does in metrics', () =>
    withAgent(async () => {
      await settle();
      source.failure = new KedgeError('ca_unreachable', 'nobody there');
      await runFor(HOUR_MS / 2);
      const text = registry.render();
      assert.match(text, /kedge_agent_renewals_total\{result="ok"\} 1/);
      assert.match(text, /kedge_agent_renewals_total\{result="failed"\} [1-9]/);
      assert.match(
        text,
        new RegExp(`kedge_agent_svid_not_after_timestamp_seconds ${(START_MS + HOUR_MS) / 1000}`),
      );
      assert.match(text, /kedge_agent_bundle_sequence 1/);
      assert.match(text, /kedge_agent_feed_publications_total\{feed="fake",result="ok"\} 1/);
    }));

  it('leaves what the feeds serve as it is when it ends', async () => {
    await withAgent(async () => {
      await settle();
    });
    assert.deepEqual(published(), ['publish 1']);
  });
});
