/** How a `kedge` upstream is configured. Paths are absolute. */
export interface KedgeUpstreamSettings {
  /** `host:port` of `downstream.address` of the CA above. */
  readonly address: string;
  /** PEM: an X.509-SVID of the CA above, leaf first; an agent of that CA keeps it fresh. */
  readonly certificateFile: string;
  readonly keyFile: string;
  /** PEM: the trust bundle of the CA above. */
  readonly bundleFile: string;
  /** How long the CA above may take to answer, milliseconds. */
  readonly timeoutMs: number;
  /** How often it is told what the fleet holds, and asked for its anchor, milliseconds. */
  readonly pollMs: number;
}

export const KEDGE_POLL_MS = 10_000;
export const KEDGE_TIMEOUT_MS = 10_000;
