/** Injection through a real API server: what the webhook does to pods, what kubectl shows, and what an outage does. */
import assert from 'node:assert/strict';
import { createServer } from 'node:https';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { loadCaConfig } from '../../ca/config.ts';
import { mutatingWebhookConfiguration } from '../../ca/inject/webhook-configuration.ts';
import { configurationOptions } from '../../ca/inject/injection-config.ts';
import { freePort, KedgeDaemon, until } from '../support/identity-plane.ts';
import type { KubernetesObject } from '../support/kubernetes-api.ts';
import { clusterSkip, controllersSkip, suiteCluster } from '../support/kubernetes-cluster.ts';
import { selfSignedTlsCertificate } from '../support/tls-certificate.ts';

const CONFIGURATIONS = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations';

interface Container {
  readonly name: string;
  readonly restartPolicy?: string;
  readonly args?: readonly string[];
  readonly env?: readonly { readonly name: string; readonly value?: string }[];
  readonly volumeMounts?: readonly { readonly name: string; readonly mountPath: string }[];
  readonly securityContext?: Readonly<Record<string, unknown>>;
}
interface PodSpec {
  readonly containers: readonly Container[];
  readonly initContainers?: readonly Container[];
  readonly volumes?: readonly Readonly<Record<string, unknown>>[];
}

const specOf = (pod: KubernetesObject): PodSpec => pod['spec'] as PodSpec;

function podYaml(
  name: string,
  namespace: string,
  annotations: Readonly<Record<string, string>> = {},
): string {
  const lines = Object.entries(annotations).map(([key, value]) => `    ${key}: ${JSON.stringify(value)}\n`);
  return `apiVersion: v1
kind: Pod
metadata:
  name: ${name}
  namespace: ${namespace}
  annotations:
    example.org/mine: "yes"
${lines.join('')}spec:
  initContainers:
  - name: migrate
    image: migrate.example/migrate:1
  containers:
  - name: app
    image: app.example/app:1
`;
}

describe('injection in a cluster', { skip: clusterSkip }, () => {
  const cluster = suiteCluster();
  const folder = mkdtempSync(join(tmpdir(), 'kedge-inject-'));
  // A process of its own: kubectl blocks this one while it runs.
  let ca: KedgeDaemon | null = null;
  let port = 0;
  let kubeconfig = '';

  /** Starts the CA with the webhook; an issuer is replaced every few seconds, and the webhook's certificate with it. */
  const startKedge = async (failurePolicy: 'Fail' | 'Ignore' = 'Fail'): Promise<void> => {
    const file = join(folder, 'ca.yaml');
    writeFileSync(
      file,
      `dataFolder: ${join(folder, 'data')}
listen: { grpc: "127.0.0.1:0", http: "127.0.0.1:0" }
svid: { ttl: 10s }
issuer: { lifetime: 24s, renewAfter: 6s }
kubernetes: { kubeconfig: ${kubeconfig} }
webhook: { address: "localhost:${port}", servicePort: ${port}, failurePolicy: ${failurePolicy} }
drain: { timeout: 2s }
logLevel: debug
`,
    );
    const started = new KedgeDaemon(['ca', '--config', file]);
    ca = started;
    await until('the CA runs', () => {
      if (started.process.exitCode !== null) throw new Error(started.log);
      return started.events('ca.started').length > 0;
    });
  };
  const stopKedge = async (): Promise<void> => {
    await ca?.end();
    ca = null;
  };
  const configuration = (): Promise<KubernetesObject> => cluster().admin.get(`${CONFIGURATIONS}/kedge`);
  const webhooksOf = (object: KubernetesObject): Record<string, unknown>[] =>
    object['webhooks'] as Record<string, unknown>[];
  const caBundles = async (): Promise<string[]> =>
    webhooksOf(await configuration()).map(
      ({ clientConfig }) => (clientConfig as { readonly caBundle?: string }).caBundle ?? '',
    );
  /** The webhook is asked: the API server follows its configuration a moment later. */
  const injects = async (namespace: string): Promise<boolean> => {
    const { stdout } = cluster().kubectl(
      ['create', '--dry-run=server', '-o', 'json', '-f', '-'],
      podYaml('probe', namespace),
    );
    return stdout.includes('kedge.io/injected');
  };

  before(async () => {
    port = await freePort();
    // Exactly the rights that docs/kubernetes.md names.
    kubeconfig = await cluster().kubeconfigFor('kedge-ca');
    const rbac = '/apis/rbac.authorization.k8s.io/v1';
    await cluster().admin.create(`${rbac}/clusterroles`, {
      metadata: { name: 'kedge-webhook' },
      rules: [
        {
          apiGroups: ['admissionregistration.k8s.io'],
          resources: ['mutatingwebhookconfigurations'],
          resourceNames: ['kedge'],
          verbs: ['get', 'list', 'watch', 'update'],
        },
      ],
    });
    await cluster().admin.create(`${rbac}/clusterrolebindings`, {
      metadata: { name: 'kedge-webhook' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'kedge-webhook' },
      subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: 'kedge-ca' }],
    });
    await cluster().createNamespace('kedge');
    await cluster().createNamespace('shop', { 'kedge.io/inject': 'enabled' });
    await cluster().createNamespace('plain');
    await cluster().createLoopbackService('kedge', 'kedge-ca', port);
    const file = join(folder, 'for-options.yaml');
    writeFileSync(file, `webhook: { address: "localhost:${port}", servicePort: ${port} }\n`);
    const { webhook } = await loadCaConfig({ file });
    assert.ok(webhook !== null);
    const object = mutatingWebhookConfiguration('kedge', configurationOptions(webhook), {});
    await cluster().admin.create(CONFIGURATIONS, object);
    await startKedge();
    await until('the webhook is trusted', () => injects('shop'), 60_000).catch((error: unknown) => {
      const { stderr } = cluster().kubectl(
        ['create', '--dry-run=server', '-f', '-'],
        podYaml('probe', 'shop'),
      );
      throw new Error(`${stderr}\n${ca?.log}`, { cause: error });
    });
  });

  after(async () => {
    await ca?.end('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });

  it('puts the trust anchors into the configuration that was installed', async () => {
    for (const bundle of await caBundles()) assert.match(atob(bundle), /^-----BEGIN CERTIFICATE-----/);
  });

  it('gives a pod of a labelled namespace its agent, in a form that the API server keeps', async () => {
    const { code, stderr } = cluster().kubectl(['apply', '-f', '-'], podYaml('web', 'shop'));
    assert.deepEqual([code, stderr], [0, '']);
    const pod = await cluster().admin.get('/api/v1/namespaces/shop/pods/web');
    const spec = specOf(pod);
    const isNative = cluster().minor >= 29;
    const list = isNative ? spec.initContainers : spec.containers;
    const agent = list?.[0];
    assert.equal(agent?.name, 'kedge-agent');
    assert.equal(agent.restartPolicy, isNative ? 'Always' : undefined);
    assert.deepEqual(agent.securityContext, {
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'] },
      privileged: false,
      readOnlyRootFilesystem: true,
      runAsGroup: 65_532,
      runAsNonRoot: true,
      runAsUser: 65_532,
      seccompProfile: { type: 'RuntimeDefault' },
    });
    const app = spec.containers.find(({ name }) => name === 'app');
    assert.deepEqual(app?.env, [
      { name: 'SPIFFE_ENDPOINT_SOCKET', value: 'unix:///var/run/kedge/workload/api.sock' },
    ]);
    const identity = spec.volumes?.find(({ name }) => name === 'kedge-identity');
    assert.ok(identity !== undefined);
    const sources = (identity['projected'] as { readonly sources: readonly object[] }).sources;
    assert.deepEqual(sources, [
      { serviceAccountToken: { audience: 'kedge', expirationSeconds: 3_600, path: 'token' } },
      { configMap: { name: 'kedge-trust-bundle', items: [{ key: 'bundle.pem', path: 'trust-bundle' }] } },
    ]);
    assert.equal(pod.metadata?.labels?.['kedge.io/injected'], 'true');
    assert.equal(pod.metadata?.annotations?.['example.org/mine'], 'yes');
  });

  it('takes every feed that annotations ask for', async () => {
    const { code, stderr } = cluster().kubectl(
      ['apply', '-f', '-'],
      podYaml('feeds', 'shop', {
        'kedge.io/istio-sds': 'enabled',
        'kedge.io/files-preset': 'nginx',
        'kedge.io/haproxy-sockets': '/var/run/kedge/haproxy/admin.sock',
        'kedge.io/canary-port': '8443',
        'kedge.io/http-port': '15941',
        'kedge.io/cpu-limit': '500m',
        'kedge.io/run-as-user': '101',
      }),
    );
    assert.deepEqual([code, stderr], [0, '']);
    const spec = specOf(await cluster().admin.get('/api/v1/namespaces/shop/pods/feeds'));
    const names = (spec.volumes ?? [])
      .map(({ name }) => String(name))
      .filter((name) => name.startsWith('kedge-'));
    assert.deepEqual(names, [
      'kedge-identity',
      'kedge-cache',
      'kedge-workload',
      'kedge-istio',
      'kedge-files',
      'kedge-haproxy',
    ]);
  });

  it('leaves pods of other namespaces alone, unless they are labelled themselves', async () => {
    const plain = await cluster().createPod('plain', 'not-meshed');
    assert.equal(plain.metadata?.labels?.['kedge.io/injected'], undefined);
    const labelled = await cluster().createPod('plain', 'meshed', {
      labels: { 'kedge.io/inject': 'enabled' },
    });
    assert.equal(labelled.metadata?.labels?.['kedge.io/injected'], 'true');
    const out = await cluster().createPod('shop', 'out', { labels: { 'kedge.io/inject': 'disabled' } });
    assert.equal(out.metadata?.labels?.['kedge.io/injected'], undefined);
    const annotated = await cluster().createPod('shop', 'out-too', {
      annotations: { 'kedge.io/inject': 'disabled' },
    });
    assert.equal(annotated.metadata?.labels?.['kedge.io/injected'], undefined);
  });

  it('refuses what it cannot do, and kubectl shows what to do about it', () => {
    const refused = (yaml: string): string => {
      const { code, stderr } = cluster().kubectl(['apply', '-f', '-'], yaml);
      assert.equal(code, 1);
      return stderr;
    };
    assert.match(
      refused(podYaml('bad', 'shop', { 'kedge.io/canary-port': 'http' })),
      /admission webhook "namespace\.inject\.kedge\.io" denied the request: injection_annotation_invalid: kedge\.io\/canary-port does not take "http"; allowed: 1 to 65535/,
    );
    assert.match(
      refused(`${podYaml('bad', 'shop')}  hostNetwork: true\n`),
      /injection_refused: the pod is on the network of its node.*kedge\.io\/http-port: disabled/,
    );
    assert.match(refused(podYaml('bad', 'shop', { 'kedge.io/canary': '1' })), /there is no annotation/);
  });

  it('is asked by a dry run too, and nothing is left of it', async () => {
    assert.equal(await injects('shop'), true);
    const { status } = await cluster().admin.request('GET', '/api/v1/namespaces/shop/pods/probe');
    assert.equal(status, 404);
  });

  it('gives the pods of a Deployment their agent', { skip: controllersSkip }, async () => {
    const labels = { app: 'deployed' };
    await cluster().admin.create('/apis/apps/v1/namespaces/shop/deployments', {
      metadata: { name: 'deployed' },
      spec: {
        replicas: 3,
        selector: { matchLabels: labels },
        template: {
          metadata: { labels },
          spec: { containers: [{ name: 'app', image: 'app.example/app:1' }] },
        },
      },
    });
    await until('three pods have their agent', async () => {
      const selector = encodeURIComponent('app=deployed,kedge.io/injected=true');
      const list = await cluster().admin.get(`/api/v1/namespaces/shop/pods?labelSelector=${selector}`);
      return (list['items'] as readonly unknown[]).length === 3;
    });
  });

  it('gives its share to a container that another webhook adds after it, once', async (t) => {
    const { certificate, key } = await selfSignedTlsCertificate('late.plain.svc');
    const server = createServer({ cert: certificate, key }, (request, response) => {
      void json(request).then((body) => {
        const { uid, object } = (body as { request: { uid: string; object: KubernetesObject } }).request;
        const there = specOf(object).containers.some(({ name }) => name === 'late');
        const patch = [
          { op: 'add', path: '/spec/containers/-', value: { name: 'late', image: 'late.example/late:1' } },
        ];
        const answer = there
          ? { uid, allowed: true }
          : {
              uid,
              allowed: true,
              patchType: 'JSONPatch',
              patch: Buffer.from(JSON.stringify(patch)).toString('base64'),
            };
        response.setHeader('content-type', 'application/json');
        response.end(
          JSON.stringify({ apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview', response: answer }),
        );
      });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => server.close().closeAllConnections());
    const address = server.address();
    assert.ok(typeof address === 'object' && address !== null);
    await cluster().createLoopbackService('plain', 'late', address.port);
    await cluster().admin.create(CONFIGURATIONS, {
      // Webhooks are asked in the order of their names: after Kedge's.
      metadata: { name: 'zz-late' },
      webhooks: [
        {
          name: 'late.kedge.test',
          admissionReviewVersions: ['v1'],
          sideEffects: 'None',
          objectSelector: { matchLabels: { late: 'yes' } },
          rules: [{ apiGroups: [''], apiVersions: ['v1'], operations: ['CREATE'], resources: ['pods'] }],
          clientConfig: {
            service: { namespace: 'plain', name: 'late', port: address.port },
            caBundle: Buffer.from(certificate).toString('base64'),
          },
        },
      ],
    });
    t.after(() => cluster().admin.delete(`${CONFIGURATIONS}/zz-late`));
    let pods = 0;
    let pod: KubernetesObject = {};
    await until('the other webhook is asked', async () => {
      pod = await cluster().createPod('shop', `late-${pods++}`, { labels: { late: 'yes' } });
      return specOf(pod).containers.some(({ name }) => name === 'late');
    });
    const { containers, initContainers = [] } = specOf(pod);
    const late = containers.find(({ name }) => name === 'late');
    assert.ok(late !== undefined);
    assert.ok(late.env?.some(({ name }) => name === 'SPIFFE_ENDPOINT_SOCKET'));
    assert.ok(late.volumeMounts?.some(({ name }) => name === 'kedge-workload'));
    const agents = [...containers, ...initContainers].filter(({ name }) => name === 'kedge-agent');
    assert.equal(agents.length, 1);
  });

  it('puts its configuration right when it was edited by hand', async () => {
    const good = webhooksOf(await configuration());
    const edits: Record<string, unknown>[][] = [
      good.map((hook) => ({
        ...hook,
        clientConfig: { ...(hook['clientConfig'] as object), caBundle: undefined },
      })),
      good.slice(1),
      good.map((hook) => ({ ...hook, failurePolicy: 'Ignore', namespaceSelector: {}, objectSelector: {} })),
    ];
    for (const webhooks of edits) {
      await cluster().admin.merge(`${CONFIGURATIONS}/kedge`, { webhooks });
      await until(
        'the configuration is as it was',
        async () => {
          const found = JSON.stringify(webhooksOf(await configuration()));
          return found === JSON.stringify(good);
        },
        60_000,
      );
    }
  });

  it('fails no pod while its own certificate is replaced, again and again', async () => {
    const renewals = (): number =>
      (ca?.events('serving_certificate.renewed') ?? []).filter(({ spiffeId }) =>
        String(spiffeId).endsWith('/kedge/webhook'),
      ).length;
    const from = renewals();
    let pods = 0;
    await until(
      'the certificate was replaced three times',
      async () => {
        const pod = await cluster().createPod('shop', `rotation-${pods++}`);
        assert.equal(pod.metadata?.labels?.['kedge.io/injected'], 'true');
        return renewals() >= from + 3;
      },
      90_000,
    );
    assert.ok(pods > 10, `${pods} pods`);
  });

  it('takes what kedge inject made as injected', async () => {
    const { injectYaml } = await import('../../ca/inject/yaml-injection.ts');
    const { injection } = await loadCaConfig({ file: join(folder, 'ca.yaml') });
    const { text } = injectYaml(podYaml('by-hand', 'shop'), {
      settings: injection,
      capabilities: { nativeSidecars: cluster().minor >= 29 },
      ownNamespace: 'kedge',
      everyNamespace: true,
      file: 'test',
    });
    const { code, stderr } = cluster().kubectl(['apply', '-f', '-'], text);
    assert.deepEqual([code, stderr], [0, '']);
    const spec = specOf(await cluster().admin.get('/api/v1/namespaces/shop/pods/by-hand'));
    const all = [...spec.containers, ...(spec.initContainers ?? [])];
    assert.equal(all.filter(({ name }) => name === 'kedge-agent').length, 1);
    await until('it was asked', () => (ca?.events('admission.unchanged') ?? []).length > 0);
  });

  it('keeps pods of meshed namespaces waiting while Kedge is down, and no others', async () => {
    await stopKedge();
    const down = cluster().kubectl(['apply', '-f', '-'], podYaml('while-down', 'shop'));
    assert.equal(down.code, 1);
    assert.match(down.stderr, /failed calling webhook "namespace\.inject\.kedge\.io"/);
    await cluster().createPod('plain', 'while-down');
    await cluster().createPod('kedge', 'kedge-ca-0', { labels: { 'kedge.io/inject': 'disabled' } });
    await cluster()
      .createPod('kube-system', 'dns-0')
      .catch(async (error: unknown) => {
        // Without controllers kube-system has no ServiceAccount: that is not the webhook's doing.
        if (!/serviceaccount/.test(String(error))) throw error;
      });
    // Somebody labelled the namespace of Kedge: its own pods start all the same.
    await cluster().admin.merge('/api/v1/namespaces/kedge', {
      metadata: { labels: { 'kedge.io/inject': 'enabled' } },
    });
    await cluster().createPod('kedge', 'kedge-ca-1', { labels: { 'kedge.io/inject': 'disabled' } });
    await startKedge();
    await until('pods get their agent again', () => injects('shop'), 60_000);
  });

  it('lets them start without an agent where that is configured', async () => {
    await stopKedge();
    await startKedge('Ignore');
    await until('the API server knows', async () =>
      webhooksOf(await configuration()).every(({ failurePolicy }) => failurePolicy === 'Ignore'),
    );
    await stopKedge();
    await until('a pod starts without', async () => {
      const { stdout, code } = cluster().kubectl(
        ['create', '--dry-run=server', '-o', 'json', '-f', '-'],
        podYaml('ignored', 'shop'),
      );
      return code === 0 && !stdout.includes('kedge.io/injected');
    });
  });
});
