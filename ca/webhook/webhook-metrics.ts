import type { MetricsRegistry } from '../../host/metrics.ts';
import { ADMISSION_OUTCOMES, type AdmissionOutcome } from './admission.ts';

/** What the webhook counts. */
export interface WebhookMetrics {
  admission(outcome: AdmissionOutcome): void;
  /** The MutatingWebhookConfiguration is as it should be, or is not. */
  configuration(current: boolean): void;
  repaired(): void;
  /** When the certificate of the webhook expires, milliseconds since the Unix epoch. */
  certificate(notAfterMs: number): void;
}

/** Registers the metrics of the webhook. */
export function registerWebhookMetrics(registry: MetricsRegistry): WebhookMetrics {
  const admissions = registry.counter({
    name: 'kedge_webhook_admissions_total',
    help: `Requests to the webhook by how they ended: ${ADMISSION_OUTCOMES.join(', ')}.`,
    labels: ['outcome'],
  });
  const current = registry.gauge({
    name: 'kedge_webhook_configuration_current',
    help: 'Whether the MutatingWebhookConfiguration is as it should be, its caBundle included: 1, else 0.',
    labels: [],
  });
  const repairs = registry.counter({
    name: 'kedge_webhook_configuration_writes_total',
    help: 'How often this replica wrote the MutatingWebhookConfiguration: a new trust bundle, or a repair.',
    labels: [],
  });
  const expiry = registry.gauge({
    name: 'kedge_webhook_certificate_expiry_timestamp_seconds',
    help: 'When the certificate of the webhook expires, seconds since the Unix epoch.',
    labels: [],
  });
  for (const outcome of ADMISSION_OUTCOMES) admissions.add({ outcome }, 0);
  return {
    admission: (outcome) => admissions.add({ outcome }),
    configuration: (isCurrent) => current.set({}, Number(isCurrent)),
    repaired: () => repairs.add({}),
    certificate: (notAfterMs) => expiry.set({}, notAfterMs / 1_000),
  };
}
