import { Evidence as WireEvidence, type Report } from '../proto/gen/kedge/v1/identity.ts';
import type { Evidence } from './feed/feed.ts';
import type { FeedStatus } from './publisher.ts';
import type { IdentitySnapshot } from './snapshot.ts';

const EVIDENCE_ON_THE_WIRE: Readonly<Record<Evidence, WireEvidence>> = {
  delivered: WireEvidence.EVIDENCE_DELIVERED,
  loaded: WireEvidence.EVIDENCE_LOADED,
  proven: WireEvidence.EVIDENCE_PROVEN,
};

/** What a {@link Report} is made from. */
export interface ReportSource {
  readonly agentVersion: string;
  readonly feeds: readonly FeedStatus[];
  /** This clock minus the CA's, milliseconds; null = not measured. */
  readonly clockSkewMs: number | null;
}

/**
 * What the agent provably holds: the oldest snapshot that any of its feeds still has in place. A feed without any
 * makes it nothing, whatever the others have.
 */
export function buildReport({ agentVersion, feeds, clockSkewMs }: ReportSource): Report {
  const oldest = oldestInPlace(feeds);
  return {
    agentVersion,
    bundleSequence: oldest?.bundle.sequence ?? 0n,
    svid:
      oldest === null
        ? undefined
        : {
            serialNumber: oldest.svid.serialNumber,
            authorityKeyId: oldest.svid.authorityKeyId,
            notAfterMs: BigInt(oldest.svid.notAfterMs),
          },
    ...(clockSkewMs === null ? {} : { clockSkewMs: BigInt(Math.round(clockSkewMs)) }),
    feeds: feeds.map(({ name, inPlace, evidence, errorCode }) => ({
      name,
      evidence: evidence === null ? WireEvidence.EVIDENCE_UNSPECIFIED : EVIDENCE_ON_THE_WIRE[evidence],
      bundleSequence: inPlace?.bundle.sequence ?? 0n,
      svidSerialNumber: inPlace?.svid.serialNumber ?? new Uint8Array(0),
      errorCode: errorCode ?? '',
    })),
  };
}

/** The oldest snapshot that a feed has in place; null when one of them has none. */
export function oldestInPlace(feeds: readonly FeedStatus[]): IdentitySnapshot | null {
  let oldest: IdentitySnapshot | null = null;
  for (const { inPlace } of feeds) {
    if (inPlace === null) return null;
    if (oldest === null || inPlace.generation < oldest.generation) oldest = inPlace;
  }
  return oldest;
}
