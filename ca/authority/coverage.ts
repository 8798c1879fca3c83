/**
 * One live workload instance, as the fleet knows it. *Live* = it holds an unexpired SVID and is not known to be
 * gone.
 */
export interface LiveInstance {
  /** Pod UID. */
  readonly id: string;
  /** Sequence of the newest bundle that it acknowledged; 0 = none yet. */
  readonly bundleSequence: number;
  /** The issuer of the SVID that it holds: subject key identifier, lower-case hex. Null when it holds none yet. */
  readonly authorityKeyId: string | null;
  /** When that SVID ends, milliseconds since the Unix epoch. 0 when it holds none. */
  readonly svidNotAfterMs: number;
}

/**
 * What the fleet holds, at one moment. Never mutated.
 *
 * An instance that is missing here proves nothing: after a restart the CA knows only who has reported since. What
 * must be safe without knowing everyone (removing an issuer) therefore also waits out the longest SVID.
 */
export interface Coverage {
  readonly instances: readonly LiveInstance[];
}

/** The coverage of a fleet that nobody has reported to. */
export const NO_COVERAGE: Coverage = { instances: [] };
