import { KEDGE_VERSION } from '../../host/version.ts';
import type { CaSettings, ListenAddress } from '../config-settings.ts';
import { BUNDLE_PEM_KEY, TRUST_BUNDLE_NAME } from '../kubernetes/cluster-names.ts';
import type { InjectionSettings } from './injection-settings.ts';
import {
  type FailurePolicy,
  WEBHOOK_CONFIGURATION_NAME,
  type WebhookConfigurationOptions,
} from './webhook-configuration.ts';

/** How the webhook is configured. */
export interface WebhookSettings {
  readonly address: ListenAddress;
  /** Name of the MutatingWebhookConfiguration. */
  readonly configuration: string;
  readonly namespace: string;
  readonly service: string;
  readonly servicePort: number;
  /** Null: the API server finds it by the Service. */
  readonly url: string | null;
  readonly failurePolicy: FailurePolicy;
  readonly timeoutMs: number;
}

const DEFAULT_NAMESPACE = 'kedge';
const DEFAULT_SERVICE = 'kedge-ca';
const HTTP_PORT = 15_940;

/** What `webhook` of the configuration says; null where there is no address to listen on. */
export function webhookSettings({ webhook = {} }: CaSettings): WebhookSettings | null {
  if (webhook.address === undefined) return null;
  return {
    address: webhook.address,
    configuration: webhook.configuration ?? WEBHOOK_CONFIGURATION_NAME,
    namespace: webhook.namespace ?? DEFAULT_NAMESPACE,
    service: webhook.service ?? DEFAULT_SERVICE,
    servicePort: webhook.servicePort ?? 443,
    url: webhook.url ?? null,
    failurePolicy: webhook.failurePolicy ?? 'Fail',
    timeoutMs: webhook.timeout ?? 5_000,
  };
}

/** The MutatingWebhookConfiguration that these settings ask for. */
export function configurationOptions(settings: WebhookSettings): WebhookConfigurationOptions {
  const { namespace, service, servicePort, url, failurePolicy, timeoutMs } = settings;
  return {
    target:
      url === null ? { kind: 'service', namespace, name: service, port: servicePort } : { kind: 'url', url },
    failurePolicy,
    timeoutSeconds: timeoutMs / 1_000,
    ownNamespace: namespace,
  };
}

/** The names that the webhook's certificate is for. */
export function webhookDnsNames({ namespace, service, url }: WebhookSettings): readonly string[] {
  return url === null ? [`${service}.${namespace}.svc`] : [new URL(url).hostname];
}

/** What `injection` of the configuration says, and what it has from elsewhere in it. */
export function injectionSettings({
  trustDomain,
  attest,
  webhook = {},
  injection = {},
}: CaSettings): InjectionSettings {
  const { namespace = DEFAULT_NAMESPACE, service = DEFAULT_SERVICE } = webhook;
  const port = injection.httpPort ?? HTTP_PORT;
  return {
    trustDomain: trustDomain?.name ?? 'example.org',
    caAddress: injection.caAddress ?? `${service}.${namespace}.svc:8443`,
    audience: attest?.audience ?? 'kedge',
    tokenTtlSeconds: (injection.tokenTtl ?? 3_600_000) / 1_000,
    bundle:
      injection.clusterTrustBundle === true
        ? { kind: 'cluster-trust-bundle', name: TRUST_BUNDLE_NAME }
        : { kind: 'config-map', name: TRUST_BUNDLE_NAME, key: BUNDLE_PEM_KEY },
    image: injection.image ?? `kedge:${KEDGE_VERSION}`,
    imagePullPolicy: injection.imagePullPolicy ?? 'IfNotPresent',
    sidecar: injection.sidecar ?? 'auto',
    logLevel: injection.logLevel ?? 'info',
    resources: {
      cpuRequest: injection.cpuRequest ?? '10m',
      memoryRequest: injection.memoryRequest ?? '80Mi',
      cpuLimit: null,
      memoryLimit: injection.memoryLimit ?? '160Mi',
    },
    userId: injection.userId ?? 65_532,
    httpHost: injection.httpHost ?? '0.0.0.0',
    httpPort: port === 0 ? null : port,
  };
}
