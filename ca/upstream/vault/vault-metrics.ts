import type { MetricsRegistry } from '../../../host/metrics.ts';
import type { OnVaultCall } from './vault-client.ts';

/** Seconds: from a read in the same rack to a deadline. */
const BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/** Metrics of the calls to Vault; gives what is to be told of each call. `clockSkewMs` is read at each scrape. */
export function registerVaultMetrics(registry: MetricsRegistry, clockSkewMs: () => number): OnVaultCall {
  const calls = registry.counter({
    name: 'kedge_vault_requests_total',
    help: 'Calls to Vault, by operation (read, list, write) and their outcome: ok or an error code.',
    labels: ['operation', 'code'],
  });
  const durations = registry.histogram({
    name: 'kedge_vault_request_duration_seconds',
    help: 'Time until the answer of Vault.',
    labels: ['operation'],
    buckets: BUCKETS,
  });
  registry.gaugeFrom(
    {
      name: 'kedge_vault_clock_skew_seconds',
      help: "How far Vault's clock was ahead of the CA's at its last answer, in seconds.",
    },
    () => clockSkewMs() / 1_000,
  );
  return (operation, code, seconds) => {
    calls.add({ operation, code });
    durations.observe({ operation }, seconds);
  };
}
