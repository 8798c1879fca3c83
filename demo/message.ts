/** What the demo's workloads tell the demo, over the IPC channel that Node gives a child process. */
export type WorkloadMessage =
  /** The echo server accepts connections. */
  | { readonly kind: 'listening'; readonly port: number }
  /** A new X.509-SVID is in use for new connections. */
  | { readonly kind: 'identity'; readonly identity: HeldIdentity }
  /** How the traffic goes; totals since the start. */
  | { readonly kind: 'traffic'; readonly traffic: Traffic }
  /** One request or connection failed. */
  | { readonly kind: 'failure'; readonly reason: string };

/** An X.509-SVID in words. */
export interface HeldIdentity {
  readonly spiffeId: string;
  /** Lower-case hex. */
  readonly serialNumber: string;
  /** Authority key identifier of the SVID: its issuer. Lower-case hex. */
  readonly issuerId: string;
  /** Milliseconds since the Unix epoch. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** Totals of one workload. */
export interface Traffic {
  readonly requests: number;
  /** Requests that had a TLS connection of their own. */
  readonly newConnections: number;
  readonly failures: number;
}

/** Sends a message to the demo; without one (a workload started by hand) it is dropped. */
export function tellDemo(message: WorkloadMessage): void {
  if (process.connected) process.send?.(message);
}

/** A message as it came, checked for its kind: both ends are of one build, so no more is needed. */
export function asWorkloadMessage(value: unknown): WorkloadMessage | undefined {
  const kinds: readonly unknown[] = ['listening', 'identity', 'traffic', 'failure'];
  const known = typeof value === 'object' && value !== null && 'kind' in value && kinds.includes(value.kind);
  return known ? (value as WorkloadMessage) : undefined;
}
