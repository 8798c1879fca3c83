import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { KubernetesTrustStore } from '../../../../ca/store/kubernetes-trust-store.ts';
import type { TrustStore, VersionedDocument } from '../../../../ca/store/trust-store.ts';
import type { ObjectEvent } from '../../../../ca/kubernetes/event-recorder.ts';
import { CONFIG_MAP, type KubernetesObject, SECRET } from '../../../../ca/kubernetes/objects.ts';
import { silentLog } from '../../../../host/log.ts';
import type { ErrorCode } from '../../../../pki/error-table.ts';
import { trustStoreConformance } from '../../../conformance/trust-store.ts';
import { MemoryKubernetes, refusal } from '../../../fakes/memory-kubernetes.ts';
import { RecordingLog } from '../../../support/authority-replica.ts';
import { expectRejection } from '../../../support/expect-code.ts';
import { ManualClock, settle } from '../../../support/manual-clock.ts';

const never = new AbortController().signal;
const where = { namespace: 'kedge', name: 'kedge-trust-state' };
const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
const text = (read: VersionedDocument | null): string | null =>
  read === null ? null : Buffer.from(read.document).toString();

trustStoreConformance('the Kubernetes store', () => {
  const api = new MemoryKubernetes();
  const clock = new ManualClock();
  return {
    open: async () => new KubernetesTrustStore({ api, where, clock, log: silentLog }),
    tick: settle,
  };
});

trustStoreConformance('the Kubernetes store whose watches end all the time', () => {
  const api = new MemoryKubernetes();
  const clock = new ManualClock();
  let ticks = 0;
  return {
    open: async () => new KubernetesTrustStore({ api, where, clock, log: silentLog }),
    tick: async () => {
      ticks += 1;
      if (ticks % 2 === 0) api.endWatches();
      else api.compact();
      await settle();
    },
  };
});

async function setUp(t: TestContext, document: string | null = 'one') {
  const api = new MemoryKubernetes();
  const clock = new ManualClock();
  const log = new RecordingLog();
  const told: string[] = [];
  const open = (): TrustStore => {
    const events = {
      record: (object: KubernetesObject, event: ObjectEvent) =>
        void told.push(`${object.kind} ${event.reason} ${event.message}`),
    };
    const store = new KubernetesTrustStore({ api, where, clock, log, events, watchSeconds: 60 });
    t.after(() => store.close());
    return store;
  };
  const store = open();
  if (document !== null) await store.swap(null, bytes(document), never);
  const secret = (): KubernetesObject => api.stored(SECRET, where)!;
  const edit = async (change: Readonly<Record<string, unknown>>): Promise<void> => {
    await api.replace(SECRET, { ...secret(), ...change }, { signal: never });
  };
  return { api, clock, log, open, store, secret, edit, told };
}

const base64 = (value: string): string => Buffer.from(value).toString('base64');

describe('the Secret of the trust state', () => {
  it('is of a type of its own, labelled, and names the size and the checksum of nothing else', async (t) => {
    const { secret } = await setUp(t);
    const { type, metadata, data } = secret() as KubernetesObject & { data: Record<string, string> };
    assert.equal(type, 'kedge.io/trust-state');
    assert.equal(metadata.labels?.['app.kubernetes.io/managed-by'], 'kedge');
    assert.deepEqual(Object.keys(data).toSorted(), ['document', 'layout', 'sha256', 'tag']);
    assert.equal(data['document'], base64('one'));
  });

  /** What somebody did to the Secret, and what the store says. */
  const rows: readonly {
    readonly name: string;
    readonly change: (secret: KubernetesObject) => Readonly<Record<string, unknown>>;
    readonly wantCode: ErrorCode;
    readonly wantMessage: RegExp;
  }[] = [
    {
      name: 'emptied',
      change: () => ({ data: {} }),
      wantCode: 'store_corrupt',
      wantMessage: /"kedge\/kedge-trust-state" is damaged: a key of its data is missing/,
    },
    {
      name: 'truncated',
      change: ({ data }) => ({ data: { ...(data as object), document: base64('on') } }),
      wantCode: 'store_corrupt',
      wantMessage: /the document differs from its checksum/,
    },
    {
      name: 'edited into nonsense',
      change: ({ data }) => ({ data: { ...(data as object), document: base64('{"nonsense":true}') } }),
      wantCode: 'store_corrupt',
      wantMessage: /the document differs from its checksum/,
    },
    {
      name: 'edited in its tag',
      change: ({ data }) => ({ data: { ...(data as object), tag: base64('../../x') } }),
      wantCode: 'store_corrupt',
      wantMessage: /not in the form that Kedge writes/,
    },
    {
      name: 'edited in its layout',
      change: ({ data }) => ({ data: { ...(data as object), layout: base64('one') } }),
      wantCode: 'store_corrupt',
      wantMessage: /not in the form that Kedge writes/,
    },
    {
      name: 'written by a newer Kedge',
      change: ({ data }) => ({ data: { ...(data as object), layout: base64('2') } }),
      wantCode: 'store_newer_version',
      wantMessage: /has layout 2, this Kedge knows up to 1/,
    },
    {
      name: 'given to another owner',
      change: ({ metadata }) => ({
        metadata: { ...metadata, labels: { 'app.kubernetes.io/managed-by': 'Helm' } },
      }),
      wantCode: 'store_corrupt',
      wantMessage: /is there, but is not a trust state of Kedge/,
    },
  ];

  for (const { name, change, wantCode, wantMessage } of rows) {
    it(`is refused when it was ${name}, is not written over, and is taken again once it is mended`, async (t) => {
      const { store, secret, edit, api, told } = await setUp(t);
      const before = secret();
      await edit(change(before));
      const broken = secret();
      const error = await expectRejection(wantCode, store.read(never));
      assert.match(error.message, wantMessage);
      const [event] = told;
      assert.match(event ?? '', /^Secret KedgeTrustStateBroken /);
      assert.ok(event?.includes(error.message));
      assert.ok((error.hint ?? '') !== '');
      await expectRejection('store_conflict', store.swap(null, bytes('new'), never));
      assert.deepEqual(secret(), broken);
      const { resourceVersion: _, ...metadata } = before.metadata;
      await api.replace(SECRET, { ...before, metadata }, { signal: never });
      assert.equal(text(await store.read(never)), 'one');
    });
  }

  it('is refused when another one stands under its name, of another type', async (t) => {
    const { api, store } = await setUp(t, null);
    await api.create(
      SECRET,
      { metadata: where, type: 'Opaque', data: { password: 'c2VjcmV0' } },
      { signal: never },
    );
    const error = await expectRejection('store_corrupt', store.read(never));
    assert.doesNotMatch(`${error.message} ${error.hint}`, /c2VjcmV0|secret"/);
    await expectRejection('store_conflict', store.swap(null, bytes('new'), never));
  });

  it('is not made anew after it was deleted, until the marker is deleted as well', async (t) => {
    const { api, open, told } = await setUp(t);
    await api.delete(SECRET, where, { signal: never });
    const store = open();
    const error = await expectRejection('store_corrupt', store.read(never));
    assert.match(told.join(), /^ConfigMap KedgeTrustStateBroken .*was deleted.*delete the ConfigMap too/);
    assert.match(error.message, /was deleted/);
    await expectRejection('store_corrupt', store.swap(null, bytes('new'), never));
    assert.equal(api.stored(SECRET, where), undefined);
    await api.delete(CONFIG_MAP, where, { signal: never });
    assert.equal(await store.read(never), null);
    await store.swap(null, bytes('new'), never);
    assert.ok(api.stored(CONFIG_MAP, where) !== undefined);
  });

  it('is taken back from a backup, under another uid', async (t) => {
    const { api, store, secret } = await setUp(t);
    const { uid: _uid, resourceVersion: _version, ...metadata } = secret().metadata;
    const backup = { ...secret(), metadata };
    const before = (await store.read(never))!.version;
    await api.delete(SECRET, where, { signal: never });
    await api.create(SECRET, backup, { signal: never });
    const read = await store.read(never);
    assert.equal(text(read), 'one');
    assert.notEqual(read?.version, before);
    await expectRejection('store_conflict', store.swap(before, bytes('two'), never));
    await store.swap(read!.version, bytes('two'), never);
  });
});

describe('the marker of the trust state', () => {
  it('is made by the next read when the process ended between the two writes', async (t) => {
    const { api, open } = await setUp(t, null);
    api.fault = ({ verb, resource }) =>
      verb === 'create' && resource === 'configmaps' ? { before: refusal('kubernetes_unreachable') } : null;
    await open().swap(null, bytes('one'), never);
    assert.equal(api.stored(CONFIG_MAP, where), undefined);
    api.fault = () => null;
    assert.equal(text(await open().read(never)), 'one');
    assert.ok(api.stored(CONFIG_MAP, where) !== undefined);
  });

  it('withholds nothing when it cannot be made, and says so', async (t) => {
    const { api, open, log } = await setUp(t, null);
    api.fault = ({ verb, resource }) =>
      verb === 'create' && resource === 'configmaps' ? { before: refusal('kubernetes_forbidden') } : null;
    const store = open();
    await store.swap(null, bytes('one'), never);
    assert.equal(text(await store.read(never)), 'one');
    assert.ok(log.events.includes('trust_store.marker_failed'));
  });
});

describe('a failing API server', () => {
  const UNAVAILABLE: readonly ErrorCode[] = [
    'kubernetes_unreachable',
    'kubernetes_unavailable',
    'kubernetes_throttled',
    'kubernetes_unauthorized',
    'kubernetes_forbidden',
    'kubernetes_answer_invalid',
    'kubernetes_refused',
    'deadline_exceeded',
  ];
  for (const code of UNAVAILABLE) {
    it(`is store_unavailable when it answers ${code}`, async (t) => {
      const { api, store } = await setUp(t);
      const version = (await store.read(never))!.version;
      api.fault = () => ({ before: refusal(code) });
      const error = await expectRejection('store_unavailable', store.read(never));
      assert.equal((error.cause as { code: string }).code, code);
      await expectRejection('store_unavailable', store.swap(version, bytes('two'), never));
      await expectRejection('store_unavailable', store.watch(never)[Symbol.asyncIterator]().next());
    });
  }

  it('that stored a swap and then failed has stored it: the next read finds it', async (t) => {
    const { api, store } = await setUp(t);
    const { version } = (await store.read(never))!;
    api.fault = ({ verb }) => (verb === 'replace' ? { after: refusal('kubernetes_unreachable') } : null);
    await expectRejection('store_unavailable', store.swap(version, bytes('two'), never));
    api.fault = () => null;
    assert.equal(text(await store.read(never)), 'two');
    await expectRejection('store_conflict', store.swap(version, bytes('three'), never));
  });

  it('that failed before it stored a swap leaves the version that was', async (t) => {
    const { api, store } = await setUp(t);
    const { version } = (await store.read(never))!;
    api.fault = ({ verb }) => (verb === 'replace' ? { before: refusal('kubernetes_unavailable') } : null);
    await expectRejection('store_unavailable', store.swap(version, bytes('two'), never));
    api.fault = () => null;
    await store.swap(version, bytes('two'), never);
  });

  it('keeps the hint with the RBAC rule that is missing', async (t) => {
    const { api, store } = await setUp(t);
    const { KedgeError } = await import('../../../../pki/kedge-error.ts');
    api.fault = () => ({
      before: new KedgeError('kubernetes_forbidden', 'no', { hint: 'grant it', retryAfterMs: 7 }),
    });
    const { hint, retryAfterMs } = await expectRejection('store_unavailable', store.read(never));
    assert.deepEqual([hint, retryAfterMs], ['grant it', 7]);
  });
});

describe('a watch of the Secret', () => {
  it('reads a burst of changes once, however many events there were', async (t) => {
    const { api, store, open } = await setUp(t);
    const steps = open().watch(never)[Symbol.asyncIterator]();
    let version = ((await steps.next()).value as VersionedDocument).version;
    for (let i = 0; i < 5; i += 1) version = await store.swap(version, bytes(`v${i}`), never);
    const reads = api.count('get', 'secrets');
    assert.equal(text((await steps.next()).value as VersionedDocument), 'v4');
    assert.equal(api.count('get', 'secrets') - reads, 1);
    await steps.return?.();
  });

  it('lists again when the API server no longer has what happened since', async (t) => {
    const { api, store, open } = await setUp(t);
    const steps = open().watch(never)[Symbol.asyncIterator]();
    const first = (await steps.next()).value as VersionedDocument;
    const next = steps.next();
    await settle();
    const lists = api.count('list');
    await store.swap(first.version, bytes('two'), never);
    api.compact();
    assert.equal(text((await next).value as VersionedDocument), 'two');
    assert.ok(api.count('list') >= lists);
    await steps.return?.();
  });

  it('goes on from its last event when the API server ends it, without a list', async (t) => {
    const { api, store, open } = await setUp(t);
    const steps = open().watch(never)[Symbol.asyncIterator]();
    const first = (await steps.next()).value as VersionedDocument;
    const next = steps.next();
    await settle();
    api.endWatches();
    await settle();
    const lists = api.count('list');
    await store.swap(first.version, bytes('two'), never);
    assert.equal(text((await next).value as VersionedDocument), 'two');
    assert.equal(api.count('list'), lists);
    await steps.return?.();
  });

  it('ends with store_corrupt when the Secret is deleted, or broken', async (t) => {
    const { api, open, edit } = await setUp(t);
    for (const harm of [() => edit({ data: {} }), () => api.delete(SECRET, where, { signal: never })]) {
      const { resourceVersion: _, ...metadata } = api.stored(SECRET, where)!.metadata;
      const whole = { ...api.stored(SECRET, where)!, metadata };
      const steps = open().watch(never)[Symbol.asyncIterator]();
      await steps.next();
      const next = steps.next();
      await settle();
      await harm();
      await expectRejection('store_corrupt', next);
      if (api.stored(SECRET, where) !== undefined) await api.replace(SECRET, whole, { signal: never });
    }
  });

  it('is given up when it has been silent for longer than the API server was to keep it open', async (t) => {
    const { clock, open } = await setUp(t);
    const steps = open().watch(never)[Symbol.asyncIterator]();
    await steps.next();
    const next = steps.next();
    next.catch(() => undefined);
    await clock.advance(74_000);
    let ended = false;
    next.catch(() => {
      ended = true;
    });
    await settle();
    assert.equal(ended, false);
    await clock.advance(2_000);
    await expectRejection('store_unavailable', next);
  });
});

describe('three replicas on one Secret', () => {
  it('lose nothing of what each adds in a storm of conflicts with an API server that fails every third call', async (t) => {
    const { api, open } = await setUp(t, null);
    let calls = 0;
    api.fault = () => {
      calls += 1;
      if (calls % 3 !== 0) return null;
      return calls % 2 === 0
        ? { before: refusal('kubernetes_unreachable') }
        : { after: refusal('kubernetes_unreachable') };
    };
    /** Adds a name to the list in the store, as a reconciler does: after any failure it looks, and tries again. */
    const add = async (store: TrustStore, name: string): Promise<void> => {
      for (;;) {
        try {
          const now = await store.read(never);
          const names = (text(now) ?? '').split(',').filter((n) => n !== '');
          if (names.includes(name)) return;
          await store.swap(now?.version ?? null, bytes([...names, name].join(',')), never);
        } catch (error) {
          const { code } = error as { code: string };
          assert.ok(code === 'store_conflict' || code === 'store_unavailable', code);
        }
      }
    };
    const wanted = Array.from({ length: 3 }, (_, r) => Array.from({ length: 10 }, (_, i) => `r${r}i${i}`));
    await Promise.all(
      wanted.map(async (names) => {
        const store = open();
        for (const name of names) await add(store, name);
      }),
    );
    api.fault = () => null;
    const names = (text(await open().read(never)) ?? '').split(',');
    assert.deepEqual(names.toSorted(), wanted.flat().toSorted());
  });
});
