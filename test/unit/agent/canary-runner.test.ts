import assert from 'node:assert/strict';
import { afterEach, before, beforeEach, describe, it } from 'node:test';
import type { CanaryObservation } from '../../../agent/canary.ts';
import { CanaryRunner, HOLD_MS, MIN_TRY_GAP_MS, SETTLE_MS } from '../../../agent/canary-runner.ts';
import type { IdentitySnapshot, SvidSnapshot } from '../../../agent/snapshot.ts';
import { silentLog } from '../../../host/log.ts';
import { fixedRandom } from '../../fakes/fixed-random.ts';
import { ManualClock, settle } from '../../support/manual-clock.ts';
import { SnapshotFactory } from '../../support/snapshots.ts';

const INTERVAL_MS = 60_000;

describe('the canary', () => {
  let snapshots: IdentitySnapshot[];
  let clock: ManualClock;
  let runner: CanaryRunner;
  let stop: AbortController;
  let running: Promise<void>;
  /** What was dialed with, and how each ends. */
  let dials: { svid: SvidSnapshot; end: (change?: Partial<CanaryObservation> | Error) => void }[];
  let open: number;
  let changes: number;

  before(async () => {
    const factory = await SnapshotFactory.make(Date.UTC(2026, 0, 1));
    snapshots = await Promise.all([1, 2].map((generation) => factory.snapshot(generation)));
  });

  beforeEach(() => {
    clock = new ManualClock();
    dials = [];
    open = 0;
    changes = 0;
    stop = new AbortController();
    runner = new CanaryRunner({
      dial: (svid, signal) => {
        open += 1;
        assert.equal(open, 1, 'two tries at once');
        const { promise, resolve, reject } = Promise.withResolvers<CanaryObservation>();
        signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
        const end = (change: Partial<CanaryObservation> | Error = {}): void => {
          if (change instanceof Error) reject(change);
          else resolve({ ...accepted(svid), ...change });
        };
        dials.push({ svid, end });
        return promise.finally(() => {
          open -= 1;
        });
      },
      intervalMs: INTERVAL_MS,
      clock,
      random: fixedRandom(0.5),
      log: silentLog,
      onChange: () => {
        changes += 1;
      },
    });
    running = runner.run(stop.signal);
  });
  afterEach(async () => {
    stop.abort(new Error('the test is over'));
    await running;
  });

  const accepted = (svid: SvidSnapshot): CanaryObservation => ({
    presented: svid.chain,
    asked: true,
    authorities: null,
    answer: 'http_served',
    detail: 'HTTP 200',
  });
  const offer = async (index: number): Promise<void> => {
    const snapshot = snapshots[index] ?? null;
    runner.offer(snapshot);
    if (snapshot === null) await settle();
    else {
      runner.published(snapshot.generation);
      await clock.advance(SETTLE_MS);
    }
  };
  const end = async (change?: Partial<CanaryObservation> | Error): Promise<void> => {
    dials.at(-1)?.end(change);
    await settle();
  };

  it('dials nobody before there is an identity', async () => {
    await clock.advance(10 * INTERVAL_MS);
    assert.equal(dials.length, 0);
  });

  it('tries each snapshot at once, and again at the interval', async () => {
    await offer(0);
    assert.equal(dials.length, 1);
    await end();
    assert.equal(runner.result?.verdict, 'proven');
    assert.equal(changes, 1);
    await clock.advance(INTERVAL_MS - 1);
    assert.equal(dials.length, 1);
    await clock.advance(1);
    assert.equal(dials.length, 2);
  });

  it('waits with a snapshot until the feeds have finished with it, and then until the proxy has begun with it', async () => {
    await offer(0);
    await end();
    runner.offer(snapshots[1] ?? null);
    runner.nudge();
    await clock.advance(HOLD_MS - 1);
    // An older one is in place.
    runner.published(1);
    await settle();
    assert.equal(dials.length, 1);
    runner.published(2);
    await clock.advance(SETTLE_MS - 1);
    runner.published(2);
    assert.equal(dials.length, 1);
    await clock.advance(1);
    assert.equal(dials[1]?.svid, snapshots[1]?.svid);
    await end();
    await clock.advance(INTERVAL_MS);
    assert.equal(dials.length, 3);
  });

  it('tries a snapshot that the feeds do not finish with all the same, later', async () => {
    runner.offer(snapshots[0] ?? null);
    await clock.advance(HOLD_MS - 1);
    assert.equal(dials.length, 0);
    await clock.advance(1);
    assert.equal(dials.length, 1);
    await end({ answer: 'closed' });
    runner.published(1);
    await clock.advance(SETTLE_MS);
    assert.equal(dials.length, 2);
  });

  it('tries anew after a snapshot that came during a try, and one at a time', async () => {
    await offer(0);
    await offer(1);
    assert.equal(dials.length, 1);
    await end();
    assert.equal(runner.result?.tested.generation, 1);
    await clock.advance(MIN_TRY_GAP_MS);
    assert.equal(dials.length, 2);
    assert.equal(dials[1]?.svid, snapshots[1]?.svid);
  });

  it('never tries more often than allowed, however often a consumer moves', async () => {
    await offer(0);
    await end();
    for (let i = 0; i < 50; i += 1) {
      runner.nudge();
      await clock.advance(MIN_TRY_GAP_MS / 10);
      await end();
    }
    assert.ok(dials.length <= 6, `${dials.length} tries in five times the gap`);
    assert.ok(dials.length >= 5);
  });

  it('backs off while nothing is proven, up to the interval', async () => {
    await offer(0);
    await end({ answer: 'silent' });
    assert.equal(runner.result?.verdict, 'unknown');
    const gaps: number[] = [];
    let last = clock.monotonic();
    for (let tries = 2; tries <= 12; tries += 1) {
      while (dials.length < tries) await clock.advance(250);
      gaps.push(clock.monotonic() - last);
      last = clock.monotonic();
      await end({ answer: 'silent' });
    }
    assert.ok(
      gaps.every((gap, i) => gap >= (gaps[i - 1] ?? 0)),
      gaps.join(),
    );
    assert.ok((gaps[0] ?? 0) <= MIN_TRY_GAP_MS && (gaps.at(-1) ?? 0) === INTERVAL_MS / 2, gaps.join());
  });

  it('starts the back-off anew when a consumer moves', async () => {
    await offer(0);
    for (let i = 0; i < 8; i += 1) {
      await end({ answer: 'silent' });
      await clock.advance(INTERVAL_MS);
    }
    await end({ answer: 'silent' });
    const before = dials.length;
    await clock.advance(MIN_TRY_GAP_MS);
    runner.nudge();
    await settle();
    assert.equal(dials.length, before + 1);
  });

  it('forgets its result when the identity is gone, and lets one under way fall', async () => {
    await offer(0);
    await end();
    runner.nudge();
    await clock.advance(MIN_TRY_GAP_MS);
    runner.offer(null);
    assert.equal(runner.result, null);
    await end();
    assert.equal(runner.result, null);
    const before = dials.length;
    await clock.advance(3 * INTERVAL_MS);
    assert.equal(dials.length, before);
  });

  it('lives through a try that fails in itself', async () => {
    await offer(0);
    await end(new Error('OpenSSL does not take the key'));
    assert.equal(runner.result, null);
    await clock.advance(INTERVAL_MS);
    assert.equal(dials.length, 2);
  });
});
