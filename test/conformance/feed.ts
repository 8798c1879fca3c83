/**
 * What every feed must do, whatever it feeds: run by each implementation of `agent/feed/feed.ts`.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { type Feed, MAX_CONSUMERS } from '../../agent/feed/feed.ts';
import type { IdentitySnapshot } from '../../agent/snapshot.ts';
import { SnapshotFactory } from '../support/snapshots.ts';

/** One implementation, and how a consumer of it sees what it serves. */
export interface FeedUnderTest {
  readonly feed: Feed;
  /** Serial number of the SVID that a consumer gets now, hex; null = none. */
  readonly servedSerial: () => Promise<string | null>;
  /** Whether key and certificate that a consumer gets now belong together, and with the bundle. */
  readonly isConsistent: () => Promise<boolean>;
  /** Frees what the feed was opened on. */
  readonly close?: () => Promise<void>;
}

export function feedConformance(name: string, open: () => Promise<FeedUnderTest>): void {
  describe(`${name} as a feed`, () => {
    let factory: SnapshotFactory;
    let first: IdentitySnapshot;
    let second: IdentitySnapshot;
    const opened: FeedUnderTest[] = [];
    const signal = new AbortController().signal;
    const start = async (): Promise<FeedUnderTest> => {
      const underTest = await open();
      opened.push(underTest);
      return underTest;
    };
    const serialOf = ({ svid }: IdentitySnapshot): string => Buffer.from(svid.serialNumber).toString('hex');

    before(async () => {
      factory = await SnapshotFactory.make(Date.now());
      [first, second] = [await factory.snapshot(1), await factory.snapshot(2)];
    });
    after(async () => {
      for (const { feed, close } of opened) {
        await feed.close();
        await close?.();
      }
    });

    it('has a name', async () => {
      const { feed } = await start();
      assert.match(feed.name, /^[a-z][a-z-]+$/);
    });

    it('serves nothing before the first snapshot', async () => {
      const { servedSerial } = await start();
      assert.equal(await servedSerial(), null);
    });

    it('serves a snapshot once it has acknowledged it', async () => {
      const { feed, servedSerial, isConsistent } = await start();
      await feed.publish(first, signal);
      assert.equal(await servedSerial(), serialOf(first));
      assert.ok(await isConsistent());
    });

    it('names its consumers, and never one that holds what was not published', async () => {
      const { feed } = await start();
      const check = (published: readonly IdentitySnapshot[]): void => {
        const consumers = feed.consumers();
        assert.ok(consumers.length <= MAX_CONSUMERS);
        assert.equal(new Set(consumers.map(({ name }) => name)).size, consumers.length);
        for (const { name, best, delivered, loaded } of consumers) {
          assert.match(name, /^[\x21-\x7e]{1,64}$/);
          for (const held of [delivered, loaded]) {
            const generations = published.map(({ generation }) => generation);
            assert.ok(held === null || generations.includes(held.generation));
          }
          if (best === 'delivered') assert.equal(loaded, null);
        }
      };
      check([]);
      await feed.publish(first, signal);
      check([first]);
      await feed.publish(second, signal);
      check([first, second]);
      await feed.withdraw(signal);
      check([]);
    });

    it('serves only the newest snapshot', async () => {
      const { feed, servedSerial, isConsistent } = await start();
      await feed.publish(first, signal);
      await feed.publish(second, signal);
      assert.equal(await servedSerial(), serialOf(second));
      assert.ok(await isConsistent());
    });

    it('takes the same snapshot twice', async () => {
      const { feed, servedSerial } = await start();
      await feed.publish(first, signal);
      await feed.publish(first, signal);
      assert.equal(await servedSerial(), serialOf(first));
    });

    it('takes a new bundle with the same SVID', async () => {
      const { feed, servedSerial } = await start();
      await feed.publish(first, signal);
      await feed.publish({ generation: 2, svid: first.svid, bundle: factory.bundle(9n) }, signal);
      assert.equal(await servedSerial(), serialOf(first));
    });

    it('keeps no reference to the key of an SVID that it serves no more', async () => {
      const { feed, servedSerial, isConsistent } = await start();
      const shortLived = await factory.snapshot(1);
      await feed.publish(shortLived, signal);
      await feed.publish(second, signal);
      shortLived.svid.privateKey.destroy();
      assert.equal(await servedSerial(), serialOf(second));
      assert.ok(await isConsistent());
    });

    it('serves nothing once it has withdrawn', async () => {
      const { feed, servedSerial } = await start();
      await feed.publish(first, signal);
      await feed.withdraw(signal);
      assert.equal(await servedSerial(), null);
    });

    it('withdraws when there is nothing, and twice', async () => {
      const { feed, servedSerial } = await start();
      await feed.withdraw(signal);
      await feed.withdraw(signal);
      assert.equal(await servedSerial(), null);
    });

    it('serves again after it has withdrawn', async () => {
      const { feed, servedSerial } = await start();
      await feed.publish(first, signal);
      await feed.withdraw(signal);
      await feed.publish(second, signal);
      assert.equal(await servedSerial(), serialOf(second));
    });

    it('rejects a publication that was interrupted before it began, and serves nothing of it', async () => {
      const { feed, servedSerial } = await start();
      const reason = new Error('interrupted');
      await assert.rejects(feed.publish(first, AbortSignal.abort(reason)), reason);
      assert.equal(await servedSerial(), null);
    });

    it('closes twice', async () => {
      const { feed } = await start();
      await feed.close();
      await feed.close();
    });
  });
}
