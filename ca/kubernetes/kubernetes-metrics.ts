import type { MetricsRegistry } from '../../host/metrics.ts';

/** Seconds: from a cached answer to a deadline. */
const BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** Metrics of the calls to the Kubernetes API server; gives what is to be told of each call. */
export function registerKubernetesMetrics(
  registry: MetricsRegistry,
): (verb: string, code: string, durationMs: number) => void {
  const calls = registry.counter({
    name: 'kedge_kubernetes_requests_total',
    help: "Calls to the Kubernetes API server, by RBAC's verb and their outcome: ok or an error code.",
    labels: ['verb', 'code'],
  });
  const durations = registry.histogram({
    name: 'kedge_kubernetes_request_duration_seconds',
    help: 'Time until the answer of the Kubernetes API server, without watches.',
    labels: ['verb'],
    buckets: BUCKETS,
  });
  return (verb, code, durationMs) => {
    calls.add({ verb, code });
    if (verb !== 'watch') durations.observe({ verb }, durationMs / 1_000);
  };
}
