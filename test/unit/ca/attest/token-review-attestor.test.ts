import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import type { WorkloadInstance } from '../../../../ca/attest/attestor.ts';
import {
  TokenReviewAttestor,
  type TokenReviewAttestorOptions,
} from '../../../../ca/attest/token-review-attestor.ts';
import { silentLog } from '../../../../host/log.ts';
import type { Fault } from '../../../fakes/fake-api-server.ts';
import { fixedRandom } from '../../../fakes/fixed-random.ts';
import { attestorConformance } from '../../../conformance/attestor.ts';
import { expectRejection } from '../../../support/expect-code.ts';
import { conformanceTokens, type FakeCluster, fakeCluster } from '../../../support/fake-cluster.ts';
import { settle } from '../../../support/manual-clock.ts';

const PEER = { address: '192.0.2.1:4711' };
const never = new AbortController().signal;
const REVIEWS = /^POST \/apis\/authentication.k8s.io\/v1\/tokenreviews/;

function attestorOf(
  { api, clock }: FakeCluster,
  options: Partial<TokenReviewAttestorOptions> = {},
): TokenReviewAttestor {
  return new TokenReviewAttestor({
    api,
    cluster: 'main',
    audience: 'kedge',
    unbound: 'refuse',
    leewayMs: 30_000,
    reuseMs: 5_000,
    concurrent: 4,
    clock,
    random: fixedRandom(0.5),
    log: silentLog,
    ...options,
  });
}

function instanceOf({ clock, podUid }: FakeCluster): WorkloadInstance {
  return {
    cluster: 'main',
    namespace: 'rec',
    serviceAccount: 'web',
    podName: 'web-1',
    podUid,
    nodeName: 'node1',
    tokenExpiresAtMs: clock.now() + 3_600_000,
  };
}

async function opened(t: TestContext, options: Partial<TokenReviewAttestorOptions> = {}) {
  const cluster = await fakeCluster(t);
  const attestor = attestorOf(cluster, options);
  const attest = async (token: string, signal = never): Promise<WorkloadInstance> =>
    attestor.attest(token, PEER, signal);
  return { ...cluster, cluster, attestor, attest };
}

describe('TokenReviewAttestor', () => {
  attestorConformance(async () => {
    const ends: (() => void | Promise<void>)[] = [];
    const cluster = await fakeCluster({ after: (end) => void ends.push(end as () => Promise<void>) });
    const tokens = conformanceTokens(cluster);
    return {
      attestor: attestorOf(cluster),
      instance: instanceOf(cluster),
      token: (kind) => tokens.get(kind) ?? assert.fail(kind),
      close: async () => {
        for (const end of ends) await end();
      },
    };
  });

  it('asks for its audience, and no more than once for what is asked at the same time', async (t) => {
    const { attest, token, tokens, fake, cluster } = await opened(t);
    const text = token();
    const all = await Promise.all(Array.from({ length: 20 }, () => attest(text)));
    assert.deepEqual(all[19], instanceOf(cluster));
    assert.equal(tokens.reviews, 1);
    const body = fake.seen[0]?.body as { spec: { audiences: string[] } };
    assert.deepEqual(body.spec.audiences, ['kedge']);
  });

  it('spares the API server what is no token for this CA', async (t) => {
    const { attest, token, tokens, clock } = await opened(t);
    for (const [text, code] of [
      ['open sesame', 'token_malformed'],
      [token({ audiences: ['vault'] }), 'token_audience_mismatch'],
      [token({ claims: { exp: Math.floor(clock.now() / 1000) - 31 } }), 'token_expired'],
      [token({ claims: { exp: undefined } }), 'token_claims_invalid'],
    ] as const) {
      await expectRejection(code, attest(text));
    }
    assert.equal(tokens.reviews, 0);
  });

  it('refuses the token of a pod that is gone as soon as the last review is too old', async (t) => {
    const { attest, token, tokens, clock, deletePod } = await opened(t);
    const text = token();
    await attest(text);
    deletePod();
    await clock.advance(4_999);
    await attest(text);
    assert.equal(tokens.reviews, 1);
    await clock.advance(1);
    await expectRejection('token_invalidated', attest(text));
    await expectRejection('token_invalidated', attest(text));
    assert.equal(tokens.reviews, 3, 'a refusal is not remembered');
  });

  it('reviews each use where nothing is reused', async (t) => {
    const { attest, token, tokens, deletePod } = await opened(t, { reuseMs: 0 });
    const text = token();
    await attest(text);
    deletePod();
    await expectRejection('token_invalidated', attest(text));
    assert.equal(tokens.reviews, 2);
  });

  it('looks at the time of a token at each use', async (t) => {
    const { attest, token, clock } = await opened(t, { leewayMs: 0 });
    const text = token({ seconds: 2 });
    await attest(text);
    await clock.advance(2_000);
    await expectRejection('token_expired', attest(text));
  });

  it('takes an unbound token for the ServiceAccount itself, where that is allowed', async (t) => {
    const { cluster, attest, tokens, fake, accountUid, token } = await opened(t, {
      unbound: 'take the ServiceAccount for the instance',
    });
    const unbound = tokens.mint(fake.store, { namespace: 'rec', serviceAccount: 'web' });
    assert.deepEqual(await attest(unbound), {
      ...instanceOf(cluster),
      podName: 'web',
      podUid: accountUid,
      nodeName: undefined,
    });
    assert.deepEqual(await attest(token()), instanceOf(cluster));
  });

  const OUTAGES: readonly { readonly name: string; readonly fault: Fault }[] = [
    { name: 'cuts the connection', fault: { kind: 'cut', done: true } },
    { name: 'cuts its answer', fault: { kind: 'cut body' } },
    { name: 'answers 500', fault: { kind: 'answer', status: 500, body: 'no' } },
    { name: 'answers 401', fault: { kind: 'answer', status: 401, body: '{}' } },
    { name: 'answers 403', fault: { kind: 'answer', status: 403, body: '{}' } },
    {
      name: 'answers HTML',
      fault: { kind: 'answer', status: 200, body: '<html>authenticated: true</html>' },
    },
    {
      name: 'answers another kind',
      fault: {
        kind: 'answer',
        status: 201,
        body: '{"apiVersion":"v1","kind":"Pod","status":{"authenticated":true}}',
      },
    },
  ];
  for (const { name, fault } of OUTAGES) {
    it(`says when to come back while the API server ${name}, and recovers by itself`, async (t) => {
      const { attest, token, fake, attestor } = await opened(t);
      const text = token();
      for (let i = 0; i < 2; i += 1) fake.next(REVIEWS, fault);
      const error = await expectRejection('attestation_unavailable', attest(text));
      assert.ok((error.retryAfterMs ?? 0) >= 1_000);
      assert.ok(error.cause instanceof Error);
      assert.equal(attestor.isAway, true);
      await expectRejection('attestation_unavailable', attest(text));
      await attest(text);
      assert.equal(attestor.isAway, false);
    });
  }

  it('asks nobody while the API server asks for fewer requests', async (t) => {
    const { attest, token, tokens, fake, clock } = await opened(t);
    fake.next(REVIEWS, { kind: 'answer', status: 429, body: '', headers: { 'retry-after': '7' } });
    const first = await expectRejection('attestation_unavailable', attest(token()));
    assert.equal(first.retryAfterMs, 7_500);
    await clock.advance(3_000);
    const second = await expectRejection('attestation_unavailable', attest(token()));
    assert.equal(second.retryAfterMs, 4_500);
    assert.equal(tokens.reviews, 0);
    await clock.advance(4_000);
    await attest(token());
    assert.equal(tokens.reviews, 1);
  });

  it('bounds how many reviews go on, and lets a slow one block neither others nor those who leave', async (t) => {
    const { attest, token, fake, attestor, clock, tokens } = await opened(t, { concurrent: 2 });
    for (let i = 0; i < 2; i += 1) fake.next(REVIEWS, { kind: 'silence' });
    const leaving = new AbortController();
    const slow = [attest(token(), leaving.signal), attest(token())];
    const left = assert.rejects(slow[0]!, /left/);
    const late = expectRejection('attestation_unavailable', slow[1]!);
    while (fake.seen.length < 2) await settle();
    const waiting = [attest(token()), attest(token(), leaving.signal), attest(token())];
    const leftToo = assert.rejects(waiting[1]!, /left/);
    await settle();
    assert.deepEqual(attestor.load, { running: 2, waiting: 3 });
    leaving.abort(new Error('left'));
    await left;
    await leftToo;
    await clock.advance(60_000);
    await late;
    await Promise.all([waiting[0], waiting[2]]);
    await settle();
    assert.deepEqual(attestor.load, { running: 0, waiting: 0 });
    assert.equal(tokens.reviews, 2, 'nobody waited for the third any more');
  });

  it('says which RBAC rule is missing', async (t) => {
    const { attestor, fake } = await opened(t);
    let allowed = false;
    fake.extensions.push(({ path, body }) =>
      path.endsWith('/selfsubjectaccessreviews') ? { ...(body as object), status: { allowed } } : undefined,
    );
    const error = await expectRejection('kubernetes_forbidden', attestor.checkAccess(never));
    assert.equal(
      error.hint,
      'grant by a ClusterRole: apiGroups: ["authentication.k8s.io"], resources: ["tokenreviews"], verbs: ["create"]',
    );
    allowed = true;
    await attestor.checkAccess(never);
  });
});
