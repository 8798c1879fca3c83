import { ERROR_TABLE } from '../../pki/error-table.ts';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import {
  type ConsumerReport,
  Evidence,
  type FeedReport,
  type Held,
  type HeldSvid,
  type Report,
} from '../../proto/gen/kedge/v1/identity.ts';

/** What an agent says it holds, checked. Plain data. */
export interface ReportedState {
  readonly agentVersion: string;
  /** Newest bundle that every feed acknowledged; 0 = none yet. */
  readonly bundleSequence: number;
  /** The SVID that every feed acknowledged; null = none. */
  readonly svid: ReportedSvid | null;
  /** The agent's clock minus the CA's, milliseconds; null = not measured. */
  readonly clockSkewMs: number | null;
  readonly feeds: readonly ReportedFeed[];
}

/** One SVID as an agent names it. */
export interface ReportedSvid {
  /** Big endian, lower-case hex. */
  readonly serialNumber: string;
  /** The issuer: subject key identifier, lower-case hex. */
  readonly authorityKeyId: string;
  /** Milliseconds since the Unix epoch. */
  readonly notAfterMs: number;
}

/** What every consumer of one feed of an agent holds, each at the strongest grade that it can give. */
export interface ReportedFeed {
  readonly name: string;
  readonly evidence: Evidence;
  readonly bundleSequence: number;
  /** Lower-case hex; empty = none. */
  readonly svidSerialNumber: string;
  /** Kedge's error code; empty = the newest publication succeeded, and no consumer refused it. */
  readonly errorCode: string;
  /** Those that are furthest behind. */
  readonly consumers: readonly ReportedConsumer[];
  readonly consumerCount: number;
}

/** What one consumer of a feed holds: one Envoy, one HAProxy, one stream, one hook. */
export interface ReportedConsumer {
  readonly name: string;
  /** The strongest grade that it can give. */
  readonly best: Evidence;
  /** The newest of each grade; null = none. */
  readonly delivered: ReportedHeld | null;
  readonly loaded: ReportedHeld | null;
  readonly proven: ReportedHeld | null;
  /** Kedge's error code; empty = it has taken the newest, or has not answered yet. */
  readonly errorCode: string;
}

/** A snapshot as an agent names it. */
export interface ReportedHeld {
  readonly bundleSequence: number;
  /** Lower-case hex. */
  readonly svidSerialNumber: string;
}

/** RFC 5280 section 4.1.2.2: a serial number has at most 20 octets. */
const SERIAL_BYTES = 20;
const KEY_ID_BYTES = 64;
const NAME_CHARS = 64;
/** A clock that is further off than this, 10 years, is not a measurement. */
const SKEW_CAP_MS = 10 * 365 * 86_400_000;
/** Year 9999, the last that a certificate can name. */
const TIME_CAP_MS = 253_402_300_799_000;

/**
 * Reads a report strictly. Throws `report_invalid`, naming the field: what an agent says of itself opens gates of
 * the rotation, so that nothing in it is guessed or corrected.
 */
export function readReport(report: Report): ReportedState {
  const { agentVersion, bundleSequence, svid, clockSkewMs, feeds } = report;
  if (!/^[\x21-\x7e]{0,64}$/.test(agentVersion))
    throw invalid('agent_version', 'is not up to 64 printable characters');
  if (feeds.length > LIMITS.reportFeeds) {
    throw invalid('feeds', `has ${feeds.length} entries, over the limit of ${LIMITS.reportFeeds}`);
  }
  const names = new Set(feeds.map(({ name }) => name));
  if (names.size !== feeds.length) throw invalid('feeds', 'names a feed twice');
  return {
    agentVersion,
    bundleSequence: integer('bundle_sequence', bundleSequence, 0, Number.MAX_SAFE_INTEGER),
    svid: svid === undefined ? null : readHeldSvid(svid),
    clockSkewMs:
      clockSkewMs === undefined ? null : integer('clock_skew_ms', clockSkewMs, -SKEW_CAP_MS, SKEW_CAP_MS),
    feeds: feeds.map(readFeed),
  };
}

function readHeldSvid(svid: HeldSvid): ReportedSvid {
  return {
    serialNumber: hex('svid.serial_number', svid.serialNumber, 1, SERIAL_BYTES),
    authorityKeyId: hex('svid.authority_key_id', svid.authorityKeyId, 1, KEY_ID_BYTES),
    notAfterMs: integer('svid.not_after_ms', svid.notAfterMs, 1, TIME_CAP_MS),
  };
}

function readFeed(feed: FeedReport): ReportedFeed {
  const { name, evidence, bundleSequence, svidSerialNumber, errorCode } = feed;
  if (!/^[a-z0-9][a-z0-9._-]*$/.test(name) || name.length > NAME_CHARS) {
    throw invalid(
      'feeds.name',
      `${quote(name)} is not a name of up to 64 lower-case letters, digits, '.', '_', '-'`,
    );
  }
  checkErrorCode('feeds.error_code', errorCode);
  if (feed.consumers.length > LIMITS.reportConsumers) {
    throw invalid(
      'feeds.consumers',
      `has ${feed.consumers.length} entries, over the limit of ${LIMITS.reportConsumers}`,
    );
  }
  return {
    name,
    evidence: readEvidence('feeds.evidence', evidence),
    bundleSequence: integer('feeds.bundle_sequence', bundleSequence, 0, Number.MAX_SAFE_INTEGER),
    svidSerialNumber: hex('feeds.svid_serial_number', svidSerialNumber, 0, SERIAL_BYTES),
    errorCode,
    consumers: feed.consumers.map(readConsumer),
    consumerCount: feed.consumerCount,
  };
}

function readConsumer({
  name,
  best,
  delivered,
  loaded,
  proven,
  errorCode,
}: ConsumerReport): ReportedConsumer {
  if (!/^[\x21-\x7e]{1,64}$/.test(name)) {
    throw invalid('feeds.consumers.name', 'is not 1 to 64 printable ASCII characters');
  }
  checkErrorCode('feeds.consumers.error_code', errorCode);
  return {
    name,
    best: readEvidence('feeds.consumers.best', best),
    delivered: readHeld(delivered),
    loaded: readHeld(loaded),
    proven: readHeld(proven),
    errorCode,
  };
}

function readHeld(held: Held | undefined): ReportedHeld | null {
  if (held === undefined) return null;
  const { bundleSequence, svidSerialNumber } = held;
  return {
    bundleSequence: integer('feeds.consumers.bundle_sequence', bundleSequence, 0, Number.MAX_SAFE_INTEGER),
    svidSerialNumber: hex('feeds.consumers.svid_serial_number', svidSerialNumber, 1, SERIAL_BYTES),
  };
}

function readEvidence(field: string, evidence: Evidence): Evidence {
  if (!(evidence >= Evidence.EVIDENCE_UNSPECIFIED && evidence <= Evidence.EVIDENCE_PROVEN)) {
    throw invalid(field, `${evidence} is not a grade of evidence`);
  }
  return evidence;
}

function checkErrorCode(field: string, errorCode: string): void {
  if (errorCode !== '' && !Object.hasOwn(ERROR_TABLE, errorCode)) {
    throw invalid(field, `${quote(errorCode)} is not an error code of Kedge`);
  }
}

function integer(field: string, value: bigint, min: number, max: number): number {
  if (value < BigInt(min) || value > BigInt(max)) {
    throw invalid(field, `${value} is not within ${min} and ${max}`);
  }
  return Number(value);
}

function hex(field: string, bytes: Uint8Array, min: number, max: number): string {
  if (bytes.length < min || bytes.length > max) {
    throw invalid(field, `has ${bytes.length} bytes, not ${min} to ${max}`);
  }
  return Buffer.from(bytes).toString('hex');
}

function invalid(field: string, problem: string): KedgeError {
  return new KedgeError('report_invalid', `the report's ${field} ${problem}`, {
    hint: 'run an agent of the same version as the CA, or of the one before',
  });
}
