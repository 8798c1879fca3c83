import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { Informer, type ObjectChange } from '../../../../ca/kubernetes/informer.ts';
import type { ListOptions, ObjectList, WatchEvent } from '../../../../ca/kubernetes/kubernetes-api.ts';
import { type KubernetesObject, POD } from '../../../../ca/kubernetes/objects.ts';
import { silentLog } from '../../../../host/log.ts';
import { KedgeError } from '../../../../pki/kedge-error.ts';
import { fixedRandom } from '../../../fakes/fixed-random.ts';
import { FakeApiServer } from '../../../fakes/fake-api-server.ts';
import { clientOf } from '../../../support/kubernetes-client.ts';
import { ManualClock, settle } from '../../../support/manual-clock.ts';

const pod = (name: string, version: string, node = ''): KubernetesObject => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'n', resourceVersion: version },
  spec: { nodeName: node },
});
const nodeOf = ({ spec }: KubernetesObject): string => (spec as { nodeName: string }).nodeName;

/** What the API server does next, told by the test. */
class Script {
  readonly calls: string[] = [];
  readonly lists: (ObjectList | KedgeError)[] = [];
  readonly watches: (WatchEvent | KedgeError | 'stay')[][] = [];

  list = (_type: unknown, { signal }: ListOptions): Promise<ObjectList> => {
    this.calls.push('list');
    const next = this.lists.shift();
    if (next === undefined) return new Promise((_, reject) => signal.addEventListener('abort', reject));
    return next instanceof KedgeError ? Promise.reject(next) : Promise.resolve(next);
  };

  watch = async function* (
    this: Script,
    _type: unknown,
    { resourceVersion, signal }: { resourceVersion: string; signal: AbortSignal },
  ): AsyncGenerator<WatchEvent> {
    this.calls.push(`watch ${resourceVersion}`);
    const events = this.watches.shift() ?? ['stay'];
    yield { kind: 'opened' };
    for (const event of events) {
      if (event === 'stay') await new Promise((_, reject) => signal.addEventListener('abort', reject));
      else if (event instanceof KedgeError) throw event;
      else yield event;
    }
  }.bind(this);
}

function follow(t: TestContext, script: Script, relistMs?: number) {
  const clock = new ManualClock();
  const changes: string[] = [];
  const informer = new Informer<string>({
    api: script,
    type: POD,
    read: nodeOf,
    onChange: (change: ObjectChange<string>) =>
      changes.push(`${change.kind} ${change.key} ${change.previous ?? '-'}`),
    clock,
    random: fixedRandom(0.5),
    log: silentLog,
    ...(relistMs === undefined ? {} : { relistMs }),
  });
  const end = new AbortController();
  const running = informer.run(end.signal);
  t.after(async () => {
    end.abort();
    await running;
  });
  return { clock, changes, informer, end, running };
}

const unreachable = new KedgeError('kubernetes_unreachable', 'away');
const gone = new KedgeError('kubernetes_gone', 'too old');

describe('Informer', () => {
  it('lists, then follows from there', async (t) => {
    const script = new Script();
    script.lists.push({ items: [pod('a', '5', 'n1'), pod('b', '6', 'n1')], resourceVersion: '9' });
    script.watches.push([
      { kind: 'modified', object: pod('a', '10', 'n2') },
      { kind: 'deleted', object: pod('b', '11') },
      { kind: 'added', object: pod('c', '12', 'n3') },
      'stay',
    ]);
    const { informer, changes } = follow(t, script);
    assert.equal(informer.synced, false);
    assert.equal(informer.staleMs, Number.POSITIVE_INFINITY);
    await informer.untilSynced(new AbortController().signal);
    await settle();
    assert.deepEqual(
      [...informer.entries()],
      [
        ['n/a', 'n2'],
        ['n/c', 'n3'],
      ],
    );
    assert.deepEqual(changes, ['set n/a -', 'set n/b -', 'set n/a n1', 'gone n/b n1', 'set n/c -']);
    assert.deepEqual(script.calls, ['list', 'watch 9']);
    assert.equal(informer.staleMs, 0);
  });

  it('keeps of each object what it reads, as the list gives it, and nothing of a list that fails', async (t) => {
    const script = new Script();
    const given: number[] = [];
    script.list = async (_type, { take }) => {
      take?.(pod('a', '5', 'n1'));
      given.push(given.length);
      if (given.length === 1) throw unreachable;
      return { items: [], resourceVersion: '9' };
    };
    const { informer, changes, clock } = follow(t, script);
    await settle();
    assert.deepEqual([changes, informer.synced], [[], false]);
    await clock.advance(1_000);
    assert.deepEqual([changes, informer.synced], [['set n/a -'], true]);
  });

  it('goes on from the last event or bookmark when a watch ends, without a new list', async (t) => {
    const script = new Script();
    script.lists.push({ items: [], resourceVersion: '9' });
    script.watches.push(
      [{ kind: 'added', object: pod('a', '10') }],
      [{ kind: 'bookmark', resourceVersion: '20' }],
      ['stay'],
    );
    follow(t, script);
    await settle();
    assert.deepEqual(script.calls, ['list', 'watch 9', 'watch 10', 'watch 20']);
  });

  it('goes on from the last event when the connection breaks, after a wait', async (t) => {
    const script = new Script();
    script.lists.push({ items: [], resourceVersion: '9' });
    script.watches.push([{ kind: 'added', object: pod('a', '10', 'n1') }, unreachable]);
    const { clock, informer } = follow(t, script);
    await settle();
    assert.equal(informer.failure, unreachable);
    assert.deepEqual(script.calls, ['list', 'watch 9']);
    assert.equal(informer.get('n/a'), 'n1', 'what was told is kept');
    await clock.advance(250);
    assert.deepEqual(script.calls, ['list', 'watch 9', 'watch 10']);
    assert.equal(informer.failure, undefined);
  });

  it('keeps what it has while the API server is away, and says how old it is', async (t) => {
    const script = new Script();
    script.lists.push({ items: [pod('a', '5', 'n1')], resourceVersion: '9' });
    script.watches.push([unreachable]);
    const { clock, informer } = follow(t, script);
    script.watch = async function* () {
      yield* [];
      throw unreachable;
    };
    await settle();
    await clock.advance(600_000);
    assert.equal(informer.get('n/a'), 'n1');
    assert.equal(informer.staleMs, 600_000);
    assert.equal(informer.failure, unreachable);
  });

  it('lists again when the past is gone, and takes what is missing for gone', async (t) => {
    const script = new Script();
    script.lists.push(
      { items: [pod('a', '5', 'n1'), pod('b', '6', 'n1')], resourceVersion: '9' },
      { items: [pod('b', '20', 'n2')], resourceVersion: '30' },
    );
    script.watches.push([gone]);
    const { clock, informer, changes } = follow(t, script);
    await settle();
    await clock.advance(250);
    assert.deepEqual(script.calls, ['list', 'watch 9', 'list', 'watch 30']);
    assert.deepEqual(changes.slice(2), ['set n/b n1', 'gone n/a n1']);
    assert.equal(informer.size, 1);
  });

  it('waits longer and longer, at least as long as it is told, and recovers', async (t) => {
    const script = new Script();
    const throttled = new KedgeError('kubernetes_throttled', 'slow', { retryAfterMs: 60_000 });
    script.lists.push(unreachable, unreachable, unreachable, throttled, { items: [], resourceVersion: '9' });
    const { clock, informer } = follow(t, script);
    const lists: number[] = [];
    for (const ms of [0, 250, 500, 1_000, 60_000 + 1_999, 1]) {
      await clock.advance(ms);
      lists.push(script.calls.filter((call) => call === 'list').length);
    }
    assert.deepEqual(lists, [1, 2, 3, 4, 4, 5]);
    assert.equal(informer.synced, true);
  });

  it('does not spin on a server that ends each watch at once', async (t) => {
    const script = new Script();
    script.lists.push({ items: [], resourceVersion: '9' });
    for (let i = 0; i < 1_000; i += 1) script.watches.push([]);
    const { clock } = follow(t, script);
    await settle();
    await clock.advance(60_000);
    assert.ok(script.calls.length > 5 && script.calls.length < 30, `${script.calls.length} calls`);
  });

  it('lists again as often as it is told to', async (t) => {
    const script = new Script();
    const items = { items: [], resourceVersion: '9' };
    script.lists.push(items, items);
    script.watches.push([{ kind: 'bookmark', resourceVersion: '10' }, unreachable]);
    const { clock } = follow(t, script, 100);
    await settle();
    await clock.advance(250);
    assert.deepEqual(script.calls, ['list', 'watch 9', 'list', 'watch 9']);
  });

  it('ends when its signal does, whatever it waits for', async (t) => {
    const script = new Script();
    const { end, running, informer } = follow(t, script);
    const waiting = informer.untilSynced(end.signal);
    await settle();
    end.abort(new Error('over'));
    await assert.rejects(waiting, /over/);
    await running;
  });

  it('follows a server over HTTP through changes, broken watches and a compaction', async (t) => {
    const fake = await FakeApiServer.start();
    t.after(() => fake.close());
    const at = { collection: '/api/v1/pods', namespace: 'n' };
    const put = (name: string) =>
      fake.store.create(at, { apiVersion: 'v1', kind: 'Pod', metadata: { name } });
    put('a');
    const clock = new ManualClock();
    const names = new Set<string>();
    const informer = new Informer<string>({
      api: clientOf(fake.url, { clock }),
      type: POD,
      read: ({ metadata }) => metadata.uid ?? '',
      onChange: ({ kind, key }) => void (kind === 'set' ? names.add(key) : names.delete(key)),
      clock,
      random: fixedRandom(0.5),
      log: silentLog,
    });
    const end = new AbortController();
    const running = informer.run(end.signal);
    const until = async (want: readonly string[]): Promise<void> => {
      while ([...names].toSorted().join() !== want.join()) await clock.advance(100);
    };
    await until(['n/a']);
    put('b');
    await until(['n/a', 'n/b']);
    fake.endWatches('cut');
    put('c');
    fake.store.delete(at, 'a', undefined);
    await until(['n/b', 'n/c']);
    fake.endWatches('cut');
    fake.store.delete(at, 'b', undefined);
    put('d');
    fake.store.compact();
    await until(['n/c', 'n/d']);
    end.abort();
    await running;
  });
});
