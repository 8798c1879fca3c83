import type { Phase } from '../authority/trust-state.ts';
import type { FleetInstance } from './instance.ts';
import type { ReportedState, ReportedSvid } from './reported-state.ts';

/** What a report is held against: the part of the trust state that says what there can be. */
export interface KnownTrust {
  /** The newest bundle that was published. */
  readonly sequence: number;
  readonly issuers: readonly {
    /** Subject key identifier, lower-case hex. */
    readonly id: string;
    readonly phase: Phase;
    /** Milliseconds since the Unix epoch. */
    readonly notAfterMs: number;
  }[];
}

/**
 * Stands for what a replica gives its agents: the bundle, and the issuer that signs. Two replicas with the same mark
 * give the same. Pure; null while no trust state was read.
 */
export function trustMark(trust: KnownTrust | null): string | null {
  if (trust === null) return null;
  const signing = trust.issuers.filter(({ phase }) => phase === 'active').map(({ id }) => id);
  return [trust.sequence, ...signing].join(' ');
}

/**
 * An instance with its report as it counts: what cannot be true counts as not held. `trust` is null while no trust
 * state was read: then nothing counts. Pure; gives the same object where all of it counts.
 *
 * An agent proves who it is, not that what it says of its SVID is so. Believed as it is, one report of an SVID until
 * the year 9999 would make its instance live for ever: it would hold up every gate, and a full fleet would forget
 * honest instances before it. So
 *  - an SVID counts only under an issuer of the trust state, and no longer than that issuer is valid: no SVID outlives
 *    its issuer. An issuer that was removed has no live SVIDs: the lifecycle waits for their end;
 *  - a bundle counts only once it was published.
 *
 * This is decided when the fleet is looked at, not when a report comes, and no report is refused for it: another
 * replica may have activated an issuer that this one has not read yet, and an agent reports again only when what it
 * holds has changed. What does not count yet counts from the moment on at which the state is read. Meanwhile nothing
 * can be decided that rests on it: a replica that is behind loses the swap, and reads the state before it tries again.
 */
export function countedInstance(instance: FleetInstance, trust: KnownTrust | null): FleetInstance {
  if (instance.report === null) return instance;
  const report = countedReport(instance.report, trust);
  return report === instance.report ? instance : { ...instance, report };
}

function countedReport(report: ReportedState, trust: KnownTrust | null): ReportedState {
  const svid = report.svid === null ? null : countedSvid(report.svid, trust);
  const bundleSequence = report.bundleSequence <= (trust?.sequence ?? 0) ? report.bundleSequence : 0;
  return svid === report.svid && bundleSequence === report.bundleSequence
    ? report
    : { ...report, svid, bundleSequence };
}

function countedSvid(svid: ReportedSvid, trust: KnownTrust | null): ReportedSvid | null {
  const issuer = trust?.issuers.find(({ id }) => id === svid.authorityKeyId);
  if (issuer === undefined) return null;
  return svid.notAfterMs <= issuer.notAfterMs ? svid : { ...svid, notAfterMs: issuer.notAfterMs };
}
