import { createHash } from 'node:crypto';
import { gunzipSync, gzipSync } from 'node:zlib';
import { ERROR_TABLE } from '../../pki/error-table.ts';
import { KedgeError } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import { Evidence } from '../../proto/gen/kedge/v1/identity.ts';
import type { FleetInstance } from './instance.ts';
import type { ReportedFeed } from './reported-state.ts';

/** What one CA replica tells the others of the instances that it knows. */
export interface ReplicaReport {
  readonly replica: string;
  /** Milliseconds since the Unix epoch. */
  readonly writtenAtMs: number;
  /** What it gives its agents: see `trustMark`. Null where it has no trust state, or is too old to say. */
  readonly trust: string | null;
  /** Whether it has stopped: it gives agents nothing any more. */
  readonly ended: boolean;
  /**
   * What the gates of a rotation need of each, and the feeds that fail. Without the rest: serial numbers, the agent's
   * version and clock, what each consumer holds.
   */
  readonly instances: readonly FleetInstance[];
}

const SCHEMA = 1;

/** One SVID: index of its issuer in `authorities`, and when it ends, seconds since the Unix epoch. */
type SvidRow = readonly [authority: number, notAfterSeconds: number];

/** One instance. Arrays, because there are tens of thousands. */
type InstanceRow = readonly [
  cluster: number,
  id: string,
  connected: 0 | 1,
  lastSeenSeconds: number,
  issued: SvidRow | 0,
  /** Sequence, SVID, failing feeds (name, error code). */
  report: readonly [number, SvidRow | 0, readonly (readonly [string, string])[]] | 0,
  /** SPIFFE ID, namespace, pod name: for those that the readers cannot know by their pods. */
  names: readonly [string, string, string] | 0,
];

interface ReportDocument {
  readonly schema: number;
  readonly replica: string;
  readonly writtenAtMs: number;
  /** These two are missing in what a replica of an earlier version wrote. */
  readonly trust?: string | null;
  readonly ended?: boolean;
  readonly authorities: readonly string[];
  readonly clusters: readonly string[];
  readonly instances: readonly InstanceRow[];
}

/**
 * The report as bytes: JSON, compressed; about 30 bytes for each instance. `named` says whose names are told along.
 * Throws `message_too_large` over `LIMITS.fleetReportBytes`.
 */
export function encodeReplicaReport(
  report: ReplicaReport,
  named: (instance: FleetInstance) => boolean,
): Uint8Array {
  const authorities = new Map<string, number>();
  const clusters = new Map<string, number>();
  const svid = (held: { authorityKeyId: string; notAfterMs: number } | null): SvidRow | 0 =>
    held === null ? 0 : [indexOf(authorities, held.authorityKeyId), Math.floor(held.notAfterMs / 1_000)];
  const rows = report.instances.map((instance): InstanceRow => {
    const { cluster, id, connected, lastSeenMs, issued, report, spiffeId, namespace, podName } = instance;
    return [
      indexOf(clusters, cluster),
      id,
      connected ? 1 : 0,
      Math.floor(lastSeenMs / 1_000),
      svid(issued),
      report === null ? 0 : [report.bundleSequence, svid(report.svid), failingFeeds(report.feeds)],
      named(instance) ? [spiffeId, namespace, podName] : 0,
    ];
  });
  const document: ReportDocument = {
    schema: SCHEMA,
    replica: report.replica,
    writtenAtMs: Math.floor(report.writtenAtMs),
    trust: report.trust,
    ended: report.ended,
    authorities: [...authorities.keys()],
    clusters: [...clusters.keys()],
    instances: rows,
  };
  const bytes = gzipSync(JSON.stringify(document));
  if (bytes.length <= LIMITS.fleetReportBytes) return bytes;
  throw new KedgeError(
    'message_too_large',
    `the report of ${rows.length} instances has ${bytes.length} bytes, over the limit of ${LIMITS.fleetReportBytes}`,
    { hint: 'run more replicas of the CA, so that each serves fewer agents' },
  );
}

/** Reads a report of another replica strictly. Throws `fleet_report_invalid`. */
export function parseReplicaReport(bytes: Uint8Array): ReplicaReport {
  const document = parseDocument(bytes);
  const { replica, writtenAtMs, trust = null, ended = false, authorities, clusters, instances } = document;
  const seen = new Set<string>();
  return {
    replica,
    writtenAtMs,
    trust,
    ended,
    instances: instances.map((row) => {
      const instance = instanceOf(row, authorities, clusters);
      const key = `${instance.cluster}/${instance.id}`;
      if (seen.has(key)) throw invalid('names an instance twice');
      seen.add(key);
      return instance;
    }),
  };
}

/**
 * What of a report matters to a gate: two reports with the same key need not both be written. When instances were
 * heard of last, and when their SVIDs end, is not in it.
 */
export function materialKey({ trust, ended, instances }: ReplicaReport): string {
  const digest = createHash('sha256').update(`${trust}\0${ended}\n`);
  for (const { cluster, id, connected, issued, report } of instances) {
    const feeds = report === null ? '' : failingFeeds(report.feeds).join();
    digest.update(
      `${cluster}\0${id}\0${connected}\0${issued?.authorityKeyId}\0${report?.bundleSequence}\0${report?.svid?.authorityKeyId}\0${feeds}\n`,
    );
  }
  return digest.digest('base64');
}

function failingFeeds(feeds: readonly ReportedFeed[]): readonly (readonly [string, string])[] {
  return feeds.filter(({ errorCode }) => errorCode !== '').map(({ name, errorCode }) => [name, errorCode]);
}

function indexOf(table: Map<string, number>, value: string): number {
  const known = table.get(value);
  if (known !== undefined) return known;
  table.set(value, table.size);
  return table.size - 1;
}

function parseDocument(bytes: Uint8Array): ReportDocument {
  if (bytes.length > LIMITS.fleetReportBytes) throw invalid('is over its size limit');
  let value: unknown;
  try {
    value = JSON.parse(gunzipSync(bytes, { maxOutputLength: LIMITS.fleetReportJsonBytes }).toString('utf8'));
  } catch {
    // The messages of both would quote what is in it.
    throw invalid('is not compressed JSON, or is over its size limit');
  }
  const document = value as Partial<ReportDocument> | null;
  if (typeof document !== 'object' || document === null) throw invalid('is not an object');
  if (document.schema !== SCHEMA) throw invalid(`has not schema ${SCHEMA}`);
  const { replica, writtenAtMs, trust, ended, authorities, clusters, instances } = document;
  if (
    !isText(replica, 253) ||
    !isWhole(writtenAtMs) ||
    !(trust === undefined || trust === null || isText(trust, 1_024)) ||
    !(ended === undefined || typeof ended === 'boolean') ||
    !isListOf(authorities, (id): id is string => typeof id === 'string' && /^[0-9a-f]{2,128}$/.test(id)) ||
    !isListOf(clusters, (name): name is string => isText(name, 253)) ||
    !Array.isArray(instances) ||
    instances.length > LIMITS.fleetReportInstances
  ) {
    throw invalid('has a field of a wrong type, or too many instances');
  }
  return document as ReportDocument;
}

function instanceOf(
  row: unknown,
  authorities: readonly string[],
  clusters: readonly string[],
): FleetInstance {
  if (!Array.isArray(row)) throw invalid('has an instance that is not a list');
  const [cluster, id, connected, lastSeen, issued, report, names] = row as readonly unknown[];
  const [spiffeId, namespace, podName] = names === 0 ? ['', '', ''] : (listOf(names) as readonly string[]);
  const name = typeof cluster === 'number' ? clusters[cluster] : undefined;
  const known =
    name !== undefined &&
    isText(id, 128) &&
    (connected === 0 || connected === 1) &&
    isWhole(lastSeen) &&
    [spiffeId, namespace, podName].every(
      (text) => typeof text === 'string' && text.length <= LIMITS.spiffeIdBytes,
    );
  if (!known) throw invalid('has an instance with a field of a wrong type');
  const issuedSvid = svidOf(issued, authorities);
  return {
    id,
    cluster: name,
    spiffeId: spiffeId ?? '',
    namespace: namespace ?? '',
    podName: podName ?? '',
    connected: connected === 1,
    lastSeenMs: lastSeen * 1_000,
    issued: issuedSvid,
    report: reportOf(report, authorities),
    pod: 'unknown',
    unheardUntilMs: 0,
  };
}

function reportOf(report: unknown, authorities: readonly string[]): FleetInstance['report'] {
  if (report === 0) return null;
  const [bundleSequence, svid, failing] = listOf(report);
  if (!isWhole(bundleSequence)) throw invalid('has a bundle sequence that is not a number');
  const feeds = listOf(failing).map((feed): ReportedFeed => {
    const [name, errorCode] = listOf(feed);
    if (!isText(name, 64) || typeof errorCode !== 'string' || !Object.hasOwn(ERROR_TABLE, errorCode)) {
      throw invalid('has a feed of a wrong type');
    }
    return {
      name,
      errorCode,
      evidence: Evidence.EVIDENCE_UNSPECIFIED,
      bundleSequence: 0,
      svidSerialNumber: '',
      consumers: [],
      consumerCount: 0,
    };
  });
  if (feeds.length > LIMITS.reportFeeds) throw invalid('has too many feeds');
  return { agentVersion: '', bundleSequence, svid: svidOf(svid, authorities), clockSkewMs: null, feeds };
}

function svidOf(
  svid: unknown,
  authorities: readonly string[],
): { readonly serialNumber: string; readonly authorityKeyId: string; readonly notAfterMs: number } | null {
  if (svid === 0) return null;
  const [authority, notAfterSeconds] = listOf(svid);
  const authorityKeyId = typeof authority === 'number' ? authorities[authority] : undefined;
  if (authorityKeyId === undefined || !isWhole(notAfterSeconds)) throw invalid('has an SVID of a wrong type');
  return { serialNumber: '', authorityKeyId, notAfterMs: notAfterSeconds * 1_000 };
}

function listOf(value: unknown): readonly unknown[] {
  if (!Array.isArray(value)) throw invalid('has a field that is not a list');
  return value as readonly unknown[];
}

function isListOf<T>(value: unknown, isItem: (item: unknown) => item is T): value is readonly T[] {
  return Array.isArray(value) && value.length <= 1_000 && value.every(isItem);
}

function isText(value: unknown, maxChars: number): value is string {
  return typeof value === 'string' && value.length >= 1 && value.length <= maxChars;
}

/** Year 9999 in milliseconds bounds all of them. */
function isWhole(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= 253_402_300_799_000;
}

function invalid(problem: string): KedgeError {
  return new KedgeError('fleet_report_invalid', `the fleet report of another CA replica ${problem}`, {
    hint: 'it counts as missing: only CAs may write it; run replicas of the same version',
  });
}
