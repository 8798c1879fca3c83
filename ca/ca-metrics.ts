import type { Clock } from '../host/clock.ts';
import type { MetricsRegistry } from '../host/metrics.ts';
import { KEDGE_VERSION } from '../host/version.ts';
import { type GateEvidence, gateOf, lookAtGate } from './authority/gates.ts';
import type { TrustView } from './authority/trust-view.ts';
import type { Fleet } from './fleet/fleet.ts';
import { coverageOf, fleetCoverage, stragglersOf } from './fleet/fleet-coverage.ts';
import type { FleetView } from './fleet/fleet-view.ts';

/** What the metrics about the CA as a whole are read from, at each scrape. */
export interface CaMetricsSources {
  readonly trustView: () => TrustView;
  readonly fleet: Fleet;
  /** Who is live: the same fleet, or what all replicas and the cluster know. */
  readonly liveFleet: FleetView;
  /** Whether the upstream authority was well when it was last asked. */
  readonly upstreamOk: () => boolean;
  readonly ready: () => boolean;
  /** Which evidence the gates of a rotation take. */
  readonly gateEvidence: GateEvidence;
  /** Whether the newest edit of the policy file is in force; true without a file. */
  readonly policyCurrent: () => boolean;
  readonly clock: Clock;
}

/** Registers the metrics about trust, fleet and readiness. */
export function registerCaMetrics(registry: MetricsRegistry, sources: CaMetricsSources): void {
  const { trustView, upstreamOk, fleet, liveFleet, ready, gateEvidence, policyCurrent, clock } = sources;
  registry
    .gauge({ name: 'kedge_info', help: 'Always 1; the label says which version runs.', labels: ['version'] })
    .set({ version: KEDGE_VERSION }, 1);
  const gauge = (name: string, help: string, read: () => number): void =>
    registry.gaugeFrom({ name, help }, read);
  gauge('kedge_ready', '1 while the CA can issue, else 0; what /readyz says.', () => Number(ready()));
  gauge('kedge_bundle_sequence', 'Sequence of the trust bundle in force.', () => trustView().bundle.sequence);
  gauge(
    'kedge_issuer_expiry_timestamp_seconds',
    'When the issuer that signs now expires, seconds since the Unix epoch; 0 while none may sign.',
    () => (trustView().signingIssuer?.issuer.notAfterMs ?? 0) / 1000,
  );
  gauge(
    'kedge_anchor_expiry_timestamp_seconds',
    'When the first of the trust anchors in the bundle expires, seconds since the Unix epoch.',
    () => Math.min(...trustView().state.anchors.map(({ notAfterMs }) => notAfterMs)) / 1000,
  );
  gauge(
    'kedge_upstream_ok',
    '1 unless the upstream authority could not be asked, or had nothing that could be used, when it was last needed.',
    () => Number(upstreamOk()),
  );
  gauge('kedge_policy_current', '1 while the newest edit of the policy file is in force, else 0.', () =>
    Number(policyCurrent()),
  );
  gauge('kedge_fleet_connected_instances', 'Workload instances with a Watch stream.', () => fleet.connected);
  const coverage = () => coverageOf(liveFleet.instances(), clock.now());
  gauge(
    'kedge_fleet_live_instances',
    'Workload instances that may hold an unexpired SVID and are not known to be gone.',
    () => coverage().instances.length,
  );
  gauge(
    'kedge_fleet_stragglers',
    'Live instances that do not hold the newest bundle and an SVID of the active issuer.',
    () => {
      const { bundle, signingIssuer } = trustView();
      const goal = { bundleSequence: bundle.sequence, authorityKeyId: signingIssuer?.issuer.id ?? null };
      return stragglersOf(coverage(), goal).length;
    },
  );
  gauge(
    'kedge_rotation_under_way',
    '1 while a rotation of the trust anchor is under way, paused ones included, else 0.',
    () => Number(trustView().state.rotation !== null),
  );
  gauge(
    'kedge_rotation_stragglers',
    'Live instances that the rotation of the trust anchor waits for.',
    () => {
      const { state } = trustView();
      const goal = gateOf(state);
      return goal === null
        ? 0
        : lookAtGate(goal, state, fleetCoverage(liveFleet, clock.now()), gateEvidence).stragglers.length;
    },
  );
  gauge(
    'kedge_fleet_unheard_instances',
    'Pods that run with an agent and have reported to no replica of the CA.',
    () => {
      const nowMs = clock.now();
      return liveFleet.instances().filter(({ unheardUntilMs }) => unheardUntilMs > nowMs).length;
    },
  );
  gauge(
    'kedge_fleet_complete',
    '1 while pods and the reports of all replicas are known, else 0: then live instances may be missing.',
    () => Number(liveFleet.complete),
  );
  gauge(
    'kedge_fleet_clock_skew_max_seconds',
    "Largest difference between an agent's clock and the CA's, either way, in seconds.",
    () =>
      fleet
        .instances()
        .reduce((worst, { report }) => Math.max(worst, Math.abs(report?.clockSkewMs ?? 0)), 0) / 1000,
  );
}
