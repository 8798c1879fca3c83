import type { ReportedState } from './reported-state.ts';

/** The newest SVID that this CA issued to an instance. */
export interface LatestSvid {
  /** Big endian, lower-case hex. */
  readonly serialNumber: string;
  /** The issuer: subject key identifier, lower-case hex. */
  readonly authorityKeyId: string;
  /** Milliseconds since the Unix epoch. */
  readonly notAfterMs: number;
}

/**
 * What is known of the pod of an instance: `unknown` where nothing but reports tells of it, `running` where the
 * cluster has it, `gone` where it was deleted or has ended.
 */
export type PodPresence = 'unknown' | 'running' | 'gone';

/** One workload instance, as the fleet knows it at one moment. Never mutated. */
export interface FleetInstance {
  /** Pod UID. */
  readonly id: string;
  readonly cluster: string;
  readonly spiffeId: string;
  readonly namespace: string;
  readonly podName: string;
  /** Null when the SVID that it holds is from before this CA process, or from another replica. */
  readonly issued: LatestSvid | null;
  /** What its agent said last; null while it has said nothing to this process. */
  readonly report: ReportedState | null;
  /** Whether its agent has a stream open. */
  readonly connected: boolean;
  /** When it was last heard of, milliseconds since the Unix epoch; 0 = never. */
  readonly lastSeenMs: number;
  readonly pod: PodPresence;
  /**
   * Until when it may hold an SVID that no report tells of, milliseconds since the Unix epoch: a pod that runs with an
   * agent and has said nothing. 0 = it holds what it says.
   */
  readonly unheardUntilMs: number;
}

/** When the last SVID ends that the instance may hold, milliseconds since the Unix epoch; 0 = it holds none. */
export function heldUntilMs(instance: FleetInstance): number {
  return Math.max(
    instance.issued?.notAfterMs ?? 0,
    instance.report?.svid?.notAfterMs ?? 0,
    instance.unheardUntilMs,
  );
}

/** Whether the instance counts: it may hold an SVID that has not expired, and is not known to be gone. */
export function isLive(instance: FleetInstance, nowMs: number): boolean {
  return instance.pod !== 'gone' && heldUntilMs(instance) > nowMs;
}
