import type { Clock } from '../../host/clock.ts';
import type { Log } from '../../host/log.ts';
import type { MetricsRegistry } from '../../host/metrics.ts';
import type { Random } from '../../host/random.ts';
import { encodePem } from '../../pki/pem.ts';
import { SpiffeId, type TrustDomain } from '../../pki/spiffe-id.ts';
import { ServingIdentity } from '../api/serving-identity.ts';
import type { AuthorityEngine } from '../authority/engine.ts';
import { configurationOptions, type WebhookSettings, webhookDnsNames } from '../inject/injection-config.ts';
import type { InjectionSettings } from '../inject/injection-settings.ts';
import { webhooks } from '../inject/webhook-configuration.ts';
import type { IssuingService } from '../issue/issuing-service.ts';
import type { KubernetesApi } from '../kubernetes/kubernetes-api.ts';
import { type Admission, admit } from './admission.ts';
import type { AdmissionRequest } from './admission-review.ts';
import { ClusterVersion } from './cluster-version.ts';
import { ConfigurationKeeper } from './configuration-keeper.ts';
import { registerWebhookMetrics } from './webhook-metrics.ts';
import { WebhookServer } from './webhook-server.ts';

/** The path of the webhook's SPIFFE ID: another one than that of the CA, for whom agents must never take it. */
export const WEBHOOK_PATH = '/kedge/webhook';

/** What a {@link Webhook} is made of. It closes none of it. */
export interface WebhookOptions {
  readonly trustDomain: TrustDomain;
  readonly settings: WebhookSettings;
  readonly injection: InjectionSettings;
  readonly api: KubernetesApi;
  readonly engine: Pick<AuthorityEngine, 'current' | 'signingIssuer' | 'onChange'>;
  readonly issuing: Pick<IssuingService, 'issueOwn'>;
  /** Lifetime of its certificate, milliseconds. */
  readonly svidTtlMs: number;
  readonly registry: MetricsRegistry;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/**
 * The webhook that injects agents: its server, the certificate that the CA issues to it, and the
 * MutatingWebhookConfiguration by which the API server finds and trusts it.
 *
 * Make before break: a certificate under a new trust anchor is not shown before the caBundle holds that anchor.
 */
export class Webhook {
  readonly #options: WebhookOptions;
  readonly #metrics: ReturnType<typeof registerWebhookMetrics>;
  readonly #version: ClusterVersion;
  readonly #keeper: ConfigurationKeeper;
  readonly #serving: ServingIdentity;
  readonly #stop = new AbortController();
  /** Null until there is a certificate. */
  #server: WebhookServer | null = null;
  #loops: Promise<unknown> = Promise.resolve();
  #unsubscribe: () => void = () => {};

  constructor(options: WebhookOptions) {
    const { settings, injection, api, engine, issuing, clock, random, log } = options;
    this.#options = options;
    this.#metrics = registerWebhookMetrics(options.registry);
    this.#version = new ClusterVersion({ api, sidecar: injection.sidecar, clock });
    this.#keeper = new ConfigurationKeeper({
      api,
      name: settings.configuration,
      webhooks: webhooks(configurationOptions(settings)),
      anchorsPem: () =>
        engine
          .current()
          .bundle.x509Authorities.map((der) => encodePem('CERTIFICATE', der))
          .join(''),
      onCurrent: (current) => this.#metrics.configuration(current),
      onTrusted: () => this.#serving.issuerChanged(),
      onWrite: () => this.#metrics.repaired(),
      clock,
      random,
      log,
    });
    this.#serving = new ServingIdentity({
      issue: (csr) =>
        issuing.issueOwn({
          spiffeId: SpiffeId.of(options.trustDomain, WEBHOOK_PATH),
          csr,
          grant: {
            ttlMs: options.svidTtlMs,
            keyTypes: new Set(['ec-p256']),
            dnsNames: webhookDnsNames(settings),
          },
        }),
      issuerId: () => (this.#keeper.trustsAnchors ? (engine.signingIssuer()?.issuer.id ?? null) : null),
      onCertificate: (certificate, notAfterMs) => {
        this.#metrics.certificate(notAfterMs);
        this.#server?.use(certificate);
      },
      clock,
      random,
      log,
    });
  }

  /** Whether the MutatingWebhookConfiguration is as it should be. */
  get isConfigured(): boolean {
    return this.#keeper.isCurrent;
  }

  /** Issues the certificate, listens, and keeps both the certificate and the configuration. Gives `host:port`. */
  async start(): Promise<string> {
    const { settings, engine, clock, log } = this.#options;
    this.#metrics.configuration(false);
    const server = new WebhookServer({
      certificate: await this.#serving.renew(),
      admit: (request) => this.#admit(request),
      onOutcome: (outcome) => this.#metrics.admission(outcome),
      clock,
      log,
    });
    this.#server = server;
    const { host, port } = settings.address;
    const bound = await server.listen(host, port);
    this.#unsubscribe = engine.onChange(() => {
      this.#keeper.trustChanged();
      this.#serving.issuerChanged();
    });
    this.#loops = Promise.all([this.#serving.run(this.#stop.signal), this.#keeper.run(this.#stop.signal)]);
    return host.includes(':') ? `[${host}]:${bound}` : `${host}:${bound}`;
  }

  /** Takes no more requests; those under way are answered. */
  drain(): void {
    this.#server?.stopListening();
  }

  /** Ends everything. Harmless when repeated. */
  async close(): Promise<void> {
    this.#unsubscribe();
    this.#stop.abort();
    await this.#loops;
    this.#server?.close();
  }

  async #admit(request: AdmissionRequest): Promise<Admission> {
    const { settings, injection, log } = this.#options;
    const admission = admit(request, {
      settings: injection,
      capabilities: await this.#version.capabilities(),
      ownNamespace: settings.namespace,
    });
    const { outcome, code } = admission;
    const { uid, namespace, dryRun } = request;
    // Anyone who reaches the port can cause these lines: not at a level that a log is usually kept at.
    log.debug(`admission.${outcome}`, { uid, namespace, dryRun, ...(code === undefined ? {} : { code }) });
    return admission;
  }
}
