import type { FleetInstance, LatestSvid, PodPresence } from './instance.ts';
import type { WorkloadPod } from './workload-pod.ts';

/** What {@link joinFleet} puts together. */
export interface FleetSources {
  /** The cluster whose pods these are. Instances of other clusters are known by reports alone. */
  readonly cluster: string;
  /** What agents reported: to this replica and to others, each already held against the trust state. */
  readonly reported: readonly (readonly FleetInstance[])[];
  /** The pods that carry the agent, by UID. */
  readonly pods: ReadonlyMap<string, PodSighting>;
  /** UIDs of pods that were seen to be gone. */
  readonly gone: { has(uid: string): boolean };
  /** SPIFFE ID of a pod that has not reported; empty where the template has none for it. */
  readonly spiffeIdOf: (pod: WorkloadPod) => string;
  /** The longest that an SVID lives, milliseconds. */
  readonly maxSvidTtlMs: number;
}

/** A pod, and since when it is known of. */
export interface PodSighting {
  readonly pod: WorkloadPod;
  /** When this process first saw it, milliseconds since the Unix epoch. */
  readonly sinceMs: number;
}

/**
 * Who is live, from what agents say and from the pods that the cluster has. Pure.
 *
 * - An instance that two replicas know of counts once, as the replica has it that its agent is connected to, or else
 *   the one that heard of it last.
 * - A pod that runs and has reported to nobody is live and holds nothing: it may hold an SVID that was issued before
 *   any of the replicas started. After the longest lifetime of an SVID it cannot, and counts no more.
 * - A pod that is gone, or has ended, counts no more, whatever SVID it held.
 * - Only proof makes an instance gone. A reported one that is not among the pods (injected by hand, without the label;
 *   or newer than the last event) lives until its SVID expires.
 */
export function joinFleet(sources: FleetSources): readonly FleetInstance[] {
  const { cluster, reported, pods, gone } = sources;
  const joined = new Map<string, FleetInstance>();
  const elsewhere = new Map<string, FleetInstance>();
  for (const instances of reported) {
    for (const instance of instances) {
      // Within its own cluster the UID is enough, and spares building a key for each of tens of thousands.
      const [map, key] =
        instance.cluster === cluster ? [joined, instance.id] : [elsewhere, instanceKey(instance)];
      const known = map.get(key);
      map.set(key, known === undefined ? instance : mergedInstance(known, instance));
    }
  }
  for (const [uid, instance] of joined) {
    joined.set(uid, withPod(instance, pods.get(uid)?.pod, gone.has(uid)));
  }
  for (const [uid, sighting] of pods) {
    const counts = mayRun(sighting.pod) && !gone.has(uid);
    if (counts && !joined.has(uid)) joined.set(uid, unheard(sighting, sources));
  }
  return [...joined.values(), ...elsewhere.values()];
}

/** One key for each instance over all clusters. */
export function instanceKey({ cluster, id }: Pick<FleetInstance, 'cluster' | 'id'>): string {
  return `${cluster}/${id}`;
}

/** What two replicas know of the same instance, as one. Pure and symmetric but for ties. */
export function mergedInstance(a: FleetInstance, b: FleetInstance): FleetInstance {
  const aFirst = a.connected === b.connected ? a.lastSeenMs >= b.lastSeenMs : a.connected;
  const [newer, older] = aFirst ? [a, b] : [b, a];
  return {
    ...newer,
    // Reports of other replicas come without names.
    spiffeId: newer.spiffeId || older.spiffeId,
    namespace: newer.namespace || older.namespace,
    podName: newer.podName || older.podName,
    report: newer.report ?? older.report,
    issued: laterSvid(newer.issued, older.issued),
  };
}

function laterSvid(a: LatestSvid | null, b: LatestSvid | null): LatestSvid | null {
  if (a === null || b === null) return a ?? b;
  return a.notAfterMs >= b.notAfterMs ? a : b;
}

function withPod(instance: FleetInstance, pod: WorkloadPod | undefined, gone: boolean): FleetInstance {
  const presence = presenceOf(pod, gone);
  if (pod === undefined) return presence === instance.pod ? instance : { ...instance, pod: presence };
  return { ...instance, namespace: pod.namespace, podName: pod.name, pod: presence };
}

function presenceOf(pod: WorkloadPod | undefined, gone: boolean): PodPresence {
  // A UID is never used again, so that a pod which was seen to be gone stays gone.
  if (gone || pod?.stage === 'ended') return 'gone';
  return pod?.stage === 'running' ? 'running' : 'unknown';
}

/** Whether the pod may serve with an SVID. One that is starting, or ending unheard, holds up nobody. */
function mayRun({ stage, deleting }: WorkloadPod): boolean {
  return stage === 'running' && !deleting;
}

function unheard({ pod, sinceMs }: PodSighting, sources: FleetSources): FleetInstance {
  return {
    id: pod.uid,
    cluster: sources.cluster,
    spiffeId: sources.spiffeIdOf(pod),
    namespace: pod.namespace,
    podName: pod.name,
    issued: null,
    report: null,
    connected: false,
    lastSeenMs: 0,
    pod: 'running',
    unheardUntilMs: sinceMs + sources.maxSvidTtlMs,
  };
}
