/** Attestation against a real kube-apiserver: by TokenReview and by its keys. */
import assert from 'node:assert/strict';
import { createPrivateKey } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, it, type TestContext } from 'node:test';
import { status as grpcStatus } from '@grpc/grpc-js';
import { decodeJwt, decodeProtectedHeader, SignJWT } from 'jose';
import type { Attestor, WorkloadInstance } from '../../ca/attest/attestor.ts';
import type { KeyLocation } from '../../ca/attest/key-source.ts';
import { type Attestation, openAttestation } from '../../ca/attest/open-attestation.ts';
import { SpiffeIdTemplate } from '../../ca/attest/spiffe-id-template.ts';
import { DEFAULT_KUBERNETES_SETTINGS } from '../../ca/kubernetes/kubernetes-settings.ts';
import type { KubernetesApi } from '../../ca/kubernetes/kubernetes-api.ts';
import { openKubernetes } from '../../ca/kubernetes/open-kubernetes.ts';
import { systemClock } from '../../host/clock.ts';
import { silentLog } from '../../host/log.ts';
import { MetricsRegistry } from '../../host/metrics.ts';
import { systemRandom } from '../../host/random.ts';
import { isKedgeError } from '../../pki/kedge-error.ts';
import { verifyX509Svid } from '../../pki/x509-svid-verify.ts';
import { attestorConformance, type TokenKind } from '../conformance/attestor.ts';
import { expectRejection } from '../support/expect-code.ts';
import { until } from '../support/identity-plane.ts';
import { runKedge } from '../support/kedge-process.ts';
import { clusterSkip, type KubernetesCluster, suiteCluster } from '../support/kubernetes-cluster.ts';
import { issue, refusalFrom, runningCa } from '../support/running-ca.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const PEER = { address: '192.0.2.1:4711' };
const never = new AbortController().signal;
let namespaces = 0;

interface Workload {
  readonly namespace: string;
  readonly podUid: string;
  readonly token: string;
  readonly instance: (cluster: string) => WorkloadInstance;
}

/** A ServiceAccount `web` with a pod in a namespace of its own, and its token. */
async function workload(cluster: KubernetesCluster): Promise<Workload> {
  namespaces += 1;
  const namespace = `w${namespaces}`;
  await cluster.createNamespace(namespace);
  await cluster.createServiceAccount(namespace, 'web');
  const pod = await cluster.createPod(namespace, 'web-0', { serviceAccount: 'web', nodeName: 'node-1' });
  const token = await cluster.tokenFor(namespace, { serviceAccount: 'web', pod });
  const podUid = pod.metadata?.uid ?? '';
  // The node came into tokens with 1.30.
  const nodeName = cluster.minor >= 30 ? 'node-1' : undefined;
  const tokenExpiresAtMs = (decodeJwt(token).exp ?? 0) * 1_000;
  return {
    namespace,
    podUid,
    token,
    instance: (name) => ({
      cluster: name,
      namespace,
      serviceAccount: 'web',
      podName: 'web-0',
      podUid,
      nodeName,
      tokenExpiresAtMs,
    }),
  };
}

/** The tokens of the conformance suite; those that the API server does not issue are signed with its key here. */
async function conformanceTokens(cluster: KubernetesCluster, { namespace, token: good }: Workload) {
  const key = createPrivateKey(readFileSync(join(cluster.folder, 'service-account.key')));
  const { kid } = decodeProtectedHeader(good);
  const claims = decodeJwt(good) as Record<string, unknown>;
  const sign = (changes: Record<string, unknown>): Promise<string> =>
    new SignJWT({ ...claims, ...changes })
      .setProtectedHeader({ alg: 'RS256', ...(kid === undefined ? {} : { kid }) })
      .sign(key);
  const nowSeconds = Math.floor(Date.now() / 1_000);
  const { pod: _pod, ...unboundClaim } = claims['kubernetes.io'] as Record<string, unknown>;
  const tokens: Readonly<Record<TokenKind, string>> = {
    good,
    'good for several audiences': await sign({ aud: ['vault', 'kedge'] }),
    'for another audience': await cluster.tokenFor(namespace, { serviceAccount: 'web', audience: 'vault' }),
    expired: await sign({ exp: nowSeconds - 120 }),
    'not yet valid': await sign({ nbf: nowSeconds + 600 }),
    'bound to no pod': await sign({ 'kubernetes.io': unboundClaim }),
    'from another issuer': await sign({ iss: 'https://elsewhere.example.org' }),
    'with a broken signature': `${good.slice(0, -10)}AAAAAAAAAA`,
    'cut short': good.slice(0, -8),
    empty: '',
    'over the size limit': `${good}${'A'.repeat(8 * 1024)}`,
    'no JWT at all': 'open sesame',
  };
  return tokens;
}

describe('attestation on a real API server', { skip: clusterSkip }, () => {
  const cluster = suiteCluster({ controllers: false });
  const ends: (() => void | Promise<void>)[] = [];
  after(async () => {
    for (const end of ends) await end();
  });

  async function apiOf(kubeconfig: string, timeoutMs = 20_000): Promise<KubernetesApi> {
    const settings = { ...DEFAULT_KUBERNETES_SETTINGS, kubeconfig, timeoutMs };
    const api = await openKubernetes({ settings, environment: {}, clock: systemClock, log: silentLog });
    ends.push(() => api.close());
    return api;
  }

  async function attestation(
    keys: KeyLocation | 'tokenReview',
    more: { readonly allowUnbound?: boolean; readonly tokenReview?: boolean; readonly reuseMs?: number } = {},
  ): Promise<Attestation> {
    const { allowUnbound = false, tokenReview = false, reuseMs = 5_000 } = more;
    const opened = await openAttestation({
      settings: {
        kind: keys === 'tokenReview' ? 'tokenReview' : 'oidc',
        cluster: 'main',
        issuer: '',
        audience: 'kedge',
        leewayMs: 30_000,
        unbound: allowUnbound ? 'take the ServiceAccount for the instance' : 'refuse',
        reviewReuseMs: reuseMs,
        reviewsAtOnce: 16,
        issuers:
          keys === 'tokenReview'
            ? []
            : [
                {
                  issuer: cluster().issuer,
                  cluster: 'main',
                  audience: 'kedge',
                  idTemplate: SpiffeIdTemplate.parse('{namespace}/{serviceAccount}'),
                  keys,
                  tokenReview,
                },
              ],
      },
      api: await apiOf(cluster().kubeconfig),
      timeoutMs: 20_000,
      registry: new MetricsRegistry(),
      clock: systemClock,
      random: systemRandom,
      log: silentLog,
      signal: never,
    });
    ends.push(() => opened.close());
    return opened;
  }

  const attest = async (attestor: Attestor, token: string): Promise<WorkloadInstance> =>
    attestor.attest(token, PEER, never);

  /** A user's token for the API, in a file: whoever authenticates may see the keys. */
  async function apiTokenFile(): Promise<string> {
    const { namespace } = await workload(cluster());
    const token = await cluster().tokenFor(namespace, { serviceAccount: 'web', audience: cluster().issuer });
    const path = join(cluster().folder, `token-${namespace}`);
    writeFileSync(path, token);
    return path;
  }

  const locations: Readonly<Record<string, () => Promise<KeyLocation | 'tokenReview'>>> = {
    TokenReview: () => Promise.resolve('tokenReview'),
    'keys from our own API server': () => Promise.resolve({ kind: 'kubernetes' }),
    'keys by discovery': async () => ({
      kind: 'discovery',
      issuer: cluster().issuer,
      authoritiesFile: cluster().authoritiesFile,
      tokenFile: await apiTokenFile(),
    }),
    'keys from a URL': async () => ({
      kind: 'url',
      url: `${cluster().url}/openid/v1/jwks`,
      authoritiesFile: cluster().authoritiesFile,
      tokenFile: await apiTokenFile(),
    }),
    'keys from a file': async () => {
      const api = await apiOf(cluster().kubeconfig);
      const path = join(cluster().folder, 'jwks.json');
      writeFileSync(path, JSON.stringify(await api.getPath('/openid/v1/jwks', { signal: never })));
      return { kind: 'file', path };
    },
  };
  for (const [name, location] of Object.entries(locations)) {
    describe(`by ${name}`, () => {
      attestorConformance(async () => {
        const one = await workload(cluster());
        const tokens = await conformanceTokens(cluster(), one);
        const opened = await attestation(await location());
        return {
          attestor: opened.attestor,
          instance: one.instance('main'),
          token: (kind) => tokens[kind],
          close: () => opened.close(),
        };
      });
    });
  }

  it('refuses the token of a deleted pod: by TokenReview soon, by keys alone not, by both soon', async () => {
    const one = await workload(cluster());
    const review = await attestation('tokenReview');
    const offline = await attestation({ kind: 'kubernetes' });
    const both = await attestation({ kind: 'kubernetes' }, { tokenReview: true });
    for (const { attestor } of [review, offline, both]) {
      assert.deepEqual(await attest(attestor, one.token), one.instance('main'));
    }
    await cluster().deletePod(one.namespace, 'web-0');
    const deletedAtMs = systemClock.monotonic();
    const refused = async (attestor: Attestor): Promise<boolean> => {
      try {
        await attest(attestor, one.token);
        return false;
      } catch (error) {
        if (!isKedgeError(error, 'token_invalidated', 'token_signature_invalid')) throw error;
        return true;
      }
    };
    await until('TokenReview refuses it', () => refused(review.attestor), 40_000);
    await until('keys with TokenReview refuse it', () => refused(both.attestor), 40_000);
    console.log(`refused ${Math.round(systemClock.monotonic() - deletedAtMs)} ms after the pod was deleted`);
    assert.equal(await refused(offline.attestor), false);
  });

  it('takes unbound tokens where that is allowed', async () => {
    const one = await workload(cluster());
    const unbound = await cluster().tokenFor(one.namespace, { serviceAccount: 'web' });
    for (const keys of ['tokenReview', { kind: 'kubernetes' }] as const) {
      const { attestor } = await attestation(keys, { allowUnbound: true });
      const instance = await attest(attestor, unbound);
      assert.equal(instance.podName, 'web');
      assert.notEqual(instance.podUid, one.podUid);
      const strict = await attestation(keys);
      await expectRejection('token_not_bound_to_pod', attest(strict.attestor, unbound));
    }
  });

  it('keeps on attesting by keys while the API server is away, and comes back by TokenReview', async () => {
    const one = await workload(cluster());
    const offline = await attestation({ kind: 'kubernetes' });
    const review = await attestation('tokenReview', { reuseMs: 0 });
    await attest(offline.attestor, one.token);
    await attest(review.attestor, one.token);
    await cluster().stopApiServer();
    const error = await expectRejection('attestation_unavailable', attest(review.attestor, one.token));
    assert.ok((error.retryAfterMs ?? 0) > 0);
    await attest(offline.attestor, one.token);
    await cluster().startApiServer();
    assert.deepEqual(await attest(review.attestor, one.token), one.instance('main'));
  });

  async function reviewerKubeconfig(user: string): Promise<string> {
    const path = '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings';
    await cluster().admin.create(path, {
      metadata: { name: user },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'system:auth-delegator' },
      subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: user }],
    });
    return cluster().kubeconfigFor(user);
  }

  it('makes a CA issue SVIDs for the tokens of pods, refuse others, and survive an outage', async (t: TestContext) => {
    const kubeconfig = await reviewerKubeconfig('ca-reviewer');
    const ca = await runningCa(t, {
      flags: {
        'attest.kind': 'tokenReview',
        'attest.cluster': 'main',
        'attest.reviewReuse': '0s',
        'kubernetes.kubeconfig': kubeconfig,
        'kubernetes.timeout': '2s',
      },
    });
    const client = await ca.connect();
    const one = await workload(cluster());
    const svid = await issue(client, one.token);
    const verified = verifyX509Svid({
      chain: svid.x509Svid,
      bundles: () => svid.bundle?.x509Authorities,
      nowMs: Date.now(),
    });
    assert.equal(verified.spiffeId.toString(), `spiffe://example.org/ns/${one.namespace}/sa/web`);
    const tokens = await conformanceTokens(cluster(), one);
    for (const [kind, code] of [
      ['for another audience', 'token_audience_mismatch'],
      ['bound to no pod', 'token_not_bound_to_pod'],
      ['with a broken signature', 'token_signature_invalid'],
    ] as const) {
      const refusal = await refusalFrom(issue(client, tokens[kind]));
      assert.deepEqual([refusal.code, refusal.status], [code, grpcStatus.UNAUTHENTICATED], kind);
    }
    cluster().freezeApiServer(true);
    const frozen = await refusalFrom(issue(client, one.token));
    cluster().freezeApiServer(false);
    assert.deepEqual([frozen.code, frozen.status], ['attestation_unavailable', grpcStatus.UNAVAILABLE]);
    assert.ok((frozen.retryAfterMs ?? 0) > 0);
    await until('it issues again', () =>
      issue(client, one.token).then(
        () => true,
        () => false,
      ),
    );
    await cluster().stopApiServer();
    const away = await refusalFrom(issue(client, one.token));
    assert.deepEqual([away.code, away.status], ['attestation_unavailable', grpcStatus.UNAVAILABLE]);
    await cluster().startApiServer();
    await issue(client, one.token);
  });

  it('ends a CA that may not create TokenReviews, with the rule that it lacks', async (t: TestContext) => {
    const folder = temporaryFolder(t);
    const config = join(folder, 'ca.yaml');
    writeFileSync(
      config,
      [
        'dataFolder: data',
        'listen: {grpc: "127.0.0.1:0", http: "127.0.0.1:0"}',
        'attest: {kind: tokenReview}',
        `kubernetes: {kubeconfig: ${JSON.stringify(await cluster().kubeconfigFor('ca-without-rules'))}}`,
      ].join('\n'),
    );
    const { code, stderr } = await runKedge(['ca', '--config', config]);
    assert.notEqual(code, 0);
    assert.match(stderr, /may not create TokenReviews/);
    assert.match(stderr, /resources: \[\\?"tokenreviews\\?"\], verbs: \[\\?"create\\?"\]/);
  });
});
