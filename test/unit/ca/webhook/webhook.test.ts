import assert from 'node:assert/strict';
import { connect } from 'node:tls';
import { describe, it, type TestContext } from 'node:test';
import type { TrustView } from '../../../../ca/authority/trust-view.ts';
import { configurationOptions, type WebhookSettings } from '../../../../ca/inject/injection-config.ts';
import { webhooks } from '../../../../ca/inject/webhook-configuration.ts';
import type { KubernetesApi } from '../../../../ca/kubernetes/kubernetes-api.ts';
import { Webhook } from '../../../../ca/webhook/webhook.ts';
import { silentLog } from '../../../../host/log.ts';
import { MetricsRegistry } from '../../../../host/metrics.ts';
import { parseCertificate } from '../../../../pki/certificate.ts';
import { describeCertificate } from '../../../../pki/inspect.ts';
import { KedgeError } from '../../../../pki/kedge-error.ts';
import { fixedRandom } from '../../../fakes/fixed-random.ts';
import { OneObject } from '../../../fakes/one-object.ts';
import { issuingPath, testIssuer, TRUST_DOMAIN } from '../../../support/issuing.ts';
import { settle } from '../../../support/manual-clock.ts';
import { SETTINGS } from '../../../support/pods.ts';

const WEBHOOK: WebhookSettings = {
  address: { host: '127.0.0.1', port: 0 },
  configuration: 'kedge',
  namespace: 'kedge',
  service: 'kedge-ca',
  servicePort: 443,
  url: null,
  failurePolicy: 'Fail',
  timeoutMs: 5_000,
};

async function running(t: TestContext) {
  const first = await testIssuer();
  const world = { anchors: [first.anchor], signing: first.signing };
  const { service, clock } = await issuingPath({ signingIssuer: () => world.signing });
  const listeners = new Set<(view: TrustView) => void>();
  const view = (): TrustView =>
    ({
      bundle: { trustDomain: 'example.org', sequence: 1, x509Authorities: world.anchors },
    }) as unknown as TrustView;
  const server = new OneObject();
  server.set(webhooks(configurationOptions(WEBHOOK)));
  const registry = new MetricsRegistry();
  const webhook = new Webhook({
    trustDomain: TRUST_DOMAIN,
    settings: WEBHOOK,
    injection: { ...SETTINGS, sidecar: 'native' },
    api: server as unknown as KubernetesApi,
    engine: {
      current: view,
      signingIssuer: () => world.signing,
      onChange: (listener) => {
        listeners.add(listener);
        return () => void listeners.delete(listener);
      },
    },
    issuing: service,
    svidTtlMs: 3_600_000,
    registry,
    clock,
    random: fixedRandom(0.5),
    log: silentLog,
  });
  const port = Number((await webhook.start()).split(':')[1]);
  t.after(() => webhook.close());
  await settle();
  /** The certificate that a new connection is shown. */
  const shown = (): Promise<Uint8Array> =>
    new Promise((resolve, reject) => {
      // Its dates are those of the test's clock.
      const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false }, () => {
        resolve(socket.getPeerCertificate().raw);
        socket.destroy();
      });
      socket.on('error', reject);
    });
  const issuerShown = async (): Promise<string> =>
    Buffer.from(parseCertificate(await shown()).authorityKeyId ?? []).toString('hex');
  const pass = async (ms: number): Promise<void> => {
    for (let left = ms; left > 0; left -= 500) {
      await clock.advance(500);
      await settle();
    }
  };
  const changed = (): void => {
    for (const listener of listeners) listener(view());
  };
  return { webhook, world, server, shown, issuerShown, pass, changed, registry, first };
}

describe('the webhook of a CA', () => {
  it('shows an SVID of its own, for the name of the Service, which is not that of the CA', async (t) => {
    const { shown } = await running(t);
    const { spiffeId, subjectAltNames } = describeCertificate(await shown());
    assert.equal(spiffeId, 'spiffe://example.org/kedge/webhook');
    assert.ok(
      subjectAltNames.some((name) => name.includes('kedge-ca.kedge.svc')),
      subjectAltNames.join(),
    );
  });

  it('follows the issuer although the cluster adds to each webhook what Kedge did not put there', async (t) => {
    const { world, server, issuerShown, pass, changed, webhook, first } = await running(t);
    // As AKS and GKE Autopilot do to the namespaceSelector of every webhook, whoever writes it.
    const write = server.replace;
    server.replace = async (type, draft) => {
      const hooks = draft['webhooks'] as { namespaceSelector: { matchExpressions: object[] } }[];
      const theirs = { key: 'control-plane', operator: 'DoesNotExist' };
      const webhooks = hooks.map(({ namespaceSelector, ...hook }) => ({
        ...hook,
        namespaceSelector: { matchExpressions: [...namespaceSelector.matchExpressions, theirs] },
      }));
      return write(type, { ...draft, webhooks });
    };
    await pass(10_000);
    const next = await testIssuer();
    world.anchors = [first.anchor, next.anchor];
    world.signing = next.signing;
    changed();
    await pass(120_000);
    assert.equal(webhook.isConfigured, false);
    assert.equal(await issuerShown(), next.signing.issuer.id);
  });

  it('shows none under a new anchor before the API server trusts that anchor', async (t) => {
    const { world, server, issuerShown, pass, changed, webhook, first } = await running(t);
    await pass(2_000);
    assert.equal(webhook.isConfigured, true);
    const next = await testIssuer();
    // The API server does not take the new bundle yet.
    for (let i = 0; i < 3; i += 1) {
      server.faults.push({ error: new KedgeError('kubernetes_unavailable', 'later'), done: false });
    }
    world.anchors = [first.anchor, next.anchor];
    world.signing = next.signing;
    changed();
    await pass(1_000);
    assert.equal(webhook.isConfigured, false);
    assert.equal(await issuerShown(), first.signing.issuer.id);
    await pass(60_000);
    assert.equal(webhook.isConfigured, true);
    assert.equal(await issuerShown(), next.signing.issuer.id);
  });

  it('tells its state in metrics', async (t) => {
    const { registry, pass } = await running(t);
    await pass(2_000);
    const text = registry.render();
    assert.match(text, /^kedge_webhook_configuration_current 1$/m);
    assert.match(text, /^kedge_webhook_configuration_writes_total 1$/m);
    assert.match(text, /^kedge_webhook_certificate_expiry_timestamp_seconds \d+/m);
    assert.match(text, /^kedge_webhook_admissions_total\{outcome="refused"\} 0$/m);
  });
});
