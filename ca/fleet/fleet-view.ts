import type { FleetInstance } from './instance.ts';

/**
 * Who is live, and what each instance holds, as far as this replica can know at this moment.
 *
 * Two make it: `Fleet` alone, which knows what was issued by and reported to this process; and `ClusterFleet`, which
 * joins that with the pods of the cluster and with what agents reported to other replicas.
 */
export interface FleetView {
  /** Every instance that is known of, in no particular order. Cheap enough to be asked at each look. */
  instances(): readonly FleetInstance[];

  /**
   * Whether all that can be known is known: false after the start, until pods and reports of other replicas were
   * read, and while reading them fails. Whoever is missing then proves nothing.
   */
  readonly complete: boolean;

  /** What is not known while it is not complete, in words; else empty. */
  readonly unknown: string;
}
