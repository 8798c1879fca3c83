import type { MetricsRegistry } from '../../host/metrics.ts';

/** What the metrics of attestation look at. */
export interface AttestationState {
  readonly isAvailable: () => boolean;
  readonly reviews: () => { readonly running: number; readonly waiting: number };
}

/** Metrics of attestation by TokenReview or by keys of issuers. */
export function registerAttestationMetrics(registry: MetricsRegistry, state: AttestationState): void {
  registry.gaugeFrom(
    {
      name: 'kedge_attestation_available',
      help: '1 while the API server answers TokenReviews, or once each issuer has given its keys; else 0.',
    },
    () => (state.isAvailable() ? 1 : 0),
  );
  registry.gaugesFrom(
    {
      name: 'kedge_token_reviews',
      help: 'TokenReviews under way, and those that wait for their turn.',
      labels: ['state'],
    },
    () => {
      const { running, waiting } = state.reviews();
      return [
        [{ state: 'running' }, running],
        [{ state: 'waiting' }, waiting],
      ] as const;
    },
  );
}
