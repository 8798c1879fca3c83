import type { MetricsRegistry } from '../../host/metrics.ts';

/** What is done to an object that holds the bundle. */
export type BundleAction = 'created' | 'updated' | 'repaired' | 'removed';

/** How the namespaces are that are to have the bundle. */
export interface NamespaceCounts {
  readonly current: number;
  /** Without the newest bundle, or with one that was edited. */
  readonly pending: number;
  /** With an object of that name that is not Kedge's. */
  readonly foreign: number;
}

/** The metrics of trust distribution. */
export interface DistributionMetrics {
  /** A write has ended. */
  written(action: BundleAction, result: 'ok' | 'conflict' | 'failed'): void;
}

/** Registers them. `counts` is asked at each scrape. */
export function registerDistributionMetrics(
  registry: MetricsRegistry,
  counts: () => NamespaceCounts,
): DistributionMetrics {
  const writes = registry.counter({
    name: 'kedge_trust_bundle_writes_total',
    help: 'Writes of the trust bundle to the Kubernetes API by this replica, by action (created, updated, repaired, removed) and result (ok, conflict, failed).',
    labels: ['action', 'result'],
  });
  registry.gaugesFrom(
    {
      name: 'kedge_trust_bundle_namespaces',
      help: 'Meshed namespaces, by the state of their trust bundle: current, pending, foreign (an object of that name that is not of Kedge).',
      labels: ['state'],
    },
    () => Object.entries(counts()).map(([state, count]) => [{ state }, count] as const),
  );
  return { written: (action, result) => writes.add({ action, result }) };
}
