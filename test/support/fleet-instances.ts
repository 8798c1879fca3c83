import type { FleetInstance } from '../../ca/fleet/instance.ts';
import type { ReportedState } from '../../ca/fleet/reported-state.ts';
import type { WorkloadPod } from '../../ca/fleet/workload-pod.ts';

/** An instance that has said nothing and was issued nothing. */
export function fleetInstance(id: string, change: Partial<FleetInstance> = {}): FleetInstance {
  return {
    id,
    cluster: 'c1',
    spiffeId: `spiffe://example.org/${id}`,
    namespace: 'shop',
    podName: `pod-${id}`,
    issued: null,
    report: null,
    connected: false,
    lastSeenMs: 1_000,
    pod: 'unknown',
    unheardUntilMs: 0,
    ...change,
  };
}

/** A report of an agent that holds an SVID of `authorityKeyId` until `notAfterMs`. */
export function reported(
  bundleSequence: number,
  authorityKeyId = 'aa',
  notAfterMs = 100_000,
  feeds: ReportedState['feeds'] = [],
): ReportedState {
  const svid = { serialNumber: '', authorityKeyId, notAfterMs };
  return { agentVersion: '', bundleSequence, svid, clockSkewMs: null, feeds };
}

/** A pod that runs with an agent. */
export function workloadPod(uid: string, change: Partial<WorkloadPod> = {}): WorkloadPod {
  return {
    uid,
    namespace: 'shop',
    name: `pod-${uid}`,
    serviceAccount: 'cart',
    stage: 'running',
    deleting: false,
    ...change,
  };
}
