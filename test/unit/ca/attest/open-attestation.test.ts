import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { type Attestation, openAttestation } from '../../../../ca/attest/open-attestation.ts';
import { configOf } from '../../../../ca/config.ts';
import { readSettings } from '../../../../ca/config-schema.ts';
import { silentLog } from '../../../../host/log.ts';
import { MetricsRegistry } from '../../../../host/metrics.ts';
import { fixedRandom } from '../../../fakes/fixed-random.ts';
import { expectRejection } from '../../../support/expect-code.ts';
import { fakeCluster } from '../../../support/fake-cluster.ts';
import { settle } from '../../../support/manual-clock.ts';

const ACCESS = /selfsubjectaccessreviews/;
const never = new AbortController().signal;

async function cluster(t: TestContext, yaml: string, signal = never) {
  const made = await fakeCluster(t);
  const { fake, api, clock } = made;
  const access = { allowed: true };
  fake.extensions.push(({ path, body }) =>
    ACCESS.test(path) ? { ...(body as object), status: { allowed: access.allowed } } : undefined,
  );
  const registry = new MetricsRegistry();
  const open = (): Promise<Attestation> =>
    openAttestation({
      settings: configOf(readSettings(yaml, 'ca.yaml', {}), '/').attest,
      api,
      timeoutMs: 5_000,
      registry,
      clock,
      random: fixedRandom(0.5),
      log: silentLog,
      signal,
    });
  const metric = (name: string): string | undefined =>
    registry
      .render()
      .split('\n')
      .find((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`));
  const asked = (): number => fake.seen.filter(({ path }) => ACCESS.test(path)).length;
  return { ...made, access, open, metric, asked };
}

const PEER = { address: '192.0.2.1:1' };
const BY_REVIEW = 'attest: {kind: tokenReview, cluster: main}';
const BY_KEYS =
  'attest: {kind: oidc, issuers: [{issuer: "https://kubernetes.default.svc.cluster.local", cluster: east, keys: kubernetes}]}';

describe('openAttestation', () => {
  it('attests by TokenReview once it has made sure that it may', async (t) => {
    const { open, asked, token, metric } = await cluster(t, BY_REVIEW);
    const { attestor } = await open();
    assert.equal(asked(), 1);
    assert.equal((await attestor.attest(token(), PEER, never)).cluster, 'main');
    assert.equal(metric('kedge_attestation_available'), 'kedge_attestation_available 1');
  });

  it('ends the start where an RBAC rule is missing, and asks no second time', async (t) => {
    const { open, asked, access } = await cluster(t, BY_REVIEW);
    access.allowed = false;
    const error = await expectRejection('kubernetes_forbidden', open());
    assert.match(error.hint ?? '', /tokenreviews/);
    assert.equal(asked(), 1);
  });

  it('waits for an API server that is away, and finds out then what it may', async (t) => {
    const { open, asked, access, fake, clock } = await cluster(t, BY_REVIEW);
    access.allowed = false;
    for (let i = 0; i < 3; i += 1) fake.next(ACCESS, { kind: 'answer', status: 503, body: '' });
    const refused = expectRejection('kubernetes_forbidden', open());
    while (asked() < 4) await clock.advance(100);
    await refused;
  });

  it('starts without an API server that is away for long', async (t) => {
    const { open, fake, clock, asked, metric, token } = await cluster(t, BY_REVIEW);
    for (let i = 0; i < 1_000; i += 1) fake.next(ACCESS, { kind: 'answer', status: 503, body: '' });
    const opening = open();
    const progress = { isOpen: false };
    void opening.then(() => {
      progress.isOpen = true;
    });
    const startMs = clock.monotonic();
    while (!progress.isOpen) {
      await clock.advance(100);
      assert.ok(clock.monotonic() - startMs < 40_000, 'it waits for ever');
    }
    assert.ok(asked() > 3 && asked() < 100, `${asked()} times asked`);
    const { attestor } = await opening;
    fake.next(/tokenreviews/, { kind: 'answer', status: 403, body: '{}' });
    await expectRejection('attestation_unavailable', (async () => attestor.attest(token(), PEER, never))());
    assert.equal(metric('kedge_attestation_available'), 'kedge_attestation_available 0');
  });

  it('ends the start when it is told to', async (t) => {
    const end = new AbortController();
    const { open, fake, asked } = await cluster(t, BY_REVIEW, end.signal);
    fake.next(ACCESS, { kind: 'answer', status: 503, body: '' });
    const opening = assert.rejects(open(), /over/);
    while (asked() < 1) await settle();
    end.abort(new Error('over'));
    await opening;
  });

  it('attests by keys, needs no rule for it, and stops fetching when it is closed', async (t) => {
    const { open, asked, token, fake, clock, metric } = await cluster(t, BY_KEYS);
    const opened = await open();
    const { attestor } = opened;
    assert.equal((await attestor.attest(token(), PEER, never)).cluster, 'east');
    assert.equal(asked(), 0);
    assert.equal(metric('kedge_attestation_available'), 'kedge_attestation_available 1');
    await opened.close();
    const fetches = fake.seen.length;
    await clock.advance(3_600_000);
    assert.equal(fake.seen.length, fetches);
  });

  it('checks the access for keys with TokenReview as well', async (t) => {
    const { open, access } = await cluster(
      t,
      BY_KEYS.replace('keys: kubernetes', 'keys: kubernetes, tokenReview: true'),
    );
    access.allowed = false;
    await expectRejection('kubernetes_forbidden', open());
  });
});
