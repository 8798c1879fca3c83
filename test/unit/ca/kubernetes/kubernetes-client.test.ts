import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import type { KubernetesApi } from '../../../../ca/kubernetes/kubernetes-api.ts';
import type { WatchEvent } from '../../../../ca/kubernetes/kubernetes-api.ts';
import { CONFIG_MAP, NAMESPACE, POD, SECRET, TOKEN_REVIEW } from '../../../../ca/kubernetes/objects.ts';
import type { ErrorCode } from '../../../../pki/error-table.ts';
import { LIMITS } from '../../../../pki/limits.ts';
import { FakeApiServer, type Fault } from '../../../fakes/fake-api-server.ts';
import { expectRejection } from '../../../support/expect-code.ts';
import { clientOf } from '../../../support/kubernetes-client.ts';
import { ManualClock, settle } from '../../../support/manual-clock.ts';

const signal = new AbortController().signal;
const call = { signal };

async function server(
  t: TestContext,
): Promise<{ readonly fake: FakeApiServer; readonly api: KubernetesApi }> {
  const fake = await FakeApiServer.start();
  const api = clientOf(fake.url);
  t.after(async () => {
    api.close();
    await fake.close();
  });
  return { fake, api };
}

const draft = (name: string, data: object = {}) => ({ metadata: { name, namespace: 'kedge' }, data });
const ref = (name: string) => ({ name, namespace: 'kedge' });

describe('KubernetesClient', () => {
  it('makes, reads, replaces, patches and deletes an object', async (t) => {
    const { api } = await server(t);
    const made = await api.create(CONFIG_MAP, draft('a', { x: '1' }), call);
    assert.equal(made.metadata.name, 'a');
    assert.deepEqual(await api.get(CONFIG_MAP, ref('a'), call), made);
    const replaced = await api.replace(CONFIG_MAP, { ...made, data: { x: '2' } }, call);
    assert.deepEqual(replaced['data'], { x: '2' });
    const patched = await api.patch(
      CONFIG_MAP,
      ref('a'),
      { kind: 'merge', body: { data: { y: '3' } } },
      call,
    );
    assert.deepEqual(patched['data'], { x: '2', y: '3' });
    await api.delete(CONFIG_MAP, ref('a'), call);
    await expectRejection('kubernetes_not_found', api.get(CONFIG_MAP, ref('a'), call));
  });

  it('tells apart who lost a race: one who makes what exists, one who replaces what has changed', async (t) => {
    const { api } = await server(t);
    const made = await api.create(CONFIG_MAP, draft('a'), call);
    await expectRejection('kubernetes_exists', api.create(CONFIG_MAP, draft('a'), call));
    await api.replace(CONFIG_MAP, { ...made, data: { x: 'first' } }, call);
    await expectRejection(
      'kubernetes_conflict',
      api.replace(CONFIG_MAP, { ...made, data: { x: 'late' } }, call),
    );
    const uid = '00000000-0000-4000-8000-999999999999';
    await expectRejection('kubernetes_conflict', api.delete(CONFIG_MAP, ref('a'), { ...call, uid }));
  });

  it('applies with field manager, force and strict validation in the query', async (t) => {
    const { fake, api } = await server(t);
    await api.apply(CONFIG_MAP, draft('a', { x: '1' }), { ...call, fieldManager: 'kedge', force: true });
    await api.apply(CONFIG_MAP, draft('a', { x: '2' }), { ...call, fieldManager: 'kedge', dryRun: true });
    const [first, second] = fake.seen;
    assert.equal(first?.contentType, 'application/apply-patch+yaml');
    assert.equal(first.query.toString(), 'fieldManager=kedge&force=true&fieldValidation=Strict');
    assert.equal(second?.query.get('dryRun'), 'All');
  });

  it('lists page by page, of every namespace or one, and selected', async (t) => {
    const { fake, api } = await server(t);
    for (let i = 0; i < LIMITS.kubernetesPageItems + 3; i += 1) {
      const metadata = {
        name: `p${i}`,
        namespace: i % 2 === 0 ? 'even' : 'odd',
        labels: { third: `${i % 3}` },
      };
      fake.store.create(
        { collection: '/api/v1/pods', namespace: metadata.namespace },
        { apiVersion: 'v1', kind: 'Pod', metadata },
      );
    }
    const all = await api.list(POD, call);
    assert.equal(all.items.length, LIMITS.kubernetesPageItems + 3);
    assert.equal(all.items[0]?.kind, 'Pod');
    assert.equal(all.resourceVersion, fake.store.resourceVersion);
    assert.equal(fake.seen.length, 2);
    const odd = await api.list(POD, { ...call, namespace: 'odd', labelSelector: 'third=0' });
    assert.ok(odd.items.length > 0);
    for (const { metadata } of odd.items)
      assert.deepEqual([metadata.namespace, metadata.labels?.['third']], ['odd', '0']);
    assert.deepEqual((await api.list(NAMESPACE, { ...call, namespace: 'ignored' })).items, []);
  });

  it('lists what somebody made as large as can be, however many there are', async (t) => {
    const { fake, api } = await server(t);
    // Of what JSON escapes there is six times as much in an answer as in etcd.
    const texts = [...Array<string>(14).fill('y'), '\u0001', '\u0001'];
    for (const [i, text] of texts.entries()) {
      const metadata = { name: `p${i}`, annotations: { x: text.repeat(1_400_000) } };
      fake.store.create(
        { collection: '/api/v1/pods', namespace: 'n' },
        { apiVersion: 'v1', kind: 'Pod', metadata },
      );
    }
    assert.equal((await api.list(POD, call)).items.length, texts.length);
  });

  it('says that a list has to be begun again when its pages are gone', async (t) => {
    const { fake, api } = await server(t);
    for (let i = 0; i <= LIMITS.kubernetesPageItems; i += 1) {
      fake.store.create(
        { collection: '/api/v1/pods', namespace: 'n' },
        { apiVersion: 'v1', kind: 'Pod', metadata: { name: `p${i}` } },
      );
    }
    fake.extensions.push(({ query }) => void (query.has('continue') && fake.store.compact()));
    await expectRejection('kubernetes_gone', api.list(POD, call));
  });

  it('asks for a namespace where objects have one, and never lets a name change the path', async () => {
    const api = clientOf('http://127.0.0.1:1');
    for (const name of ['../secrets', 'a/b', '..', '.', '', 'a%2fb', 'a\nb']) {
      await expectRejection('usage_invalid', api.get(CONFIG_MAP, { name, namespace: 'n' }, call));
      await expectRejection('usage_invalid', api.get(CONFIG_MAP, { name: 'a', namespace: name }, call));
      await expectRejection('usage_invalid', api.list(CONFIG_MAP, { ...call, namespace: name }));
    }
    await expectRejection('usage_invalid', api.replace(CONFIG_MAP, { metadata: { name: 'a' } }, call));
  });

  it('sends its credentials', async (t) => {
    const { fake, api } = await server(t);
    await api.list(POD, call);
    assert.equal(fake.seen[0]?.authorization, 'Bearer test');
  });

  it('knows what the cluster serves', async (t) => {
    const { fake, api } = await server(t);
    fake.extensions.push(({ path }) =>
      path === '/apis/apps/v1'
        ? { kind: 'APIResourceList', resources: [{ name: 'deployments' }, { name: 'deployments/scale' }] }
        : undefined,
    );
    assert.deepEqual(
      await api.servedResources('apps/v1', call),
      new Set(['deployments', 'deployments/scale']),
    );
    assert.deepEqual(await api.servedResources('certificates.k8s.io/v1alpha1', call), new Set());
  });

  it('asks what it may', async (t) => {
    const { fake, api } = await server(t);
    fake.extensions.push(({ path, body }) => {
      if (!path.endsWith('/selfsubjectaccessreviews')) return undefined;
      const review = body as { spec: { resourceAttributes: { verb: string } } };
      return { ...review, status: { allowed: review.spec.resourceAttributes.verb === 'create' } };
    });
    const question = { group: 'authentication.k8s.io', resource: 'tokenreviews' };
    assert.equal(await api.mayI({ ...question, verb: 'create' }, call), true);
    assert.equal(await api.mayI({ ...question, verb: 'delete' }, call), false);
  });

  const status = (code: number, reason: string, more: object = {}): Fault => ({
    kind: 'answer',
    status: code,
    body: JSON.stringify({
      kind: 'Status',
      apiVersion: 'v1',
      status: 'Failure',
      message: `because of ${reason}`,
      reason,
      code,
      ...more,
    }),
  });
  const REFUSALS: readonly {
    name: string;
    fault: Fault;
    wantCode: ErrorCode;
    retryAfterMs?: number;
    says?: RegExp;
    hint?: RegExp;
  }[] = [
    { name: '401', fault: status(401, 'Unauthorized'), wantCode: 'kubernetes_unauthorized', hint: /token/ },
    {
      name: '403',
      fault: status(403, 'Forbidden'),
      wantCode: 'kubernetes_forbidden',
      hint: /^grant by a Role in namespace "kedge": apiGroups: \[""\], resources: \["configmaps"\], verbs: \["get"\], resourceNames: \["a"\]$/,
    },
    { name: '404', fault: status(404, 'NotFound'), wantCode: 'kubernetes_not_found' },
    {
      name: '404 of a server that has no such API',
      fault: { kind: 'answer', status: 404, body: '404 page not found\n' },
      wantCode: 'kubernetes_not_found',
    },
    { name: '409', fault: status(409, 'Conflict'), wantCode: 'kubernetes_conflict' },
    { name: '410', fault: status(410, 'Expired'), wantCode: 'kubernetes_gone' },
    {
      name: '422',
      fault: status(422, 'Invalid'),
      wantCode: 'kubernetes_refused',
      says: /because of Invalid/,
    },
    { name: '400', fault: status(400, 'BadRequest'), wantCode: 'kubernetes_refused' },
    {
      name: '429 with retry-after',
      fault: { ...status(429, 'TooManyRequests'), headers: { 'retry-after': '7' } } as Fault,
      wantCode: 'kubernetes_throttled',
      retryAfterMs: 7_000,
    },
    {
      name: '429 with retryAfterSeconds',
      fault: status(429, 'TooManyRequests', { details: { retryAfterSeconds: 3 } }),
      wantCode: 'kubernetes_throttled',
      retryAfterMs: 3_000,
    },
    {
      name: '429 that asks for years',
      fault: { kind: 'answer', status: 429, body: '', headers: { 'retry-after': '999999999' } },
      wantCode: 'kubernetes_throttled',
      retryAfterMs: 3_600_000,
    },
    { name: '500', fault: status(500, 'InternalError'), wantCode: 'kubernetes_unavailable' },
    {
      name: '503 of a proxy, in HTML',
      fault: { kind: 'answer', status: 503, body: '<html>secret</html>' },
      wantCode: 'kubernetes_unavailable',
    },
    { name: '504', fault: status(504, 'Timeout'), wantCode: 'kubernetes_unavailable' },
    {
      name: 'a redirect',
      fault: { kind: 'answer', status: 302, body: '', headers: { location: 'http://elsewhere.invalid/' } },
      wantCode: 'kubernetes_answer_invalid',
    },
    {
      name: 'HTML with 200',
      fault: { kind: 'answer', status: 200, body: '<!doctype html><p>log in' },
      wantCode: 'kubernetes_answer_invalid',
      says: /is HTML, not JSON/,
    },
    {
      name: 'JSON that is cut off',
      fault: { kind: 'answer', status: 200, body: '{"kind":"ConfigMap","apiV' },
      wantCode: 'kubernetes_answer_invalid',
      says: /cut off/,
    },
    {
      name: 'nothing',
      fault: { kind: 'answer', status: 200, body: '' },
      wantCode: 'kubernetes_answer_invalid',
    },
    {
      name: 'an object of another kind',
      fault: {
        kind: 'answer',
        status: 200,
        body: '{"kind":"Secret","apiVersion":"v1","metadata":{"name":"a"}}',
      },
      wantCode: 'kubernetes_answer_invalid',
      says: /"Secret" of "v1", not ConfigMap/,
    },
    {
      name: 'a JSON list',
      fault: { kind: 'answer', status: 200, body: '[]' },
      wantCode: 'kubernetes_answer_invalid',
    },
    {
      name: 'metadata that are a text',
      fault: { kind: 'answer', status: 200, body: '{"kind":"ConfigMap","apiVersion":"v1","metadata":"a"}' },
      wantCode: 'kubernetes_answer_invalid',
    },
    {
      name: 'a label that is a number',
      fault: {
        kind: 'answer',
        status: 200,
        body: '{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","labels":{"x":1}}}',
      },
      wantCode: 'kubernetes_answer_invalid',
    },
    {
      name: 'bytes that are not UTF-8',
      fault: { kind: 'answer', status: 200, body: new Uint8Array([0x7b, 0xff, 0x7d]) },
      wantCode: 'kubernetes_answer_invalid',
    },
    {
      name: 'an answer over the limit',
      fault: { kind: 'answer', status: 200, body: ' '.repeat(LIMITS.kubernetesObjectBytes + 1) },
      wantCode: 'kubernetes_answer_invalid',
      says: /over \d+ bytes/,
    },
    {
      name: 'an answer that announces more than the limit',
      fault: { kind: 'answer', status: 200, body: '{}', headers: { 'content-length': '99999999999' } },
      wantCode: 'kubernetes_answer_invalid',
      says: /over \d+ bytes/,
    },
    { name: 'an answer that is cut', fault: { kind: 'cut body' }, wantCode: 'kubernetes_unreachable' },
    {
      name: 'a connection that is cut',
      fault: { kind: 'cut', done: false },
      wantCode: 'kubernetes_unreachable',
    },
  ];
  for (const { name, fault, wantCode, retryAfterMs, says, hint } of REFUSALS) {
    it(`makes ${wantCode} of ${name}`, async (t) => {
      const { fake, api } = await server(t);
      fake.store.create(
        { collection: '/api/v1/configmaps', namespace: 'kedge' },
        { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'a' } },
      );
      fake.next(/^GET /, fault);
      const error = await expectRejection(wantCode, api.get(CONFIG_MAP, ref('a'), call));
      assert.equal(error.retryAfterMs, retryAfterMs);
      assert.ok(
        error.message.startsWith(
          error.message.includes('the answer to')
            ? 'the answer to get configmaps/a in kedge'
            : 'get configmaps/a in kedge',
        ),
        error.message,
      );
      if (says !== undefined) assert.match(error.message, says);
      if (hint !== undefined) assert.match(error.hint ?? '', hint);
      assert.ok(!error.message.includes('secret</html>'));
      assert.equal((await api.get(CONFIG_MAP, ref('a'), call)).metadata.name, 'a', 'it does not recover');
    });
  }

  it('does not repeat what the API server says about an object that holds secrets', async (t) => {
    const { fake, api } = await server(t);
    for (const type of [SECRET, TOKEN_REVIEW]) {
      fake.next(/^POST /, status(422, 'Invalid', { message: 'invalid value: "hunter2"' }));
      const error = await expectRejection('kubernetes_refused', api.create(type, draft('a'), call));
      assert.ok(!error.message.includes('hunter2'));
      assert.match(error.message, /"Invalid"/);
    }
  });

  it('sends a read again when the kept connection was closed, and nothing else', async (t) => {
    const { fake, api } = await server(t);
    await api.create(CONFIG_MAP, draft('a'), call);
    fake.next(/^GET /, { kind: 'cut', done: false });
    await api.get(CONFIG_MAP, ref('a'), call);
    fake.next(/^POST .*configmaps/, { kind: 'cut', done: true });
    await expectRejection('kubernetes_unreachable', api.create(CONFIG_MAP, draft('b'), call));
    assert.equal(fake.seen.filter(({ method }) => method === 'POST').length, 2);
    assert.equal((await api.get(CONFIG_MAP, ref('b'), call)).metadata.name, 'b', 'it was carried out');
  });

  it('gives up at its deadline, and at once when the caller has left', async (t) => {
    const fake = await FakeApiServer.start();
    t.after(() => fake.close());
    const clock = new ManualClock();
    const api = clientOf(fake.url, { clock, timeoutMs: 5_000 });
    fake.next(/^GET /, { kind: 'silence' });
    const late = expectRejection('deadline_exceeded', api.get(CONFIG_MAP, ref('a'), call));
    await untilSeen(fake, 1);
    await clock.advance(5_000);
    await late;
    fake.next(/^GET /, { kind: 'silence' });
    const leaving = new AbortController();
    const left = api.get(CONFIG_MAP, ref('a'), { signal: leaving.signal });
    await untilSeen(fake, 2);
    leaving.abort(new Error('left'));
    await assert.rejects(left, /left/);
    assert.equal(clock.sleeping, 0);
  });

  it('says that nobody is there', async () => {
    const fake = await FakeApiServer.start();
    const { url } = fake;
    await fake.close();
    const error = await expectRejection(
      'kubernetes_unreachable',
      clientOf(url).get(CONFIG_MAP, ref('a'), call),
    );
    assert.match(error.message, /ECONNREFUSED/);
  });

  it('keeps its connections', async (t) => {
    const { fake, api } = await server(t);
    let connections = 0;
    fake.onConnection = () => (connections += 1);
    for (let i = 0; i < 5; i += 1) await api.list(POD, call);
    assert.equal(connections, 1);
    await Promise.all(Array.from({ length: 50 }, () => api.list(POD, call)));
    assert.ok(connections <= 8, `${connections} connections`);
  });
});

describe('KubernetesClient.watch', () => {
  async function watching(
    t: TestContext,
    resourceVersion: string,
    prepared?: { readonly fake: FakeApiServer; readonly api: KubernetesApi },
  ) {
    const { fake, api } = prepared ?? (await server(t));
    const end = new AbortController();
    t.after(() => end.abort());
    const events = api.watch(POD, {
      namespace: 'n',
      resourceVersion,
      timeoutSeconds: 60,
      signal: end.signal,
    });
    const iterator = events[Symbol.asyncIterator]();
    const next = async (): Promise<WatchEvent | 'end'> => {
      const { done, value } = await iterator.next();
      return done === true ? 'end' : value;
    };
    return { fake, api, end, next };
  }
  const pod = (fake: FakeApiServer, name: string, namespace = 'n'): void =>
    void fake.store.create(
      { collection: '/api/v1/pods', namespace },
      { apiVersion: 'v1', kind: 'Pod', metadata: { name } },
    );

  it('tells what happened after a resourceVersion, and bookmarks', async (t) => {
    const prepared = await server(t);
    const { fake } = prepared;
    pod(fake, 'before');
    const { next } = await watching(t, fake.store.resourceVersion, prepared);
    assert.deepEqual(await next(), { kind: 'opened' });
    pod(fake, 'elsewhere', 'other');
    pod(fake, 'a');
    const added = await next();
    assert.ok(added !== 'end' && added.kind === 'added' && added.object.metadata.name === 'a');
    fake.store.delete({ collection: '/api/v1/pods', namespace: 'n' }, 'a', undefined);
    const deleted = await next();
    assert.ok(deleted !== 'end' && deleted.kind === 'deleted' && deleted.object.metadata.name === 'a');
    fake.bookmark();
    assert.deepEqual(await next(), { kind: 'bookmark', resourceVersion: fake.store.resourceVersion });
    fake.endWatches('end');
    assert.equal(await next(), 'end');
    const { query } = fake.seen.at(-1)!;
    assert.deepEqual([query.get('allowWatchBookmarks'), query.get('timeoutSeconds')], ['true', '60']);
  });

  it('says when what happened since is gone, in the stream or by HTTP', async (t) => {
    const prepared = await server(t);
    prepared.fake.store.compact();
    const { next } = await watching(t, '5', prepared);
    assert.deepEqual(await next(), { kind: 'opened' });
    await expectRejection('kubernetes_gone', next());
    prepared.fake.next(/^GET /, status410);
    const second = await watching(t, '5', prepared);
    await expectRejection('kubernetes_gone', second.next());
  });
  const status410: Fault = {
    kind: 'answer',
    status: 410,
    body: JSON.stringify({ kind: 'Status', apiVersion: 'v1', reason: 'Expired', code: 410 }),
  };

  it('tells a connection that breaks from a watch whose time is over', async (t) => {
    const { fake, next } = await watching(t, '1000');
    assert.deepEqual(await next(), { kind: 'opened' });
    fake.endWatches('cut');
    await expectRejection('kubernetes_unreachable', next());
  });

  it('gives up a watch that the API server does not end at its time', async (t) => {
    const fake = await FakeApiServer.start();
    t.after(() => fake.close());
    const clock = new ManualClock();
    const { next } = await watching(t, '1000', { fake, api: clientOf(fake.url, { clock }) });
    assert.deepEqual(await next(), { kind: 'opened' });
    const over = expectRejection('kubernetes_unreachable', next());
    await settle();
    await clock.advance(70_000);
    await over;
  });

  it('ends with the reason of its signal', async (t) => {
    const { end, next } = await watching(t, '1000');
    assert.deepEqual(await next(), { kind: 'opened' });
    end.abort(new Error('enough'));
    await assert.rejects(next(), /enough/);
  });

  const NONSENSE: readonly { readonly name: string; readonly line: string }[] = [
    { name: 'no JSON', line: 'hello' },
    { name: 'no object', line: '[1]' },
    { name: 'an event of no known type', line: '{"type":"RENAMED","object":{}}' },
    { name: 'an event without an object', line: '{"type":"ADDED"}' },
    {
      name: 'an object of another kind',
      line: '{"type":"ADDED","object":{"kind":"Secret","apiVersion":"v1","metadata":{"name":"a","resourceVersion":"1"}}}',
    },
    {
      name: 'an object without a resourceVersion',
      line: '{"type":"ADDED","object":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"}}}',
    },
    { name: 'a bookmark without a resourceVersion', line: '{"type":"BOOKMARK","object":{"metadata":{}}}' },
    { name: 'an error that is no Status', line: '{"type":"ERROR","object":{"kind":"Pod"}}' },
    { name: 'a line over the limit', line: ' '.repeat(LIMITS.kubernetesObjectBytes + 1) },
  ];
  for (const { name, line } of NONSENSE) {
    it(`refuses ${name}`, async (t) => {
      const { fake, next } = await watching(t, '1000');
      assert.deepEqual(await next(), { kind: 'opened' });
      fake.writeLine(line);
      await expectRejection('kubernetes_answer_invalid', next());
    });
  }
});

async function untilSeen(fake: FakeApiServer, count: number): Promise<void> {
  while (fake.seen.length < count) await new Promise((resolve) => setImmediate(resolve));
}
