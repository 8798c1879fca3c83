import type { Clock } from '../../host/clock.ts';
import { countedInstance, type KnownTrust, trustMark } from './counted-report.ts';
import { instanceKey, joinFleet } from './fleet-join.ts';
import type { Fleet } from './fleet.ts';
import type { FleetView } from './fleet-view.ts';
import { type FleetInstance, isLive } from './instance.ts';
import type { PeerReports } from './peer-reports.ts';
import type { PodTracker, Unlabelled } from './pod-tracker.ts';
import type { WorkloadPod } from './workload-pod.ts';

/** What a {@link ClusterFleet} is made of. It runs none of it. */
export interface ClusterFleetOptions {
  /** The name of the cluster, as attestation gives it to the instances of its pods. */
  readonly cluster: string;
  /** What was issued by and reported to this process. */
  readonly local: Fleet;
  readonly pods: PodTracker;
  readonly peers: PeerReports;
  /** What reports of others are held against; null while no trust state was read. */
  readonly trust: () => KnownTrust | null;
  readonly spiffeIdOf: (pod: WorkloadPod) => string;
  /** The longest that an SVID lives, milliseconds. */
  readonly maxSvidTtlMs: number;
  readonly clock: Clock;
}

/** The {@link FleetView} of a replica in a cluster: its own reports, those of the other replicas, and the pods. */
export class ClusterFleet implements FleetView {
  readonly #options: ClusterFleetOptions;
  /** The last join, and all that it was made of: with tens of thousands of instances one takes a while. */
  #joined: { readonly of: readonly unknown[]; readonly instances: readonly FleetInstance[] } = {
    of: [],
    instances: [],
  };

  constructor(options: ClusterFleetOptions) {
    this.#options = options;
  }

  get complete(): boolean {
    return this.unknown === '';
  }

  get unknown(): string {
    const { local, pods, peers, trust } = this.#options;
    // Whoever it still gives the former bundle, or an SVID of the former issuer, has not reported that yet.
    const behind = peers.behind(trustMark(trust()));
    return [
      ...(local.unknown === '' ? [] : [local.unknown]),
      ...(pods.complete ? [] : ['the pods of the cluster could not be read of late']),
      ...(peers.complete ? [] : ['the report of another replica could not be read of late']),
      ...(behind.length === 0 ? [] : [`not known to have the newest trust state: ${behind.join(', ')}`]),
    ].join(', ');
  }

  instances(): readonly FleetInstance[] {
    const { local, pods, peers, trust } = this.#options;
    const known = trust();
    const reports = peers.instances();
    const of = [known, local.version, pods.version, ...reports];
    if (of.length !== this.#joined.of.length || of.some((part, i) => part !== this.#joined.of[i])) {
      this.#joined = { of, instances: this.#join(known, reports) };
    }
    return this.#joined.instances;
  }

  #join(known: KnownTrust | null, reports: readonly (readonly FleetInstance[])[]): readonly FleetInstance[] {
    const { cluster, local, pods, spiffeIdOf, maxSvidTtlMs } = this.#options;
    const others = reports.map((instances) => instances.map((instance) => countedInstance(instance, known)));
    return joinFleet({
      cluster,
      reported: [local.instances(), ...others],
      pods: pods.pods,
      gone: pods.gone,
      spiffeIdOf,
      maxSvidTtlMs,
    });
  }

  /**
   * What this replica has to tell the others: what it heard itself, without those that are gone, and without those
   * whose agent is connected to another replica since.
   */
  toTell(): readonly FleetInstance[] {
    const { local, peers, pods, clock, cluster } = this.#options;
    const elsewhere = new Map(
      peers
        .instances()
        .flat()
        .filter(({ connected }) => connected)
        .map((instance) => [instanceKey(instance), instance.lastSeenMs]),
    );
    const nowMs = clock.now();
    return local.instances().filter((instance) => {
      if (instance.cluster === cluster && pods.gone.has(instance.id)) return false;
      if (instance.connected) return true;
      return isLive(instance, nowMs) && !((elsewhere.get(instanceKey(instance)) ?? -1) > instance.lastSeenMs);
    });
  }

  /** Instances of this cluster that nothing but their report tells of, and that are not connected here. */
  unlabelled(): readonly Unlabelled[] {
    const { cluster, pods, clock } = this.#options;
    const nowMs = clock.now();
    return this.instances().filter(
      (instance) =>
        instance.cluster === cluster &&
        !instance.connected &&
        instance.podName !== '' &&
        !pods.pods.has(instance.id) &&
        isLive(instance, nowMs),
    );
  }
}
