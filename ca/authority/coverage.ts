/**
 * One live workload instance, as the fleet knows it. *Live* = it holds an unexpired SVID and is not known to be
 * gone.
 */
export interface LiveInstance {
  /** Pod UID. */
  readonly id: string;
  /** As people know it: `namespace/pod`; its id where no name is known. */
  readonly name: string;
  /** Sequence of the newest bundle that it acknowledged; 0 = none yet. */
  readonly bundleSequence: number;
  /** The issuer of the SVID that it holds: subject key identifier, lower-case hex. Null when it holds none yet. */
  readonly authorityKeyId: string | null;
  /** When that SVID ends, milliseconds since the Unix epoch. 0 when it holds none. */
  readonly svidNotAfterMs: number;
  /**
   * Whether it was issued nothing since the SVID that it holds. Otherwise what it reported is void until it reports
   * again: its agent may have begun anew, and hold what a replica that is behind gave it.
   */
  readonly confirmed: boolean;
  /** Whether what it holds was shown by handshakes against its proxies, each of them. */
  readonly proven: boolean;
}

/**
 * What the fleet holds, at one moment. Never mutated.
 *
 * An instance that is missing here proves nothing unless `complete`: after a restart the CA knows only who has
 * reported since. So no gate of a rotation opens on coverage that is not complete; and what must be safe without
 * knowing everyone (removing an issuer) waits out the longest SVID.
 */
export interface Coverage {
  readonly instances: readonly LiveInstance[];
  /** Whether everybody who may be live is among the instances. */
  readonly complete: boolean;
  /** Why not, in words; empty when it is. */
  readonly unknown: string;
}

/** The coverage of a fleet of which nothing is known. */
export const NO_COVERAGE: Coverage = { instances: [], complete: false, unknown: 'nothing was read yet' };
