import { setImmediate as nextTurn } from 'node:timers/promises';
import { GetStatusResponse, type InstanceStatus } from '../../proto/gen/kedge/v1/admin.ts';
import type { ConsumerReport, FeedReport, Held, Report } from '../../proto/gen/kedge/v1/identity.ts';
import type { TrustState } from '../authority/trust-state.ts';
import type { FleetInstance } from '../fleet/instance.ts';
import type { ReportedConsumer, ReportedFeed, ReportedHeld, ReportedState } from '../fleet/reported-state.ts';

/** The instances of one answer, and how many it is about. */
export interface ListedInstances {
  /** The field `instances` of the answer, encoded. */
  readonly fields: readonly Uint8Array[];
  /** How many there are. */
  readonly count: number;
  /** How many of them are behind. */
  readonly behind: number;
}

/** All that agents say in one answer, bytes; the rest of it is small, and the client takes `LIMITS.caMessageBytes`. */
export const STATUS_INSTANCES_BYTES = 6 * 1024 * 1024;
/** Consumers of one instance that an answer lists, of all its feeds together. */
const CONSUMERS = 8;
/** Instances that are encoded in one turn of the event loop. */
const SLICE = 128;

/**
 * Lists instances, those that are behind first, as many as fit into `maxBytes`; what is left out follows, or is behind
 * like all that is listed. Consumers are listed only of instances that are behind, and few of each: what agents say of
 * themselves is to crowd out nobody else. Works in slices, so that requests for SVIDs do not wait for it.
 */
export async function listInstances(
  instances: readonly FleetInstance[],
  state: Pick<TrustState, 'sequence' | 'issuers'>,
  nowMs: number,
  maxBytes = STATUS_INSTANCES_BYTES,
): Promise<ListedInstances> {
  const behind = instances.filter((instance) => isBehind(instance, state, nowMs));
  const isOneOfThem = new Set(behind);
  const rest = instances.filter((instance) => !isOneOfThem.has(instance));
  const fields: Uint8Array[] = [];
  let leftBytes = maxBytes;
  for (const instance of [...behind, ...rest]) {
    const field = encodeField(instanceStatus(instance, isOneOfThem.has(instance) ? CONSUMERS : 0));
    leftBytes -= field.length;
    if (leftBytes < 0) break;
    fields.push(field);
    if (fields.length % SLICE === 0) await nextTurn();
  }
  return { fields, count: instances.length, behind: behind.length };
}

/** Whether an instance does not have what the CA has published, or says that something of it fails. */
function isBehind(
  { connected, report }: FleetInstance,
  { sequence, issuers }: Pick<TrustState, 'sequence' | 'issuers'>,
  nowMs: number,
): boolean {
  const svid = report?.svid ?? null;
  if (!connected || report === null || svid === null) return true;
  if (report.bundleSequence < sequence || svid.notAfterMs <= nowMs) return true;
  const issuer = issuers.find(({ id }) => id === svid.authorityKeyId);
  if (issuer === undefined || issuer.taintedAtMs !== null || issuer.phase === 'retired') return true;
  return report.feeds.some(({ errorCode }) => errorCode !== '');
}

/** Fields of a message have no order, and one that stands alone is encoded like one among others. */
function encodeField(instance: InstanceStatus): Uint8Array {
  return GetStatusResponse.encode({ ...NOTHING, instances: [instance] }).finish();
}

const NOTHING: GetStatusResponse = GetStatusResponse.decode(new Uint8Array(0));

function instanceStatus(instance: FleetInstance, maxConsumers: number): InstanceStatus {
  return {
    id: instance.id,
    spiffeId: instance.spiffeId,
    namespace: instance.namespace,
    podName: instance.podName,
    connected: instance.connected,
    lastSeenMs: BigInt(instance.lastSeenMs),
    report: instance.report === null ? undefined : reportMessage(instance.report, maxConsumers),
  };
}

function reportMessage(state: ReportedState, maxConsumers: number): Report {
  const { agentVersion, bundleSequence, svid, clockSkewMs } = state;
  const feeds: FeedReport[] = [];
  let left = maxConsumers;
  for (const feed of state.feeds) {
    // Each feed has its worst first.
    const consumers = feed.consumers.slice(0, left);
    left -= consumers.length;
    feeds.push(feedMessage(feed, consumers));
  }
  return {
    agentVersion,
    bundleSequence: BigInt(bundleSequence),
    svid:
      svid === null
        ? undefined
        : {
            serialNumber: Buffer.from(svid.serialNumber, 'hex'),
            authorityKeyId: Buffer.from(svid.authorityKeyId, 'hex'),
            notAfterMs: BigInt(svid.notAfterMs),
          },
    clockSkewMs: clockSkewMs === null ? undefined : BigInt(clockSkewMs),
    feeds,
  };
}

function feedMessage(feed: ReportedFeed, consumers: readonly ReportedConsumer[]): FeedReport {
  return {
    name: feed.name,
    evidence: feed.evidence,
    bundleSequence: BigInt(feed.bundleSequence),
    svidSerialNumber: Buffer.from(feed.svidSerialNumber, 'hex'),
    errorCode: feed.errorCode,
    consumers: consumers.map(consumerMessage),
    consumerCount: feed.consumerCount,
  };
}

function consumerMessage(consumer: ReportedConsumer): ConsumerReport {
  const { name, best, errorCode } = consumer;
  const held = (state: ReportedHeld | null): Held | undefined =>
    state === null
      ? undefined
      : {
          bundleSequence: BigInt(state.bundleSequence),
          svidSerialNumber: Buffer.from(state.svidSerialNumber, 'hex'),
        };
  return {
    name,
    best,
    delivered: held(consumer.delivered),
    loaded: held(consumer.loaded),
    proven: held(consumer.proven),
    errorCode,
  };
}
