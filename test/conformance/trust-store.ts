import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import type { TrustStore, Version, VersionedDocument } from '../../ca/store/trust-store.ts';
import { isKedgeError } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';

/** One empty store, as a backend's test gives it. */
export interface TrustStoreHarness {
  /** Another handle on the same store, as another replica would open it. The suite closes it. */
  readonly open: () => Promise<TrustStore>;
  /** Lets watches notice what other handles did. */
  readonly tick: () => Promise<void>;
}

const never = new AbortController().signal;
const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
const text = (versioned: VersionedDocument | null): string | null =>
  versioned === null ? null : Buffer.from(versioned.document).toString();

/** Lets watches go on until `condition` holds; what asserts it afterwards says what is missing. */
async function reach({ tick }: TrustStoreHarness, condition: () => boolean): Promise<void> {
  for (let ticks = 0; ticks < 400 && !condition(); ticks += 1) await tick();
}

/** What every {@link TrustStore} must do, whatever it is made of: see the contract in its file. */
export function trustStoreConformance(
  name: string,
  makeHarness: (t: TestContext) => TrustStoreHarness,
): void {
  const setUp = async (t: TestContext, handles = 1) => {
    const harness = makeHarness(t);
    const stores: TrustStore[] = [];
    for (let i = 0; i < handles; i += 1) stores.push(await harness.open());
    t.after(() => Promise.all(stores.map((store) => store.close())));
    const [a, b = stores[0]] = stores;
    return { ...harness, stores, a: a!, b: b! };
  };

  describe(`${name} as a trust store`, () => {
    it('is empty at first', async (t) => {
      const { a } = await setUp(t);
      assert.equal(await a.read(never), null);
    });

    it('gives back what was swapped in, with the version that the swap gave', async (t) => {
      const { a } = await setUp(t);
      const version = await a.swap(null, bytes('one'), never);
      const read = await a.read(never);
      assert.equal(text(read), 'one');
      assert.equal(read?.version, version);
    });

    it('gives each version a name of its own, also for equal documents', async (t) => {
      const { a } = await setUp(t);
      const versions = new Set<Version>();
      let version: Version | null = null;
      for (let i = 0; i < 20; i += 1) {
        version = await a.swap(version, bytes('same'), never);
        versions.add(version);
      }
      assert.equal(versions.size, 20);
    });

    it('keeps a document of any bytes, up to the limit', async (t) => {
      const { a } = await setUp(t);
      const all = Uint8Array.from({ length: LIMITS.trustStateBytes }, (_, i) => i % 251);
      await a.swap(null, all, never);
      assert.ok(Buffer.from((await a.read(never))!.document).equals(all));
    });

    it('refuses a document over the limit, and keeps the old one', async (t) => {
      const { a } = await setUp(t);
      const version = await a.swap(null, bytes('one'), never);
      const tooLarge = new Uint8Array(LIMITS.trustStateBytes + 1);
      await assert.rejects(a.swap(version, tooLarge, never), { code: 'message_too_large' });
      assert.deepEqual([text(await a.read(never)), (await a.read(never))?.version], ['one', version]);
    });

    it('refuses each swap that expects anything but the newest version', async (t) => {
      const { a } = await setUp(t);
      const conflict = { code: 'store_conflict' };
      await assert.rejects(a.swap('1', bytes('x'), never), conflict, 'a version, on an empty store');
      const first = await a.swap(null, bytes('one'), never);
      await assert.rejects(a.swap(null, bytes('x'), never), conflict, 'empty, on a store that is not');
      const second = await a.swap(first, bytes('two'), never);
      for (const stale of [first, '', 'nonsense', `${second}0`, ` ${second}`, "' OR 1=1 --"]) {
        await assert.rejects(a.swap(stale, bytes('x'), never), conflict, `version ${JSON.stringify(stale)}`);
      }
      assert.equal(text(await a.read(never)), 'two');
    });

    it('does not let the caller change what is stored through the bytes it gave or got', async (t) => {
      const { a } = await setUp(t);
      const given = bytes('one');
      await a.swap(null, given, never);
      given.fill(0);
      (await a.read(never))!.document.fill(0);
      assert.equal(text(await a.read(never)), 'one');
    });

    it('shows a swap to every other handle as soon as it has resolved', async (t) => {
      const { a, b } = await setUp(t, 2);
      const version = await a.swap(null, bytes('one'), never);
      assert.equal(text(await b.read(never)), 'one');
      await b.swap(version, bytes('two'), never);
      assert.equal(text(await a.read(never)), 'two');
      await assert.rejects(a.swap(version, bytes('three'), never), { code: 'store_conflict' });
    });

    it('lets exactly one of those win who swap the same version at once', async (t) => {
      const { stores } = await setUp(t, 4);
      let version: Version | null = null;
      for (let round = 0; round < 10; round += 1) {
        const results = await Promise.allSettled(
          stores.map((store, i) => store.swap(version, bytes(`${round}.${i}`), never)),
        );
        const winner = results.findIndex(({ status }) => status === 'fulfilled');
        const conflicts = results.filter(
          (r) => r.status === 'rejected' && isKedgeError(r.reason, 'store_conflict'),
        );
        assert.equal(conflicts.length, stores.length - 1);
        const read = await stores[0]!.read(never);
        assert.equal(text(read), `${round}.${winner}`);
        version = read!.version;
      }
    });

    it('loses no increment of a counter that many increment, each retrying after a conflict', async (t) => {
      const { stores } = await setUp(t, 3);
      const increment = async (store: TrustStore): Promise<void> => {
        for (;;) {
          const now = await store.read(never);
          try {
            await store.swap(now?.version ?? null, bytes(String(Number(text(now) ?? '0') + 1)), never);
            return;
          } catch (error) {
            if (!isKedgeError(error, 'store_conflict')) throw error;
          }
        }
      };
      await Promise.all(stores.flatMap((store) => Array.from({ length: 10 }, () => increment(store))));
      assert.equal(text(await stores[0]!.read(never)), '30');
    });

    it('keeps its document when all handles are closed and one is opened again', async (t) => {
      const { a, open } = await setUp(t);
      const version = await a.swap(null, bytes('one'), never);
      await a.close();
      const again = await open();
      t.after(() => again.close());
      assert.deepEqual([text(await again.read(never)), (await again.read(never))?.version], ['one', version]);
      await again.swap(version, bytes('two'), never);
    });

    it('rejects with the reason of a signal that has aborted, and does nothing', async (t) => {
      const { a } = await setUp(t);
      const reason = new Error('stop');
      const aborted = AbortSignal.abort(reason);
      await assert.rejects(a.read(aborted), reason);
      await assert.rejects(a.swap(null, bytes('one'), aborted), reason);
      await assert.rejects(a.watch(aborted)[Symbol.asyncIterator]().next(), reason);
      assert.equal(await a.read(never), null);
    });

    it('refuses everything with store_unavailable once it is closed, which may be repeated', async (t) => {
      const { a } = await setUp(t);
      await a.close();
      await a.close();
      const unavailable = { code: 'store_unavailable' };
      await assert.rejects(a.read(never), unavailable);
      await assert.rejects(a.swap(null, bytes('one'), never), unavailable);
      await assert.rejects(a.watch(never)[Symbol.asyncIterator]().next(), unavailable);
    });
  });

  describe(`a watch of ${name}`, () => {
    /** Reads a watch in the background; `seen` grows. */
    const follow = (t: TestContext, store: TrustStore) => {
      const stop = new AbortController();
      const seen: VersionedDocument[] = [];
      const ended = (async () => {
        for await (const versioned of store.watch(stop.signal)) seen.push(versioned);
      })();
      ended.catch(() => undefined);
      t.after(() => stop.abort());
      return { seen, stop, ended };
    };

    it('begins with the newest document, if there is one', async (t) => {
      const harness = await setUp(t);
      const { a } = harness;
      const version = await a.swap(null, bytes('one'), never);
      const { seen } = follow(t, a);
      await reach(harness, () => seen.length > 0);
      assert.deepEqual(
        seen.map((versioned) => [text(versioned), versioned.version]),
        [['one', version]],
      );
    });

    it('shows the first document of a store that was empty, and each later change of this handle', async (t) => {
      const harness = await setUp(t);
      const { a } = harness;
      const { seen } = follow(t, a);
      await harness.tick();
      assert.equal(seen.length, 0);
      const first = await a.swap(null, bytes('one'), never);
      await reach(harness, () => seen.length > 0);
      await a.swap(first, bytes('two'), never);
      await reach(harness, () => seen.length > 1);
      assert.deepEqual(seen.map(text), ['one', 'two']);
    });

    it('shows the changes of other handles', async (t) => {
      const harness = await setUp(t, 2);
      const { a, b } = harness;
      const { seen } = follow(t, a);
      await harness.tick();
      const first = await b.swap(null, bytes('one'), never);
      await reach(harness, () => seen.length > 0);
      await b.swap(first, bytes('two'), never);
      await reach(harness, () => seen.length > 1);
      assert.deepEqual(seen.map(text), ['one', 'two']);
    });

    it('shows no version twice while nothing changes', async (t) => {
      const harness = await setUp(t);
      const { a, tick } = harness;
      await a.swap(null, bytes('one'), never);
      const { seen } = follow(t, a);
      await reach(harness, () => seen.length > 0);
      for (let i = 0; i < 5; i += 1) await tick();
      assert.equal(seen.length, 1);
    });

    it('may skip versions for a slow reader, but never the newest', async (t) => {
      const harness = await setUp(t, 2);
      const { a, b } = harness;
      let version = await a.swap(null, bytes('0'), never);
      const stop = new AbortController();
      const steps = a.watch(stop.signal)[Symbol.asyncIterator]();
      assert.equal(text((await steps.next()).value as VersionedDocument), '0');
      for (let i = 1; i <= 5; i += 1) {
        version = await (i % 2 === 0 ? a : b).swap(version, bytes(String(i)), never);
      }
      const next = steps.next();
      let came = false;
      next.then(() => {
        came = true;
      }, assert.ifError);
      await reach(harness, () => came);
      assert.equal(text((await next).value as VersionedDocument), '5');
      stop.abort();
    });

    it('serves several readers at once, each with every change', async (t) => {
      const harness = await setUp(t);
      const { a } = harness;
      const readers = [follow(t, a), follow(t, a), follow(t, a)];
      let version: Version | null = null;
      for (const [i, document] of ['one', 'two', 'three'].entries()) {
        version = await a.swap(version, bytes(document), never);
        await reach(harness, () => readers.every(({ seen }) => seen.length > i));
      }
      for (const { seen } of readers) assert.deepEqual(seen.map(text), ['one', 'two', 'three']);
    });

    it('ends with the reason of its signal', async (t) => {
      const harness = await setUp(t);
      const { a } = harness;
      await a.swap(null, bytes('one'), never);
      const { stop, ended, seen } = follow(t, a);
      await reach(harness, () => seen.length > 0);
      const reason = new Error('stop');
      stop.abort(reason);
      await assert.rejects(ended, reason);
    });

    it('ends with store_unavailable when the store is closed', async (t) => {
      const { a, tick } = await setUp(t);
      const { ended } = follow(t, a);
      await tick();
      await a.close();
      const result = assert.rejects(ended, { code: 'store_unavailable' });
      await tick();
      await result;
    });

    it('can be left by its reader at any step', async (t) => {
      const { a } = await setUp(t);
      await a.swap(null, bytes('one'), never);
      for await (const versioned of a.watch(never)) {
        assert.equal(text(versioned), 'one');
        break;
      }
      assert.equal(text(await a.read(never)), 'one');
    });
  });
}
