import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { bundleConfigMap, publishedBundle } from '../../../../ca/distribution/bundle-objects.ts';
import { CONFIG_MAP, type KubernetesObject, NAMESPACE, POD } from '../../../../ca/kubernetes/objects.ts';
import type { CheckResult } from '../../../../cli/check/check.ts';
import { INJECTION_CHECKS } from '../../../../cli/check/injection-checks.ts';
import { MUTATING_WEBHOOK_CONFIGURATION } from '../../../../cli/check/resource-types.ts';
import { runChecks } from '../../../../cli/check/run-checks.ts';
import { KedgeError } from '../../../../pki/kedge-error.ts';
import { encodePem } from '../../../../pki/pem.ts';
import { MemoryKubernetes } from '../../../fakes/memory-kubernetes.ts';
import { HOUR_MS, makeAnchor, NOW_MS } from '../../../support/certificates.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const { signal } = new AbortController();

describe('kedge check, on injection', () => {
  let anchors: readonly Uint8Array[];
  before(async () => {
    const validity = { notAfterMs: NOW_MS + 8_760 * HOUR_MS };
    anchors = [(await makeAnchor(validity)).der, (await makeAnchor(validity)).der];
  });
  const pemOf = (count: number): string =>
    Buffer.from(
      anchors
        .slice(0, count)
        .map((der) => encodePem('CERTIFICATE', der))
        .join(''),
    ).toString('base64');

  interface Cluster {
    readonly isMeshed?: boolean;
    readonly caBundle?: string;
    /** What a dry run of a pod gives. */
    readonly trial?: () => Promise<KubernetesObject>;
    /** Audiences of the tokens of pods that have the agent. */
    readonly audiences?: readonly string[];
    readonly agentIsReady?: boolean;
  }

  async function clusterOf({
    isMeshed = true,
    caBundle = pemOf(2),
    trial = async () => podWith({ 'kedge.io/injected': 'true' }),
    audiences = [],
    agentIsReady = true,
  }: Cluster): Promise<MemoryKubernetes> {
    const api = new MemoryKubernetes();
    const labels = isMeshed ? { 'kedge.io/inject': 'enabled' } : {};
    await api.create(NAMESPACE, { metadata: { name: 'shop', labels } }, { signal });
    const bundle = { trustDomain: 'example.org', sequence: 1, x509Authorities: anchors };
    for (const namespace of isMeshed ? ['shop', 'kedge'] : ['kedge'])
      await api.create(CONFIG_MAP, bundleConfigMap(namespace, publishedBundle(bundle, 300), null), {
        signal,
      });
    const config = {
      metadata: { name: 'kedge-config', namespace: 'kedge' },
      data: { 'ca.yaml': 'attest: { kind: tokenReview, audience: mesh }\n' },
    };
    await api.create(CONFIG_MAP, config, { signal });
    const webhooks = [
      { name: 'namespace.inject.kedge.io', clientConfig: { caBundle } },
      { name: 'pod.inject.kedge.io', clientConfig: { caBundle } },
    ];
    await api.create(MUTATING_WEBHOOK_CONFIGURATION, { metadata: { name: 'kedge' }, webhooks }, { signal });
    for (const [index, audience] of audiences.entries()) {
      const sources = [{ serviceAccountToken: { audience, path: 'token' } }];
      const pod = {
        metadata: {
          name: `pod-${index}`,
          namespace: 'shop',
          labels: { 'kedge.io/injected': 'true' },
        },
        spec: { volumes: [{ name: 'kedge-identity', projected: { sources } }] },
        status: {
          phase: 'Running',
          initContainerStatuses: [{ name: 'kedge-agent', ready: agentIsReady }],
        },
      };
      await api.create(POD, pod, { signal });
    }
    api.apply = trial;
    return api;
  }

  function podWith(labels: Readonly<Record<string, string>>): KubernetesObject {
    return { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'kedge-check-injection', labels } };
  }

  async function ask(cluster: Cluster, statement: RegExp): Promise<CheckResult> {
    const context = {
      api: await clusterOf(cluster),
      namespace: 'kedge',
      clock: new ManualClock(NOW_MS),
      signal,
    };
    for await (const result of runChecks(INJECTION_CHECKS, context))
      if (statement.test(result.statement)) return result;
    throw new Error(`there is no check ${String(statement)}`);
  }

  const CASES: readonly {
    readonly name: string;
    readonly cluster: Cluster;
    readonly statement: RegExp;
    readonly verdict: CheckResult['verdict'];
    readonly detail?: RegExp;
  }[] = [
    {
      name: 'a webhook that trusts every anchor of the bundle',
      cluster: {},
      statement: /webhook trusts/,
      verdict: 'ok',
    },
    {
      name: 'a webhook that does not trust an anchor yet',
      cluster: {
        get caBundle() {
          return pemOf(1);
        },
      },
      statement: /webhook trusts/,
      verdict: 'warning',
      detail: /lacks an anchor/,
    },
    {
      name: 'a webhook that trusts nothing',
      cluster: { caBundle: '' },
      statement: /webhook trusts/,
      verdict: 'failed',
      detail: /caBundle is empty/,
    },
    {
      name: 'a trial pod that gets the agent',
      cluster: {},
      statement: /reaches the webhook/,
      verdict: 'ok',
      detail: /in namespace shop/,
    },
    {
      name: 'a trial pod that gets no agent, as with failurePolicy Ignore and nobody there',
      cluster: { trial: async () => podWith({}) },
      statement: /reaches the webhook/,
      verdict: 'failed',
      detail: /would have no agent/,
    },
    {
      name: 'a trial pod that the API server refuses, as with failurePolicy Fail and nobody there',
      cluster: {
        trial: () =>
          Promise.reject(
            new KedgeError('kubernetes_unavailable', 'failed calling webhook: connection refused'),
          ),
      },
      statement: /reaches the webhook/,
      verdict: 'failed',
      detail: /failed calling webhook/,
    },
    {
      name: 'a user who may not make a trial pod',
      cluster: { trial: () => Promise.reject(new KedgeError('kubernetes_forbidden', 'no')) },
      statement: /reaches the webhook/,
      verdict: 'skipped',
      detail: /the right to patch pods/,
    },
    {
      name: 'no namespace to try it in',
      cluster: { isMeshed: false },
      statement: /reaches the webhook/,
      verdict: 'skipped',
    },
    {
      name: 'tokens for the audience of the CA',
      cluster: { audiences: ['mesh', 'mesh'] },
      statement: /audience/,
      verdict: 'ok',
      detail: /^mesh$/,
    },
    {
      name: 'a pod whose token is for another audience',
      cluster: { audiences: ['mesh', 'kedge'] },
      statement: /audience/,
      verdict: 'failed',
      detail: /shop\/pod-1$/,
    },
    { name: 'no pod with a token', cluster: {}, statement: /audience/, verdict: 'skipped' },
    {
      name: 'an agent that is not ready',
      cluster: { audiences: ['mesh'], agentIsReady: false },
      statement: /agent of every pod is ready/,
      verdict: 'warning',
      detail: /shop\/pod-0$/,
    },
    {
      name: 'agents that are ready',
      cluster: { audiences: ['mesh'] },
      statement: /agent of every pod is ready/,
      verdict: 'ok',
    },
  ];
  for (const { name, cluster, statement, verdict, detail } of CASES) {
    it(`says ${verdict} of ${name}`, async () => {
      const found = await ask(cluster, statement);
      assert.equal(found.verdict, verdict, found.detail);
      if (detail !== undefined) assert.match(found.detail, detail);
    });
  }
});
