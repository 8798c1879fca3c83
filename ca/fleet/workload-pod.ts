import { membersOf } from '../kubernetes/api-answer.ts';
import type { KubernetesObject } from '../kubernetes/objects.ts';

/** A pod that carries the agent, as far as the fleet needs it. */
export interface WorkloadPod {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly serviceAccount: string;
  /**
   * `starting`: no workload runs yet, though the agent may; `running`; `ended`: its containers have ended for good,
   * and the API server still shows it.
   */
  readonly stage: 'starting' | 'running' | 'ended';
  /** Whether it was told to end. */
  readonly deleting: boolean;
}

/**
 * Reads a pod (core/v1 Pod, `status.phase`, `spec.serviceAccountName`); null for one without a UID. A phase that is
 * not known counts as running: what may run is not overlooked.
 */
export function readWorkloadPod({ metadata, spec, status }: KubernetesObject): WorkloadPod | null {
  const { uid, namespace, name, deletionTimestamp } = metadata;
  if (uid === undefined || uid === '' || namespace === undefined) return null;
  const phase = member(status, 'phase');
  return {
    uid,
    namespace,
    name,
    serviceAccount: member(spec, 'serviceAccountName') ?? 'default',
    stage:
      phase === 'Pending' ? 'starting' : phase === 'Succeeded' || phase === 'Failed' ? 'ended' : 'running',
    deleting: deletionTimestamp !== undefined,
  };
}

function member(value: unknown, name: string): string | undefined {
  const found = membersOf(value)[name];
  return typeof found === 'string' ? found : undefined;
}
