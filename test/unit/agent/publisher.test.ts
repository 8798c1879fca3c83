import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { after as later, instantOf } from '../../../agent/deadline.ts';
import type { FeedStatus } from '../../../agent/evidence.ts';
import { FeedPublisher, PUBLISH_TIMEOUT_MS, type Publication } from '../../../agent/publisher.ts';
import type { IdentitySnapshot } from '../../../agent/snapshot.ts';
import { silentLog } from '../../../host/log.ts';
import { KedgeError } from '../../../pki/kedge-error.ts';
import { FakeFeed, hang } from '../../fakes/fake-feed.ts';
import { fixedRandom } from '../../fakes/fixed-random.ts';
import { ManualClock, settle } from '../../support/manual-clock.ts';
import { SnapshotFactory } from '../../support/snapshots.ts';

const LIFETIME_MS = 3_600_000;

describe('the publisher of a feed', () => {
  let snapshots: IdentitySnapshot[];
  let clock: ManualClock;
  let feed: FakeFeed;
  let publisher: FeedPublisher;
  let stop: AbortController;
  let running: Promise<void>;
  let results: string[];

  before(async () => {
    const factory = await SnapshotFactory.make(Date.UTC(2026, 0, 1));
    snapshots = await Promise.all([1, 2, 3].map((generation) => factory.snapshot(generation)));
  });

  beforeEach(() => {
    clock = new ManualClock();
    feed = new FakeFeed();
    results = [];
    stop = new AbortController();
    publisher = new FeedPublisher({
      feed,
      clock,
      random: fixedRandom(0.5),
      log: silentLog,
      onChange: () => {},
      onPublication: (result) => results.push(result),
    });
    running = publisher.run(stop.signal);
  });
  after(() => stop.abort());

  const status = (): FeedStatus => publisher.status;
  const publication = (generation: number, lifetimeMs = LIFETIME_MS): Publication => {
    const snapshot = snapshots[generation - 1];
    assert.ok(snapshot !== undefined);
    return { snapshot, expiry: later(instantOf(clock), lifetimeMs) };
  };

  it('brings a snapshot to the feed once', async () => {
    publisher.offer(publication(1));
    await settle();
    await clock.advance(60_000);
    assert.deepEqual(feed.log, ['publish 1']);
    assert.equal(status().inPlace?.generation, 1);
    assert.deepEqual(results, ['ok']);
  });

  it('leaves the feed alone until it knows what the feed should have', async () => {
    await clock.advance(60_000);
    assert.deepEqual(feed.log, []);
  });

  it('goes straight to the newest when the feed was busy', async () => {
    const gate = Promise.withResolvers<void>();
    feed.onPublish = () => gate.promise;
    publisher.offer(publication(1));
    await settle();
    publisher.offer(publication(2));
    publisher.offer(publication(3));
    await settle();
    assert.deepEqual(feed.log, ['publish 1']);
    gate.resolve();
    await settle();
    assert.deepEqual(feed.log, ['publish 1', 'publish 3']);
  });

  it('tries again with back-off, and says what failed', async () => {
    feed.onPublish = () => {
      throw new KedgeError('hook_failed', 'the hook said no');
    };
    publisher.offer(publication(1));
    await settle();
    assert.equal(status().errorCode, 'hook_failed');
    assert.equal(status().inPlace, null);
    await clock.advance(99);
    assert.equal(feed.log.length, 1);
    await clock.advance(1);
    assert.equal(feed.log.length, 2);
    feed.onPublish = () => {};
    await clock.advance(60_000);
    assert.equal(status().errorCode, null);
    assert.equal(status().inPlace?.generation, 1);
    assert.deepEqual(results, ['failed', 'failed', 'ok']);
  });

  it('calls a failure that has no code of Kedge feed_failed', async () => {
    feed.onPublish = () => {
      throw new Error('no idea');
    };
    publisher.offer(publication(1));
    await settle();
    assert.equal(status().errorCode, 'feed_failed');
  });

  it('tries a newer snapshot at once, whatever the back-off of the one before', async () => {
    feed.onPublish = ({ generation }) => {
      if (generation === 1) throw new Error('no');
    };
    publisher.offer(publication(1));
    await settle();
    publisher.offer(publication(2));
    await settle();
    assert.equal(status().inPlace?.generation, 2);
  });

  it('keeps saying what is in place while its successor fails', async () => {
    publisher.offer(publication(1));
    await settle();
    feed.onPublish = () => {
      throw new KedgeError('file_unwritable', 'no space');
    };
    publisher.offer(publication(2));
    await settle();
    assert.equal(status().inPlace?.generation, 1);
    assert.equal(status().errorCode, 'file_unwritable');
  });

  it('withdraws what is in place when it expires', async () => {
    publisher.offer(publication(1));
    await settle();
    await clock.advance(LIFETIME_MS - 1);
    assert.deepEqual(feed.log, ['publish 1']);
    await clock.advance(1);
    assert.deepEqual(feed.log, ['publish 1', 'withdraw']);
    assert.equal(status().inPlace, null);
  });

  it('withdraws what has expired although its successor cannot be brought in', async () => {
    publisher.offer(publication(1, 1_000));
    await settle();
    feed.onPublish = () => {
      throw new KedgeError('file_unwritable', 'read-only');
    };
    publisher.offer(publication(2));
    await clock.advance(60_000);
    assert.ok(feed.log.includes('withdraw'));
  });

  it('withdraws at the very expiry, however long the next try to publish is away', async () => {
    publisher.offer(publication(1, 100_000));
    await settle();
    feed.onPublish = () => {
      throw new KedgeError('file_unwritable', 'read-only');
    };
    publisher.offer(publication(2));
    // By now the tries to publish are many seconds apart.
    await clock.advance(99_999);
    assert.ok(!feed.log.includes('withdraw'));
    await clock.advance(1);
    assert.equal(feed.log.at(-1), 'withdraw');
  });

  it('tries to withdraw again within a second, however long the next try to publish is away', async () => {
    publisher.offer(publication(1, 100_000));
    await settle();
    const refuse = (): never => {
      throw new KedgeError('file_unwritable', 'read-only');
    };
    feed.onPublish = refuse;
    feed.onWithdraw = refuse;
    publisher.offer(publication(2));
    await clock.advance(160_000);
    feed.onWithdraw = () => {};
    const before = feed.log.filter((line) => line === 'withdraw').length;
    await clock.advance(1_000);
    assert.equal(feed.log.filter((line) => line === 'withdraw').length, before + 1);
    assert.equal(status().inPlace, null);
  });

  it('publishes while it cannot withdraw: that puts what has expired out of reach too', async () => {
    publisher.offer(publication(1, 1_000));
    await settle();
    feed.onWithdraw = () => {
      throw new KedgeError('file_unwritable', 'busy');
    };
    await clock.advance(1_000);
    publisher.offer(publication(2));
    await clock.advance(60_000);
    const withdrawals = feed.log.filter((line) => line === 'withdraw').length;
    assert.equal(status().inPlace?.generation, 2);
    await clock.advance(60_000);
    assert.equal(feed.log.filter((line) => line === 'withdraw').length, withdrawals);
  });

  it('gives up a publication that hangs when the snapshot before it expires', async () => {
    publisher.offer(publication(1, 1_000));
    await settle();
    feed.onPublish = (_snapshot, signal) => hang(signal);
    publisher.offer(publication(2));
    await clock.advance(1_000);
    assert.deepEqual(feed.log, ['publish 1', 'publish 2', 'withdraw']);
  });

  it('withdraws on time although the feed does not heed the signal of its publication', async () => {
    publisher.offer(publication(1, 1_000));
    await settle();
    feed.onPublish = () => new Promise(() => {});
    publisher.offer(publication(2));
    await clock.advance(1_000);
    assert.deepEqual(feed.log, ['publish 1', 'publish 2', 'withdraw']);
  });

  it('leaves files whose hook failed in place until their own expiry', async () => {
    publisher.offer(publication(1, 1_000));
    await settle();
    feed.onPublish = () => {
      throw new KedgeError('hook_failed', 'the hook said no');
    };
    publisher.offer(publication(2));
    await clock.advance(60_000);
    assert.ok(!feed.log.includes('withdraw'));
    await clock.advance(LIFETIME_MS);
    assert.ok(feed.log.includes('withdraw'));
  });

  it('never brings in a snapshot that has expired', async () => {
    publisher.offer(publication(1, 0));
    await clock.advance(60_000);
    assert.deepEqual(feed.log, []);
  });

  it('interrupts a publication that hangs when the identity is withdrawn', async () => {
    feed.onPublish = (_snapshot, signal) => hang(signal);
    publisher.offer(publication(1));
    await settle();
    publisher.withdraw();
    await settle();
    assert.deepEqual(feed.log, ['publish 1', 'withdraw']);
    assert.deepEqual(results, []);
  });

  it('gives up a publication that hangs, and tries again', async () => {
    feed.onPublish = (_snapshot, signal) => hang(signal);
    publisher.offer(publication(1, 10 * PUBLISH_TIMEOUT_MS));
    await clock.advance(PUBLISH_TIMEOUT_MS);
    assert.equal(status().errorCode, 'feed_failed');
    await clock.advance(100);
    assert.deepEqual(feed.log, ['publish 1', 'publish 1']);
  });

  it('gives up a publication that hangs when its SVID expires', async () => {
    feed.onPublish = (_snapshot, signal) => hang(signal);
    publisher.offer(publication(1, 1_000));
    await clock.advance(1_000);
    await clock.advance(1_000);
    assert.deepEqual(feed.log, ['publish 1', 'withdraw']);
  });

  it('tries a failed withdrawal again until it is done', async () => {
    publisher.offer(publication(1));
    await settle();
    let refusals = 3;
    feed.onWithdraw = () => {
      refusals -= 1;
      if (refusals >= 0) throw new KedgeError('file_unwritable', 'read-only');
    };
    publisher.withdraw();
    await settle();
    assert.equal(status().errorCode, 'file_unwritable');
    await clock.advance(60_000);
    assert.deepEqual(feed.log, ['publish 1', ...Array.from({ length: 4 }, () => 'withdraw')]);
    assert.equal(status().inPlace, null);
  });

  it('withdraws from a feed that never had anything, so that it says so to its consumers', async () => {
    publisher.withdraw();
    await settle();
    assert.deepEqual(feed.log, ['withdraw']);
  });

  it('publishes again after a withdrawal', async () => {
    publisher.offer(publication(1));
    await settle();
    publisher.withdraw();
    await settle();
    publisher.offer(publication(2));
    await settle();
    assert.deepEqual(feed.log, ['publish 1', 'withdraw', 'publish 2']);
  });

  it('withdraws soon after the wall clock jumped past the expiry', async () => {
    publisher.offer(publication(1));
    await settle();
    clock.jumpWall(LIFETIME_MS);
    await clock.advance(10_000);
    assert.deepEqual(feed.log, ['publish 1', 'withdraw']);
  });

  it('withdraws on time although the wall clock was set back', async () => {
    publisher.offer(publication(1));
    await settle();
    clock.jumpWall(-LIFETIME_MS);
    await clock.advance(LIFETIME_MS);
    assert.deepEqual(feed.log, ['publish 1', 'withdraw']);
  });

  it('ends when it is told to, also in the middle of a publication', async () => {
    feed.onPublish = (_snapshot, signal) => hang(signal);
    publisher.offer(publication(1));
    await settle();
    stop.abort();
    await running;
  });
});
