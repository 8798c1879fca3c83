/** Who runs where, as attestation proved it. */
export interface WorkloadInstance {
  /** Name of the attestor's cluster or issuer, as configured. */
  readonly cluster: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly podName: string;
  /** Pod UID: the workload instance. */
  readonly podUid: string;
  /** Undefined where the token does not say. */
  readonly nodeName: string | undefined;
  /** When the token expires, milliseconds since the Unix epoch. */
  readonly tokenExpiresAtMs: number;
}

/** What is known of the other side of the connection. Not trusted: for logs and rate limits only. */
export interface Peer {
  readonly address: string;
}

/**
 * Token → workload instance.
 *
 * Errors: `token_*`; `deadline_exceeded` or `overloaded` with retryAfterMs where whoever must be asked does not
 * answer. A refusal's message never holds the token. Concurrency: any; no lock is held over a remote call.
 */
export interface Attestor {
  /** `token` is the bearer token as it came, unchecked but for its size. */
  attest(token: string, peer: Peer, signal: AbortSignal): Promise<WorkloadInstance> | WorkloadInstance;
}
