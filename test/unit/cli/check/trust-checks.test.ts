import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import {
  bundleConfigMap,
  type PublishedBundle,
  publishedBundle,
} from '../../../../ca/distribution/bundle-objects.ts';
import { CONFIG_MAP, NAMESPACE } from '../../../../ca/kubernetes/objects.ts';
import type { CheckResult } from '../../../../cli/check/check.ts';
import { runChecks } from '../../../../cli/check/run-checks.ts';
import { TRUST_CHECKS } from '../../../../cli/check/trust-checks.ts';
import { MemoryKubernetes } from '../../../fakes/memory-kubernetes.ts';
import { HOUR_MS, makeAnchor, NOW_MS } from '../../../support/certificates.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const { signal } = new AbortController();
const YEAR_MS = 8_760 * HOUR_MS;

describe('kedge check, on trust', () => {
  let first: PublishedBundle;
  let second: PublishedBundle;
  before(async () => {
    const validity = { notAfterMs: NOW_MS + YEAR_MS };
    const anchors = [(await makeAnchor(validity)).der, (await makeAnchor(validity)).der];
    const published = (sequence: number, count: number): PublishedBundle =>
      publishedBundle(
        { trustDomain: 'example.org', sequence, x509Authorities: anchors.slice(0, count) },
        300,
      );
    [first, second] = [published(1, 1), published(2, 2)];
  });

  /** A cluster with these meshed namespaces, each with its bundle, or without one. */
  async function clusterOf(
    namespaces: Readonly<Record<string, PublishedBundle | null>>,
  ): Promise<MemoryKubernetes> {
    const api = new MemoryKubernetes();
    for (const [name, bundle] of Object.entries(namespaces)) {
      await api.create(
        NAMESPACE,
        { metadata: { name, labels: { 'kedge.io/inject': 'enabled' } } },
        { signal },
      );
      if (bundle !== null) await api.create(CONFIG_MAP, bundleConfigMap(name, bundle, null), { signal });
    }
    return api;
  }

  async function ask(api: MemoryKubernetes, nowMs = NOW_MS): Promise<CheckResult[]> {
    const context = { api, namespace: 'kedge', clock: new ManualClock(nowMs), signal };
    const results: CheckResult[] = [];
    for await (const result of runChecks(TRUST_CHECKS, context)) results.push(result);
    return results;
  }
  const verdicts = (results: readonly CheckResult[]): string[] => results.map(({ verdict }) => verdict);

  it('is well where every namespace has the one bundle', async () => {
    const results = await ask(await clusterOf({ shop: second, web: second }));
    assert.deepEqual(verdicts(results), ['ok', 'ok', 'ok']);
    assert.equal(results[1]?.detail, 'sequence 2');
  });

  it('asks nothing of a cluster where no namespace is meshed', async () => {
    assert.deepEqual(verdicts(await ask(await clusterOf({}))), ['skipped', 'skipped', 'skipped']);
  });

  it('names the namespaces without a bundle', async () => {
    const [missing] = await ask(await clusterOf({ shop: second, web: null }));
    assert.equal(missing?.verdict, 'failed');
    assert.match(missing?.detail ?? '', /web$/);
  });

  it('warns of a namespace that is behind', async () => {
    const [, drift] = await ask(await clusterOf({ shop: second, web: first }));
    assert.equal(drift?.verdict, 'warning');
    assert.match(drift?.detail ?? '', /web$/);
  });

  for (const [name, data] of [
    ['is empty', {}],
    ['is nonsense', { 'bundle.pem': 'x', 'bundle.json': '{' }],
    ['holds other anchors in its two forms', null],
  ] as const) {
    it(`fails on a bundle that ${name}, also where there is no other`, async () => {
      const api = await clusterOf({ shop: first });
      const stored = await api.get(CONFIG_MAP, { namespace: 'shop', name: 'kedge-trust-bundle' }, { signal });
      const edited = data ?? { 'bundle.pem': second.pem, 'bundle.json': first.document };
      await api.replace(CONFIG_MAP, { ...stored, data: edited }, { signal });
      const [, drift] = await ask(api);
      assert.equal(drift?.verdict, 'failed');
      assert.match(drift?.detail ?? '', /^not a trust bundle: shop \(/);
    });
  }

  for (const [left, verdict] of [
    [90 * 24, 'ok'],
    [30 * 24, 'warning'],
    [24, 'failed'],
    [-1, 'failed'],
  ] as const) {
    it(`says ${verdict} ${left} hours before a trust anchor expires`, async () => {
      const results = await ask(await clusterOf({ shop: second }), NOW_MS + YEAR_MS - left * HOUR_MS);
      assert.equal(results[2]?.verdict, verdict);
    });
  }
});
