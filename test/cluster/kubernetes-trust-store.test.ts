/** The trust state in a Secret of a real API server: the same suite as SQLite, and what only a cluster does to it. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { KubernetesTrustStore } from '../../ca/store/kubernetes-trust-store.ts';
import type { TrustStore, VersionedDocument } from '../../ca/store/trust-store.ts';
import { systemClock } from '../../host/clock.ts';
import { silentLog } from '../../host/log.ts';
import type { ErrorCode } from '../../pki/error-table.ts';
import { isKedgeError } from '../../pki/kedge-error.ts';
import { trustStoreConformance } from '../conformance/trust-store.ts';
import { clusterClient, moment } from '../support/cluster-replica.ts';
import { expectRejection } from '../support/expect-code.ts';
import { until } from '../support/identity-plane.ts';
import { clusterSkip, suiteCluster } from '../support/kubernetes-cluster.ts';

const never = new AbortController().signal;
const NAMESPACE = 'default';
const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
const text = (read: VersionedDocument | null): string =>
  read === null ? '' : Buffer.from(read.document).toString();

describe('the trust state in a Secret', { skip: clusterSkip }, () => {
  const cluster = suiteCluster();
  let names = 0;
  /** A name that no test before had. */
  const freshName = (): string => `state-${(names += 1)}`;
  const open = async (
    t: { after: (end: () => unknown) => void },
    name: string,
    timeoutMs?: number,
  ): Promise<TrustStore> => {
    const api = await clusterClient(t, cluster(), timeoutMs === undefined ? {} : { timeoutMs });
    const where = { namespace: NAMESPACE, name };
    const store = new KubernetesTrustStore({ api, where, clock: systemClock, log: silentLog });
    t.after(() => store.close());
    return store;
  };

  trustStoreConformance('the Kubernetes store on a real API server', (t) => {
    const name = freshName();
    return { open: () => open(t, name), tick: moment };
  });

  /** Adds entries to the list in the store as a reconciler does: after any failure it looks, then tries again. */
  async function add(store: TrustStore, entry: string, seen: Record<string, number>): Promise<void> {
    for (;;) {
      try {
        const now = await store.read(never);
        const entries = text(now)
          .split(',')
          .filter((one) => one !== '');
        if (entries.includes(entry)) return;
        await store.swap(now?.version ?? null, bytes([...entries, entry].join(',')), never);
        return;
      } catch (error) {
        if (!isKedgeError(error, 'store_conflict', 'store_unavailable')) throw error;
        seen[error.code] = (seen[error.code] ?? 0) + 1;
        if (error.code === 'store_unavailable') await moment();
      }
    }
  }

  it('loses no entry of eight writers at once, whatever conflicts they meet', async (t) => {
    const name = freshName();
    const seen: Record<string, number> = {};
    const writers = await Promise.all(Array.from({ length: 8 }, () => open(t, name)));
    await Promise.all(
      writers.map(async (store, w) => {
        for (let i = 0; i < 10; i += 1) await add(store, `w${w}.${i}`, seen);
      }),
    );
    const entries = text(await writers[0]!.read(never)).split(',');
    assert.equal(new Set(entries).size, 80);
    assert.equal(entries.length, 80);
    assert.ok((seen['store_conflict'] ?? 0) > 0, 'they met');
    t.diagnostic(`80 entries by 8 writers, ${seen['store_conflict']} conflicts`);
  });

  it('loses no entry when the API server is killed and started again while three write', async (t) => {
    const name = freshName();
    const seen: Record<string, number> = {};
    const writers = await Promise.all(Array.from({ length: 3 }, () => open(t, name, 2_000)));
    const done: string[] = [];
    const stop = new AbortController();
    const writing = writers.map(async (store, w) => {
      for (let i = 0; !stop.signal.aborted; i += 1) {
        const entry = `w${w}.${i}`;
        await add(store, entry, seen);
        done.push(entry);
        await moment();
      }
    });
    for (let round = 0; round < 2; round += 1) {
      const before = done.length;
      await until('entries are written', () => done.length > before + 6, 60_000);
      await cluster().stopApiServer();
      await moment();
      await cluster().startApiServer();
    }
    const before = done.length;
    await until('entries are written again', () => done.length > before + 6, 60_000);
    stop.abort();
    await Promise.all(writing);
    const entries = text(await writers[0]!.read(never)).split(',');
    assert.deepEqual(entries.toSorted(), done.toSorted());
    assert.ok((seen['store_unavailable'] ?? 0) > 0, 'they met the outage');
    t.diagnostic(`${done.length} entries over 2 restarts, ${JSON.stringify(seen)}`);
  });

  it('is watched through restarts of the API server: who watches again has the newest', async (t) => {
    const name = freshName();
    const [writer, reader] = [await open(t, name, 2_000), await open(t, name, 2_000)];
    const stop = new AbortController();
    let newest = '';
    let ends = 0;
    const following = (async () => {
      while (!stop.signal.aborted) {
        try {
          for await (const versioned of reader.watch(stop.signal)) newest = text(versioned);
        } catch (error) {
          if (stop.signal.aborted) return;
          assert.ok(isKedgeError(error, 'store_unavailable'), String(error));
          ends += 1;
          await moment();
        }
      }
    })();
    await add(writer, 'a', {});
    await until('the first is seen', () => newest === 'a');
    await cluster().stopApiServer();
    await until('the watch ended', () => ends > 0);
    await cluster().startApiServer();
    await add(writer, 'b', {});
    await until('the second is seen', () => newest === 'a,b', 60_000);
    stop.abort();
    await following;
  });

  it('is out of reach, and no more, while the API server hangs', async (t) => {
    const name = freshName();
    const store = await open(t, name, 1_000);
    const version = await store.swap(null, bytes('one'), never);
    cluster().freezeApiServer(true);
    try {
      await expectRejection('store_unavailable', store.read(never));
      await expectRejection('store_unavailable', store.swap(version, bytes('two'), never));
    } finally {
      cluster().freezeApiServer(false);
    }
    await until('it answers', () =>
      store.read(never).then(
        () => true,
        () => false,
      ),
    );
    // The swap may have been carried out or not: its caller reads, and then knows.
    const read = await store.read(never);
    assert.ok(['one', 'two'].includes(text(read)));
    await store.swap(read!.version, bytes('three'), never);
  });

  const PATH = `/api/v1/namespaces/${NAMESPACE}`;
  const base64 = (value: string): string => Buffer.from(value).toString('base64');
  const harms: readonly {
    readonly name: string;
    readonly data: Record<string, string | null>;
    readonly code: ErrorCode;
  }[] = [
    {
      name: 'emptied',
      data: { document: null, sha256: null, layout: null, tag: null },
      code: 'store_corrupt',
    },
    { name: 'truncated', data: { document: base64('on') }, code: 'store_corrupt' },
    { name: 'edited into nonsense', data: { document: base64('{}') }, code: 'store_corrupt' },
    { name: 'written by a newer Kedge', data: { layout: base64('9') }, code: 'store_newer_version' },
  ];
  for (const { name: what, data, code } of harms) {
    it(`that was ${what} by hand is refused, not written over, and taken again once it is mended`, async (t) => {
      const name = freshName();
      const store = await open(t, name);
      const version = await store.swap(null, bytes('one'), never);
      const { data: whole } = await cluster().admin.get(`${PATH}/secrets/${name}`);
      await cluster().admin.merge(`${PATH}/secrets/${name}`, { data });
      await expectRejection(code, store.read(never));
      await expectRejection('store_conflict', store.swap(version, bytes('two'), never));
      await expectRejection('store_conflict', store.swap(null, bytes('two'), never));
      await cluster().admin.merge(`${PATH}/secrets/${name}`, { data: whole });
      assert.equal(text(await store.read(never)), 'one');
    });
  }

  it('that was deleted is an error until it is restored, and is never made anew beside its marker', async (t) => {
    const name = freshName();
    const store = await open(t, name);
    await store.swap(null, bytes('one'), never);
    const backup = cluster().kubectl(['get', 'secret', name, '-o', 'yaml']).stdout;
    await cluster().admin.delete(`${PATH}/secrets/${name}`);
    const error = await expectRejection('store_corrupt', store.read(never));
    assert.match(error.message, /was deleted/);
    await expectRejection('store_corrupt', (await open(t, name)).swap(null, bytes('new'), never));
    // As an operator does it: uid and resourceVersion of the backup are of the old object.
    const applied = cluster().kubectl(
      ['create', '-f', '-'],
      backup.replaceAll(/^ {2}(uid|resourceVersion|creationTimestamp):.*\n/gm, ''),
    );
    assert.equal(applied.code, 0, applied.stderr);
    assert.equal(text(await store.read(never)), 'one');
  });

  it('is not taken from a Secret of another type', async (t) => {
    const name = freshName();
    const metadata = { name };
    await cluster().admin.create(`${PATH}/secrets`, { metadata, type: 'Opaque', data: { x: base64('y') } });
    const store = await open(t, name);
    await expectRejection('store_corrupt', store.read(never));
    await expectRejection('store_conflict', store.swap(null, bytes('one'), never));
    assert.deepEqual((await cluster().admin.get(`${PATH}/secrets/${name}`))['data'], { x: base64('y') });
  });
});
