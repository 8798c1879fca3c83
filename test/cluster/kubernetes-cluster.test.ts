/** The control plane that the cluster tests run against does what they rest on. */
import assert from 'node:assert/strict';
import { createServer } from 'node:https';
import { once } from 'node:events';
import { json } from 'node:stream/consumers';
import { describe, it } from 'node:test';
import { OID } from '../../pki/oid.ts';
import { encodePem } from '../../pki/pem.ts';
import { ext, HOUR_MS, makeCertificate, newSigner } from '../support/certificates.ts';
import { until } from '../support/identity-plane.ts';
import {
  clusterSkip,
  controllersSkip,
  KubernetesCluster,
  suiteCluster,
} from '../support/kubernetes-cluster.ts';

interface Review {
  readonly authenticated?: boolean;
  readonly audiences?: readonly string[];
  readonly user?: {
    readonly username?: string;
    readonly extra?: Readonly<Record<string, readonly string[]>>;
  };
}

describe('a control plane for tests', { skip: clusterSkip }, () => {
  const cluster = suiteCluster();

  const review = async (token: string, audiences: readonly string[]): Promise<Review> => {
    const { status, body } = await cluster().admin.request(
      'POST',
      '/apis/authentication.k8s.io/v1/tokenreviews',
      {
        spec: { token, audiences },
      },
    );
    assert.equal(status, 201);
    return body['status'] as Review;
  };

  it('reviews the token of a pod, for its audience only, until the pod is gone', async () => {
    await cluster().createNamespace('review');
    await cluster().createServiceAccount('review', 'web');
    const pod = await cluster().createPod('review', 'web-0', { serviceAccount: 'web', nodeName: 'node-1' });
    const token = await cluster().tokenFor('review', { serviceAccount: 'web', pod });

    const good = await review(token, ['kedge']);
    assert.equal(good.authenticated, true);
    assert.deepEqual(good.audiences, ['kedge']);
    assert.equal(good.user?.username, 'system:serviceaccount:review:web');
    assert.deepEqual(good.user?.extra?.['authentication.kubernetes.io/pod-uid'], [pod.metadata?.uid]);
    const other = await review(token, ['vault']);
    assert.equal(other.authenticated, undefined, 'a refused review has no such field');

    await cluster().deletePod('review', 'web-0');
    // The API server remembers a good token for some 10 s.
    await until('the token is refused', async () => (await review(token, ['kedge'])).authenticated !== true);
  });

  it('lets a user do what RBAC grants, and no more', async () => {
    await cluster().createNamespace('rights');
    const token = await cluster().tokenFor('rights', { audience: cluster().issuer });
    const user = cluster().as({ token });
    const pods = '/api/v1/namespaces/rights/pods';
    assert.equal((await user.request('GET', pods)).status, 403);
    const created = cluster().kubectl(
      ['apply', '-f', '-'],
      `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: { name: reader, namespace: rights }
rules: [{ apiGroups: [""], resources: [pods], verbs: [list] }]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: { name: reader, namespace: rights }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader }
subjects: [{ kind: ServiceAccount, name: default, namespace: rights }]
`,
    );
    assert.equal(created.code, 0, created.stderr);
    await until('the role is in force', async () => (await user.request('GET', pods)).status === 200);
    assert.equal((await cluster().as({ token: 'nonsense' }).request('GET', pods)).status, 401);
    assert.equal((await cluster().as({ anonymous: true }).request('GET', pods)).status, 403);
  });

  it('shows its issuer and keys to those who are authenticated', async () => {
    await cluster().createNamespace('discovery');
    const token = await cluster().tokenFor('discovery', { audience: cluster().issuer });
    const path = '/.well-known/openid-configuration';
    const { body } = await cluster().as({ token }).request('GET', path);
    assert.equal(body['issuer'], cluster().issuer);
    assert.equal(new URL(String(body['jwks_uri'])).pathname, '/openid/v1/jwks');
    assert.equal((await cluster().as({ anonymous: true }).request('GET', path)).status, 403);
  });

  it('patches a pod as a webhook behind a Service says', async (t) => {
    const authority = newSigner();
    const validity = { notBeforeMs: Date.now() - HOUR_MS, notAfterMs: Date.now() + HOUR_MS };
    const root = await makeCertificate({
      ...validity,
      subject: 'CN=webhook CA',
      issuer: 'CN=webhook CA',
      spki: authority.spki,
      signer: authority,
      extensions: [ext.basicConstraints(true)],
    });
    const key = newSigner();
    const certificate = await makeCertificate({
      ...validity,
      issuer: 'CN=webhook CA',
      spki: key.spki,
      signer: authority,
      extensions: [
        ext.extendedKeyUsage(OID.serverAuth),
        ext.san([{ type: 'dns', value: 'injector.webhook.svc' }]),
      ],
    });
    const patch = JSON.stringify([{ op: 'add', path: '/metadata/annotations', value: { seen: 'yes' } }]);
    const server = createServer(
      {
        cert: encodePem('CERTIFICATE', certificate),
        key: key.privateKey.export({ format: 'pem', type: 'pkcs8' }),
      },
      (request, response) => {
        void json(request).then((body) => {
          const { uid } = (body as { readonly request: { readonly uid: string } }).request;
          const answer = {
            uid,
            allowed: true,
            patchType: 'JSONPatch',
            patch: Buffer.from(patch).toString('base64'),
          };
          response.setHeader('content-type', 'application/json');
          response.end(
            JSON.stringify({ apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview', response: answer }),
          );
        });
      },
    );
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => server.close().closeAllConnections());
    const address = server.address();
    assert.ok(address !== null && typeof address === 'object');

    await cluster().createNamespace('webhook', { injected: 'yes' });
    await cluster().createLoopbackService('webhook', 'injector', address.port);
    await cluster().admin.create('/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations', {
      metadata: { name: 'injector' },
      webhooks: [
        {
          name: 'injector.kedge.test',
          admissionReviewVersions: ['v1'],
          sideEffects: 'None',
          failurePolicy: 'Ignore',
          namespaceSelector: { matchLabels: { injected: 'yes' } },
          rules: [{ apiGroups: [''], apiVersions: ['v1'], operations: ['CREATE'], resources: ['pods'] }],
          clientConfig: {
            service: { namespace: 'webhook', name: 'injector', port: address.port },
            caBundle: Buffer.from(encodePem('CERTIFICATE', root)).toString('base64'),
          },
        },
      ],
    });
    let pods = 0;
    await until('the webhook is called', async () => {
      const pod = await cluster().createPod('webhook', `pod-${pods++}`);
      return pod.metadata?.annotations?.['seen'] === 'yes';
    });
  });

  it('keeps its objects through an outage, and is back on the same port', async () => {
    await cluster().createNamespace('outage');
    const before = await cluster().createPod('outage', 'web-0');
    await cluster().stopApiServer();
    await assert.rejects(cluster().admin.get('/version'), { code: 'ECONNREFUSED' });
    await cluster().startApiServer();
    const after = await cluster().admin.get('/api/v1/namespaces/outage/pods/web-0');
    assert.equal(after.metadata?.uid, before.metadata?.uid);

    await cluster().setPodStatus('outage', 'web-0', { phase: 'Running', podIP: '10.0.0.7' });
    const running = await cluster().admin.get('/api/v1/namespaces/outage/pods/web-0');
    assert.deepEqual((running['status'] as { readonly podIP?: string }).podIP, '10.0.0.7');
  });

  it('answers nothing while it is frozen', async () => {
    cluster().freezeApiServer(true);
    const asked = cluster().admin.get('/version');
    const silence = new Promise((resolve) => setTimeout(resolve, 500, 'silence'));
    assert.equal(await Promise.race([asked, silence]), 'silence');
    cluster().freezeApiServer(false);
    assert.equal((await asked)['major'], '1');
  });

  it('runs the controllers', { skip: controllersSkip }, async () => {
    await cluster().createNamespace('controllers');
    await until('the root certificate is published', async () => {
      const path = '/api/v1/namespaces/controllers/configmaps/kube-root-ca.crt';
      const { body } = await cluster().admin.request('GET', path);
      const data = body['data'] as Record<string, string> | undefined;
      return data?.['ca.crt'] === cluster().authorities;
    });
    const deployment = {
      metadata: { name: 'web' },
      spec: {
        replicas: 2,
        selector: { matchLabels: { app: 'web' } },
        template: {
          metadata: { labels: { app: 'web' } },
          spec: { containers: [{ name: 'app', image: 'app.example/app:1' }] },
        },
      },
    };
    await cluster().admin.create('/apis/apps/v1/namespaces/controllers/deployments', deployment);
    const pods = async (): Promise<number> => {
      const list = await cluster().admin.get('/api/v1/namespaces/controllers/pods?labelSelector=app%3Dweb');
      return (list['items'] as readonly unknown[]).length;
    };
    await until('both pods are there', async () => (await pods()) === 2);
    await cluster().admin.delete('/api/v1/namespaces/controllers');
    await until('the namespace is gone', async () => {
      return (await cluster().admin.request('GET', '/api/v1/namespaces/controllers')).status === 404;
    });
  });
});

describe('a control plane without controllers', { skip: clusterSkip }, () => {
  it('takes pods all the same', async (t) => {
    const cluster = await KubernetesCluster.start(t, { controllers: false });
    await cluster.createNamespace('bare');
    const pod = await cluster.createPod('bare', 'web-0');
    const token = await cluster.tokenFor('bare', { pod });
    assert.match(token, /^[\w-]+\.[\w-]+\.[\w-]+$/);
  });
});
