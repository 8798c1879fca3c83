import {
  type ConsumerReport,
  Evidence as WireEvidence,
  type FeedReport,
  type Held,
  type Report,
} from '../proto/gen/kedge/v1/identity.ts';
import { LIMITS } from '../pki/limits.ts';
import { canaryErrorCode, type CanaryResult } from './canary.ts';
import {
  failureOfFeed,
  type FeedStatus,
  gradeOfFeed,
  heldByAll,
  heldByFeed,
  worstFirst,
} from './evidence.ts';
import type { ConsumerStatus, Evidence } from './feed/feed.ts';
import type { HeldSnapshot } from './snapshot.ts';

const EVIDENCE_ON_THE_WIRE: Readonly<Record<Evidence, WireEvidence>> = {
  delivered: WireEvidence.EVIDENCE_DELIVERED,
  loaded: WireEvidence.EVIDENCE_LOADED,
  proven: WireEvidence.EVIDENCE_PROVEN,
};

/** The name of the canary among the feeds of a report. */
const CANARY_NAME = 'canary';

/** What a {@link Report} is made from. */
export interface ReportSource {
  readonly agentVersion: string;
  readonly feeds: readonly FeedStatus[];
  /** This clock minus the CA's, milliseconds; null = not measured. */
  readonly clockSkewMs: number | null;
  /** What the canary saw last; null = nothing, or there is no canary. */
  readonly canaryResult: CanaryResult | null;
}

/**
 * What the agent provably holds: the oldest snapshot that a consumer of any of its feeds may still use, and of each
 * feed the consumers that are furthest behind. A feed of which nothing is proven makes it nothing, whatever the others
 * have.
 */
export function buildReport({ agentVersion, feeds, clockSkewMs, canaryResult }: ReportSource): Report {
  const held = heldByAll(feeds);
  return {
    agentVersion,
    bundleSequence: held?.bundleSequence ?? 0n,
    svid:
      held === null
        ? undefined
        : {
            serialNumber: held.serialNumber,
            authorityKeyId: held.authorityKeyId,
            notAfterMs: BigInt(held.notAfterMs),
          },
    ...(clockSkewMs === null ? {} : { clockSkewMs: BigInt(Math.round(clockSkewMs)) }),
    feeds: [
      ...feeds.map((feed) => feedReport(feed, LIMITS.reportConsumers)),
      ...(canaryResult === null ? [] : [canaryReport(canaryResult)]),
    ],
  };
}

/** One feed, and of its consumers at most `limit`: those that are furthest behind. */
export function feedReport(feed: FeedStatus, limit: number): FeedReport {
  const held = heldByFeed(feed);
  const grade = held === null ? null : gradeOfFeed(feed);
  return {
    name: feed.name,
    evidence: grade === null ? WireEvidence.EVIDENCE_UNSPECIFIED : EVIDENCE_ON_THE_WIRE[grade],
    bundleSequence: held?.bundleSequence ?? 0n,
    svidSerialNumber: held?.serialNumber ?? new Uint8Array(0),
    errorCode: failureOfFeed(feed) ?? '',
    consumers: worstFirst(feed.consumers).slice(0, limit).map(consumerReport),
    consumerCount: feed.consumers.length,
  };
}

/**
 * The canary as a feed of its own with one consumer: what it dials is a proxy, and which feed that reads is not for the
 * agent to guess. It counts for nothing in what the agent holds as a whole.
 */
function canaryReport(result: CanaryResult): FeedReport {
  const { proven } = result;
  const errorCode = canaryErrorCode(result) ?? '';
  return {
    name: CANARY_NAME,
    evidence: proven === null ? WireEvidence.EVIDENCE_UNSPECIFIED : WireEvidence.EVIDENCE_PROVEN,
    bundleSequence: proven?.bundleSequence ?? 0n,
    svidSerialNumber: proven?.serialNumber ?? new Uint8Array(0),
    errorCode,
    consumers: [
      {
        name: 'proxy',
        best: WireEvidence.EVIDENCE_PROVEN,
        delivered: undefined,
        loaded: undefined,
        proven: heldMessage(proven),
        errorCode,
      },
    ],
    consumerCount: 1,
  };
}

function consumerReport({ name, best, delivered, loaded, errorCode }: ConsumerStatus): ConsumerReport {
  return {
    name,
    best: EVIDENCE_ON_THE_WIRE[best],
    delivered: heldMessage(delivered),
    loaded: heldMessage(loaded),
    proven: undefined,
    errorCode: errorCode ?? '',
  };
}

function heldMessage(held: HeldSnapshot | null): Held | undefined {
  if (held === null) return undefined;
  return { bundleSequence: held.bundleSequence, svidSerialNumber: held.serialNumber };
}
