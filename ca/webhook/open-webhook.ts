import type { CaConfig } from '../config.ts';
import type { WebhookSettings } from '../inject/injection-config.ts';
import type { KubernetesApi } from '../kubernetes/kubernetes-api.ts';
import { Webhook, type WebhookOptions } from './webhook.ts';

/** What the webhook is opened from. */
export interface WebhookParts
  extends Pick<WebhookOptions, 'engine' | 'issuing' | 'registry' | 'clock' | 'random' | 'log'> {
  readonly config: CaConfig;
  readonly settings: WebhookSettings;
  /** The API of the cluster. */
  readonly kubernetes: KubernetesApi;
}

/** The webhook as the configuration has it. */
export function openWebhook(parts: WebhookParts): Webhook {
  const { config, settings, engine, issuing, registry, clock, random, log, kubernetes: api } = parts;
  const { trustDomain, injection, svid } = config;
  return new Webhook({
    trustDomain,
    settings,
    injection,
    api,
    engine,
    issuing,
    svidTtlMs: svid.ttlMs,
    registry,
    clock,
    random,
    log,
  });
}
