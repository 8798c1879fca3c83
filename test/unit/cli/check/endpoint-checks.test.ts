import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { caIdentityDocument } from '../../../../ca/api/ca-identity-document.ts';
import { bundleConfigMap, publishedBundle } from '../../../../ca/distribution/bundle-objects.ts';
import { CONFIG_MAP, NAMESPACE, POD } from '../../../../ca/kubernetes/objects.ts';
import type { CheckResult } from '../../../../cli/check/check.ts';
import { ENDPOINT_CHECKS } from '../../../../cli/check/endpoint-checks.ts';
import { runChecks } from '../../../../cli/check/run-checks.ts';
import { KedgeError } from '../../../../pki/kedge-error.ts';
import { SpiffeId } from '../../../../pki/spiffe-id.ts';
import { MemoryKubernetes } from '../../../fakes/memory-kubernetes.ts';
import {
  ext,
  HOUR_MS,
  makeAnchor,
  makeIssuer,
  makeLeaf,
  NOW_MS,
  type TestCa,
} from '../../../support/certificates.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const { signal } = new AbortController();
const CA_ID = 'spiffe://example.org/kedge/ca';
const OTHER_ID = 'spiffe://example.org/ns/shop/sa/web';

/** What one replica says of itself. */
interface Said {
  readonly chain?: readonly Uint8Array[] | null;
  readonly timeMs?: number;
}

describe('kedge check, on what the replicas show', () => {
  let anchor: TestCa;
  let issuer: TestCa;
  let own: Uint8Array;
  const leaf = (id: string, deviation: object = {}): Promise<Uint8Array> =>
    makeLeaf(issuer, {
      notBeforeMs: NOW_MS - HOUR_MS,
      notAfterMs: NOW_MS + 2 * HOUR_MS,
      extensions: { san: ext.uris(id) },
      ...deviation,
    });
  before(async () => {
    anchor = await makeAnchor();
    issuer = await makeIssuer(anchor);
    own = await leaf(CA_ID);
  });

  const pathOf = (name: string) => `/api/v1/namespaces/kedge/pods/${name}:9443/proxy/identity`;

  /** A cluster with these replicas; one that is an error is what the API server says instead. */
  async function clusterOf(replicas: Readonly<Record<string, Said | KedgeError>>): Promise<MemoryKubernetes> {
    const api = new MemoryKubernetes();
    await api.create(NAMESPACE, { metadata: { name: 'kedge' } }, { signal });
    const bundle = { trustDomain: 'example.org', sequence: 1, x509Authorities: [anchor.der] };
    await api.create(CONFIG_MAP, bundleConfigMap('kedge', publishedBundle(bundle, 300), null), { signal });
    for (const [name, said] of Object.entries(replicas)) {
      const labels = { 'app.kubernetes.io/name': 'kedge', 'app.kubernetes.io/component': 'ca' };
      const draft = { metadata: { name, namespace: 'kedge', labels }, status: { phase: 'Running' } };
      await api.create(POD, draft, { signal });
      if (said instanceof KedgeError) {
        api.paths.set(pathOf(name), said);
        continue;
      }
      const { chain = [own, issuer.der], timeMs = NOW_MS } = said;
      const svid = chain === null ? null : { spiffeId: SpiffeId.parse(CA_ID), chain, notAfterMs: 0 };
      api.paths.set(pathOf(name), JSON.parse(caIdentityDocument({ svid, bundle, nowMs: timeMs })));
    }
    return api;
  }

  async function ask(
    replicas: Readonly<Record<string, Said | KedgeError>>,
    nowMs = NOW_MS,
  ): Promise<readonly [CheckResult, CheckResult, CheckResult]> {
    const api = await clusterOf(replicas);
    const context = { api, namespace: 'kedge', clock: new ManualClock(nowMs), signal };
    const results: CheckResult[] = [];
    for await (const result of runChecks(ENDPOINT_CHECKS, context)) results.push(result);
    const [chain, horizon, clocks] = results;
    assert.ok(chain !== undefined && horizon !== undefined && clocks !== undefined);
    return [chain, horizon, clocks];
  }
  const verdicts = (results: readonly CheckResult[]): string[] => results.map(({ verdict }) => verdict);

  it('is well where each replica shows a certificate of the CA below an anchor of the bundle', async () => {
    const results = await ask({ 'ca-0': {}, 'ca-1': {} });
    assert.deepEqual(verdicts(results), ['ok', 'ok', 'ok']);
    assert.deepEqual([results[0].detail, results[1].detail], ['2 replicas', 'the first ends in 2h']);
  });

  const BAD: readonly {
    readonly name: string;
    readonly chain: () => Promise<readonly Uint8Array[] | null>;
    readonly says: RegExp;
  }[] = [
    {
      name: 'below an anchor that the bundle has not',
      chain: async () => {
        const strange = await makeIssuer(await makeAnchor());
        return [await makeLeaf(strange, { extensions: { san: ext.uris(CA_ID) } }), strange.der];
      },
      says: /ca-1 \(svid_/,
    },
    {
      name: 'that is a workload and not the CA',
      chain: async () => [await leaf(OTHER_ID), issuer.der],
      says: /ca-1 \(it is "spiffe:\/\/example\.org\/ns\/shop\/sa\/web"\)/,
    },
    {
      name: 'that has expired',
      chain: async () => [await leaf(CA_ID, { notAfterMs: NOW_MS - 1_000 }), issuer.der],
      says: /ca-1 \(svid_expired\)/,
    },
    { name: 'that is none yet', chain: async () => null, says: /ca-1 \(it has no certificate yet\)/ },
  ];
  for (const { name, chain, says } of BAD) {
    it(`names the replica with a certificate ${name}`, async () => {
      const [found] = await ask({ 'ca-0': {}, 'ca-1': { chain: await chain() } });
      assert.equal(found.verdict, 'failed');
      assert.match(found.detail, says);
    });
  }

  it('warns of a certificate that should have been replaced, and of an issuer', async () => {
    const [, late] = await ask({ 'ca-0': {} }, NOW_MS + 1.5 * HOUR_MS);
    assert.deepEqual([late.verdict, late.detail], ['warning', 'the certificate of ca-0 has 30m left']);
    const old = await makeIssuer(anchor, { notAfterMs: NOW_MS + HOUR_MS });
    const fresh = await makeLeaf(old, {
      notBeforeMs: NOW_MS - HOUR_MS,
      notAfterMs: NOW_MS + HOUR_MS,
      extensions: { san: ext.uris(CA_ID) },
    });
    const [chain, horizon] = await ask({ 'ca-0': { chain: [fresh, old.der] } });
    assert.equal(chain.verdict, 'ok');
    assert.deepEqual([horizon.verdict, horizon.detail], ['warning', 'the issuer of ca-0 has 1h left']);
  });

  it('fails on what has expired', async () => {
    const [, horizon] = await ask({ 'ca-0': {} }, NOW_MS + 3 * HOUR_MS);
    assert.equal(horizon.verdict, 'failed');
    assert.match(horizon.detail, /the certificate of ca-0 has expired/);
  });

  for (const [skewMs, verdict] of [
    [59_000, 'ok'],
    [-61_000, 'warning'],
    [120_000, 'failed'],
  ] as const) {
    it(`says ${verdict} of a replica whose clock is ${skewMs} ms off, and names it`, async () => {
      const [, , clocks] = await ask({ 'ca-0': {}, 'ca-1': { timeMs: NOW_MS + skewMs } });
      assert.equal(clocks.verdict, verdict);
      assert.match(clocks.detail, verdict === 'ok' ? /^$/ : /^the clock of ca-1 differs by/);
    });
  }

  const UNASKED: readonly (readonly [KedgeError, RegExp])[] = [
    [new KedgeError('kubernetes_forbidden', 'no'), /^needs the right to get pods\/proxy in namespace kedge$/],
    [
      new KedgeError('kubernetes_unavailable', 'no'),
      /^the API server does not reach ca-0 at port 9443 \(kubernetes_unavailable\)$/,
    ],
  ];
  for (const [error, says] of UNASKED) {
    it(`is skipped, and never well, where the API server answers ${error.code}`, async () => {
      const results = await ask({ 'ca-0': error, 'ca-1': {} });
      assert.deepEqual(verdicts(results), ['skipped', 'skipped', 'skipped']);
      assert.match(results[0].detail, says);
    });
  }

  it('is skipped where no replica runs', async () => {
    assert.deepEqual(verdicts(await ask({})), ['skipped', 'skipped', 'skipped']);
  });

  it('fails on an answer that is not of a CA', async () => {
    const api = await clusterOf({ 'ca-0': {} });
    api.paths.set(pathOf('ca-0'), { hello: 1 });
    const context = { api, namespace: 'kedge', clock: new ManualClock(NOW_MS), signal };
    for await (const { verdict, detail } of runChecks(ENDPOINT_CHECKS, context)) {
      assert.equal(verdict, 'failed');
      assert.match(detail, /not what an agent gives/);
    }
  });
});
