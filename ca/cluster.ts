import type { Clock } from '../host/clock.ts';
import type { Log } from '../host/log.ts';
import type { MetricsRegistry } from '../host/metrics.ts';
import type { Random } from '../host/random.ts';
import { isKedgeError } from '../pki/kedge-error.ts';
import type { Secret } from '../pki/secret.ts';
import type { WorkloadInstance } from './attest/attestor.ts';
import { clusterTemplates } from './attest/cluster-templates.ts';
import type { AuthorityEngine } from './authority/engine.ts';
import type { CaConfig } from './config.ts';
import { type PublishedBundle, publishedBundle } from './distribution/bundle-objects.ts';
import { ClusterBundle } from './distribution/cluster-bundle.ts';
import { registerDistributionMetrics } from './distribution/distribution-metrics.ts';
import { NamespaceBundles } from './distribution/namespace-bundles.ts';
import { ClusterFleet } from './fleet/cluster-fleet.ts';
import { type KnownTrust, trustMark } from './fleet/counted-report.ts';
import type { Fleet } from './fleet/fleet.ts';
import type { FleetView } from './fleet/fleet-view.ts';
import { PeerReports } from './fleet/peer-reports.ts';
import { PodTracker } from './fleet/pod-tracker.ts';
import { reportName, ReportPublisher } from './fleet/report-publisher.ts';
import type { WorkloadPod } from './fleet/workload-pod.ts';
import { readOrCreateKubernetesSealingKey } from './keys/kubernetes-sealing-key.ts';
import { EventRecorder } from './kubernetes/event-recorder.ts';
import type { KubernetesApi } from './kubernetes/kubernetes-api.ts';
import { KubernetesTrustStore } from './store/kubernetes-trust-store.ts';
import type { TrustStore } from './store/trust-store.ts';

/** What {@link openCluster} needs. */
export interface ClusterOptions {
  readonly api: KubernetesApi;
  readonly config: CaConfig;
  /** The Secret with the trust state. */
  readonly secret: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly registry: MetricsRegistry;
}

/** What a {@link Cluster} is told of the CA that it is part of. */
export interface ClusterCa {
  /** What was issued by and reported to this process. */
  readonly local: Fleet;
  /** Null while no trust state was read. */
  readonly trust: () => KnownTrust | null;
}

/** The parts of a CA that live in the API of its cluster. */
export interface Cluster {
  readonly store: TrustStore;
  /** Reads the sealing key, or makes it while there is no trust state. Throws `sealing_key_invalid`, store errors. */
  sealingKey(name: string, signal: AbortSignal): Promise<Secret>;
  /** Who is live, by the pods and by what all replicas know. Call it once. */
  fleet(ca: ClusterCa): FleetView;
  /** Begins to follow the pods, to share what agents report, and to keep the bundle in the namespaces. */
  start(engine: Pick<AuthorityEngine, 'current' | 'knownState' | 'health' | 'onChange'>): void;
  /** Resolves when nothing runs any more. */
  stop(): Promise<void>;
}

/** How long the last word to the other replicas may take, milliseconds. */
const LAST_REPORT_MS = 2_000;

/**
 * The composition root of what a CA has in a cluster; `main.ts` loads it only where the configuration asks for it.
 * Connects to nothing yet.
 */
export function openCluster(options: ClusterOptions): Cluster {
  const { api, config, clock, random, log, registry } = options;
  const { namespace } = api;
  const stopping = new AbortController();
  const { signal } = stopping;
  const context = { api, clock, random, log };
  let running: Promise<unknown> = Promise.resolve();

  const own = reportName(config.replica);
  const events = new EventRecorder({ ...context, instance: config.replica });
  const where = { namespace, name: options.secret };
  const store = new KubernetesTrustStore({ ...context, where, events });
  const peers = new PeerReports({ ...context, namespace, own });
  const pods = new PodTracker({ ...context, onNamespace: (name) => bundles.look(name) });
  let engine: Parameters<Cluster['start']>[0] | null = null;
  const distribution = {
    ...context,
    bundle: bundleOf(() => engine, config.refreshHintSeconds),
    upToDate: () => engine !== null && !engine.health().degraded,
    events,
    metrics: () => metrics,
  };
  const bundles: NamespaceBundles = new NamespaceBundles({
    ...distribution,
    own: namespace,
    hasAgents: (name) => pods.has(name),
    agentsKnown: () => pods.complete,
  });
  const metrics = registerDistributionMetrics(registry, () => bundles.counts());
  const clusterBundle = new ClusterBundle(distribution);
  let fleet: ClusterFleet | null = null;
  let publisher: ReportPublisher | null = null;

  return {
    store,
    async sealingKey(name, signal) {
      const mayCreate = (await store.read(signal)) === null;
      return readOrCreateKubernetesSealingKey({ api, where: { namespace, name }, random, mayCreate }, signal);
    },
    fleet({ local, trust }) {
      fleet = new ClusterFleet({
        cluster: config.attest.cluster,
        local,
        pods,
        peers,
        trust,
        spiffeIdOf: (pod) => spiffeIdOf(pod, config),
        maxSvidTtlMs: config.svid.ttlMs,
        clock,
      });
      return fleet;
    },
    start(started) {
      engine = started;
      const view = fleet;
      if (view === null) throw new TypeError('a cluster is started before its fleet is asked for');
      publisher = new ReportPublisher({
        ...context,
        namespace,
        name: own,
        replica: config.replica,
        instances: () => view.toTell(),
        trust: () => trustMark(started.knownState),
        named: (instance) => !pods.pods.has(instance.id),
      });
      const forget = started.onChange(() => {
        bundles.lookAtAll();
        clusterBundle.look();
      });
      signal.addEventListener('abort', forget, { once: true });
      running = Promise.all([
        pods.run(() => view.unlabelled(), signal),
        peers.run(signal),
        publisher.run(signal),
        bundles.run(signal),
        clusterBundle.run(signal),
      ]);
    },
    async stop() {
      stopping.abort();
      await running;
      // Without it, gates would wait for this replica until its report is old.
      await publisher?.end(AbortSignal.timeout(LAST_REPORT_MS)).catch(() => undefined);
    },
  };
}

/** The published form of the bundle in force, made anew when that has changed; null while there is none. */
function bundleOf(
  engine: () => Parameters<Cluster['start']>[0] | null,
  refreshHintSeconds: number,
): () => PublishedBundle | null {
  let made: { readonly of: unknown; readonly bundle: PublishedBundle } | null = null;
  return () => {
    const current = engine();
    if (current === null || current.knownState === null) return null;
    const view = current.current().bundle;
    if (made?.of !== view) made = { of: view, bundle: publishedBundle(view, refreshHintSeconds) };
    return made.bundle;
  };
}

/** The SPIFFE ID that a pod which has not reported would get; empty where the template gives none. */
function spiffeIdOf(pod: WorkloadPod, config: CaConfig): string {
  const instance: WorkloadInstance = {
    cluster: config.attest.cluster,
    namespace: pod.namespace,
    serviceAccount: pod.serviceAccount,
    podName: pod.name,
    podUid: pod.uid,
    nodeName: undefined,
    tokenExpiresAtMs: 0,
  };
  try {
    return clusterTemplates(config).apply(instance, config.trustDomain).toString();
  } catch (error) {
    if (isKedgeError(error)) return '';
    throw error;
  }
}
