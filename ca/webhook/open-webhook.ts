import type { CaConfig } from '../config.ts';
import type { WebhookSettings } from '../inject/injection-config.ts';
import type { KubernetesApi } from '../kubernetes/kubernetes-api.ts';
import { openKubernetes } from '../kubernetes/open-kubernetes.ts';
import { Webhook, type WebhookOptions } from './webhook.ts';

/** What the webhook is opened from. */
export interface WebhookParts
  extends Pick<WebhookOptions, 'engine' | 'issuing' | 'registry' | 'clock' | 'random' | 'log'> {
  readonly config: CaConfig;
  readonly settings: WebhookSettings;
  /** The API of the cluster. Default: what configuration and environment name. */
  readonly kubernetes?: KubernetesApi | undefined;
}

/** The webhook as the configuration has it. Throws `config_invalid`, `file_unreadable` where no cluster is found. */
export async function openWebhook(parts: WebhookParts): Promise<Webhook> {
  const { config, settings, engine, issuing, registry, clock, random, log } = parts;
  const { trustDomain, injection, svid } = config;
  const api =
    parts.kubernetes ??
    (await openKubernetes({ settings: config.kubernetes, environment: process.env, clock, log }));
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
