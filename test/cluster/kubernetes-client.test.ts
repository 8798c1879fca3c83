/** Kedge's client for the Kubernetes API against a real kube-apiserver. */
import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { Informer } from '../../ca/kubernetes/informer.ts';
import type { KubernetesApi, WatchEvent } from '../../ca/kubernetes/kubernetes-api.ts';
import { DEFAULT_KUBERNETES_SETTINGS } from '../../ca/kubernetes/kubernetes-settings.ts';
import {
  CONFIG_MAP,
  NAMESPACE,
  POD,
  type ResourceType,
  SECRET,
  SERVICE_ACCOUNT,
  TOKEN_REQUEST,
  TOKEN_REVIEW,
} from '../../ca/kubernetes/objects.ts';
import { openKubernetes } from '../../ca/kubernetes/open-kubernetes.ts';
import { systemClock } from '../../host/clock.ts';
import { silentLog } from '../../host/log.ts';
import { systemRandom } from '../../host/random.ts';
import { expectRejection } from '../support/expect-code.ts';
import { until } from '../support/identity-plane.ts';
import { clusterSkip, suiteCluster } from '../support/kubernetes-cluster.ts';

const ROLE: ResourceType = {
  apiVersion: 'rbac.authorization.k8s.io/v1',
  kind: 'Role',
  plural: 'roles',
  namespaced: true,
};
const call = { signal: new AbortController().signal };

describe("Kedge's client on a real API server", { skip: clusterSkip }, () => {
  const cluster = suiteCluster({ controllers: false });
  const opened: KubernetesApi[] = [];
  after(() => opened.forEach((api) => api.close()));

  async function open(kubeconfig = cluster().kubeconfig, timeoutMs = 20_000): Promise<KubernetesApi> {
    const settings = { ...DEFAULT_KUBERNETES_SETTINGS, kubeconfig, timeoutMs };
    const api = await openKubernetes({ settings, environment: {}, clock: systemClock, log: silentLog });
    opened.push(api);
    return api;
  }

  it('makes, reads, replaces, patches, applies, lists and deletes', async () => {
    const api = await open();
    await cluster().createNamespace('crud');
    const ref = { name: 'a', namespace: 'crud' };
    const made = await api.create(CONFIG_MAP, { metadata: ref, data: { x: '1' } }, call);
    assert.deepEqual((await api.get(CONFIG_MAP, ref, call))['data'], { x: '1' });
    await expectRejection('kubernetes_exists', api.create(CONFIG_MAP, { metadata: ref }, call));
    const second = await api.replace(CONFIG_MAP, { metadata: made.metadata, data: { x: '2' } }, call);
    await expectRejection(
      'kubernetes_conflict',
      api.replace(CONFIG_MAP, { metadata: made.metadata, data: { x: '3' } }, call),
    );
    assert.notEqual(second.metadata.resourceVersion, made.metadata.resourceVersion);
    const patched = await api.patch(
      CONFIG_MAP,
      ref,
      { kind: 'json', body: [{ op: 'add', path: '/data/y', value: '4' }] },
      call,
    );
    assert.deepEqual(patched['data'], { x: '2', y: '4' });
    const applied = await api.apply(
      CONFIG_MAP,
      { metadata: ref, data: { z: '5' } },
      { ...call, fieldManager: 'kedge-test' },
    );
    assert.deepEqual(applied['data'], { x: '2', y: '4', z: '5' });
    await expectRejection(
      'kubernetes_conflict',
      api.apply(CONFIG_MAP, { metadata: ref, data: { z: '6' } }, { ...call, fieldManager: 'another' }),
    );
    const list = await api.list(CONFIG_MAP, { ...call, namespace: 'crud', fieldSelector: 'metadata.name=a' });
    assert.deepEqual(
      list.items.map(({ kind, metadata }) => `${kind} ${metadata.name}`),
      ['ConfigMap a'],
    );
    const { uid, resourceVersion } = made.metadata;
    await expectRejection(
      'kubernetes_conflict',
      api.delete(CONFIG_MAP, ref, { ...call, resourceVersion: resourceVersion ?? '' }),
    );
    await api.delete(CONFIG_MAP, ref, { ...call, uid: uid ?? '' });
    await expectRejection('kubernetes_not_found', api.get(CONFIG_MAP, ref, call));
  });

  it('reads a list in pages, of one instant', async () => {
    const api = await open();
    await cluster().createNamespace('pages');
    const names = Array.from({ length: 520 }, (_, i) => `c${i}`);
    for (let i = 0; i < names.length; i += 40) {
      await Promise.all(
        names
          .slice(i, i + 40)
          .map((name) => api.create(CONFIG_MAP, { metadata: { name, namespace: 'pages' } }, call)),
      );
    }
    const { items } = await api.list(CONFIG_MAP, { ...call, namespace: 'pages' });
    const found = new Set(items.map(({ metadata }) => metadata.name));
    for (const name of names) assert.ok(found.has(name), name);
  });

  it('is told what is wrong with an object, and nothing of a Secret', async () => {
    const api = await open();
    await cluster().createNamespace('wrong');
    const metadata = { name: 'Upper', namespace: 'wrong' };
    const error = await expectRejection('kubernetes_refused', api.create(CONFIG_MAP, { metadata }, call));
    assert.match(error.message, /RFC 1123/);
    const data = { key: 'not base64: hunter2' };
    const secret = await expectRejection('kubernetes_refused', api.create(SECRET, { metadata, data }, call));
    assert.ok(!secret.message.includes('hunter2'));
  });

  it('knows what the cluster serves', async () => {
    const api = await open();
    assert.ok((await api.servedResources('v1', call)).has('serviceaccounts/token'));
    assert.ok((await api.servedResources('authentication.k8s.io/v1', call)).has('tokenreviews'));
    assert.deepEqual(await api.servedResources('kedge.example/v1', call), new Set());
    const version = (await api.getPath('/version', call)) as { minor: string };
    assert.match(version.minor, /^\d+/);
  });

  it('says which RBAC rule is missing, and works once it is there', async () => {
    const admin = await open();
    await cluster().createNamespace('rules');
    const api = await open(await cluster().kubeconfigFor('nobody'));
    const ref = { name: 'a', namespace: 'rules' };
    const error = await expectRejection('kubernetes_forbidden', api.get(CONFIG_MAP, ref, call));
    assert.equal(
      error.hint,
      'grant by a Role in namespace "rules": apiGroups: [""], resources: ["configmaps"], verbs: ["get"], resourceNames: ["a"]',
    );
    const question = { verb: 'get', group: '', resource: 'configmaps', namespace: 'rules', name: 'a' };
    assert.equal(await api.mayI(question, call), false);
    // The hint, as a rule.
    const rule = { apiGroups: [''], resources: ['configmaps'], verbs: ['get'], resourceNames: ['a'] };
    await admin.create(ROLE, { metadata: { name: 'r', namespace: 'rules' }, rules: [rule] }, call);
    await admin.create(
      { ...ROLE, kind: 'RoleBinding', plural: 'rolebindings' },
      {
        metadata: { name: 'r', namespace: 'rules' },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'r' },
        subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: 'nobody' }],
      },
      call,
    );
    await until('the rule is in force', () => api.mayI(question, call));
    await expectRejection('kubernetes_not_found', api.get(CONFIG_MAP, ref, call));
  });

  it('asks for tokens and has them reviewed', async () => {
    const api = await open();
    await cluster().createNamespace('tokens');
    await api.create(SERVICE_ACCOUNT, { metadata: { name: 'web', namespace: 'tokens' } }, call);
    const request = await api.createSubresource(
      SERVICE_ACCOUNT,
      { name: 'web', namespace: 'tokens' },
      'token',
      TOKEN_REQUEST,
      { spec: { audiences: ['kedge'], expirationSeconds: 600 } },
      call,
    );
    const { token } = request['status'] as { token: string };
    const review = await api.create(TOKEN_REVIEW, { spec: { token, audiences: ['kedge'] } }, call);
    assert.equal((review['status'] as { authenticated: boolean }).authenticated, true);
  });

  it('watches from a resourceVersion to the end of its time', async () => {
    const api = await open();
    await cluster().createNamespace('watch');
    const { resourceVersion } = await api.list(CONFIG_MAP, { ...call, namespace: 'watch' });
    const ref = { name: 'w', namespace: 'watch' };
    await api.create(CONFIG_MAP, { metadata: ref }, call);
    await api.delete(CONFIG_MAP, ref, call);
    const events: WatchEvent[] = [];
    const options = { namespace: 'watch', fieldSelector: 'metadata.name=w', timeoutSeconds: 2, ...call };
    for await (const event of api.watch(CONFIG_MAP, { ...options, resourceVersion })) events.push(event);
    assert.deepEqual(
      events.map(({ kind }) => kind).filter((kind) => kind !== 'bookmark'),
      ['opened', 'added', 'deleted'],
    );
  });

  it('gives up at its deadline on an API server that does not answer', async () => {
    const api = await open(cluster().kubeconfig, 500);
    await api.list(NAMESPACE, { ...call, timeoutMs: 20_000 });
    cluster().freezeApiServer(true);
    try {
      await expectRejection('deadline_exceeded', api.list(NAMESPACE, call));
    } finally {
      cluster().freezeApiServer(false);
    }
    await until('it answers again', () =>
      api.list(NAMESPACE, call).then(
        () => true,
        () => false,
      ),
    );
  });

  it('follows pods through a restart of the API server', async () => {
    const api = await open();
    await cluster().createNamespace('follow');
    const informer = new Informer<string>({
      api,
      type: POD,
      selection: { namespace: 'follow', labelSelector: 'app=web' },
      read: ({ metadata }) => metadata.uid ?? '',
      clock: systemClock,
      random: systemRandom,
      log: silentLog,
      watchSeconds: 5,
    });
    const end = new AbortController();
    const running = informer.run(end.signal);
    try {
      await informer.untilSynced(AbortSignal.timeout(20_000));
      const pod = async (name: string): Promise<string | undefined> =>
        (await cluster().createPod('follow', name, { labels: { app: 'web' } })).metadata?.uid;
      const first = await pod('a');
      await cluster().createPod('follow', 'other');
      await until('the first pod is seen', () => informer.get('follow/a') === first);
      await cluster().stopApiServer();
      await until('the informer knows that it cannot follow', () => informer.failure !== undefined);
      assert.equal(informer.get('follow/a'), first, 'nothing is gone because nobody can look');
      await cluster().startApiServer();
      await cluster().deletePod('follow', 'a');
      const second = await pod('b');
      await until('it has caught up', () => informer.get('follow/b') === second && informer.size === 1);
      assert.equal(informer.failure, undefined);
    } finally {
      end.abort();
      await running;
    }
  });
});
