import type { Clock } from '../../host/clock.ts';
import { KEDGE_VERSION } from '../../host/version.ts';
import type { ReportedConsumer, ReportedHeld, ReportedState } from '../fleet/reported-state.ts';
import {
  type AuditStatus,
  type AuthorityStatus,
  GetStatusResponse,
  type InstanceStatus,
  type PolicyStatus,
  type StoreStatus,
} from '../../proto/gen/kedge/v1/admin.ts';
import {
  type ConsumerReport,
  type Held,
  type Report,
  TrustBundle,
} from '../../proto/gen/kedge/v1/identity.ts';
import type { Coverage } from '../authority/coverage.ts';
import type { Authority, TrustState } from '../authority/trust-state.ts';
import { coverageOf } from '../fleet/fleet-coverage.ts';
import { type FleetInstance, isLive } from '../fleet/instance.ts';
import type { CurrentBundle } from './bundle-message.ts';
import type { UnaryMethod } from './unary-method.ts';

/** What the status is read from, at the moment that it is asked for. */
export interface StatusSources {
  readonly trustState: () => TrustState;
  readonly instances: () => readonly FleetInstance[];
  readonly policy: () => PolicyStatus;
  readonly audit: () => AuditStatus;
  readonly store: () => StoreStatus;
  /** Whether all instances that there are can be known. */
  readonly fleetComplete: () => boolean;
  /** What the lifecycle does next, or what is wrong. */
  readonly lifecycle: () => string;
  readonly clock: Clock;
  /** Milliseconds since the Unix epoch. */
  readonly startedAtMs: number;
}

/** Instances that one answer lists; those that lag behind come first. */
export const STATUS_INSTANCES = 10_000;

/** `kedge.v1.Admin/GetBundle`. */
export function getBundle(bundle: CurrentBundle): UnaryMethod {
  return () => TrustBundle.encode(bundle.get().bundle).finish();
}

/** `kedge.v1.Admin/GetStatus`. */
export function getStatus(sources: StatusSources): UnaryMethod {
  return () => GetStatusResponse.encode(statusOf(sources)).finish();
}

function statusOf(sources: StatusSources): GetStatusResponse {
  const nowMs = sources.clock.now();
  const state = sources.trustState();
  const all = sources.instances();
  const coverage = coverageOf(all, nowMs);
  const listed = all.filter(
    (instance) => instance.pod !== 'gone' && (instance.connected || isLive(instance, nowMs)),
  );
  return {
    version: KEDGE_VERSION,
    trustDomain: state.trustDomain,
    bundleSequence: BigInt(state.sequence),
    serverTimeMs: BigInt(nowMs),
    startedAtMs: BigInt(sources.startedAtMs),
    anchors: state.anchors.map((anchor) => ({
      ...authorityStatus(anchor),
      upstream: anchor.upstream,
      instances: coverage.instances.filter(({ bundleSequence }) => bundleSequence >= anchor.sinceSequence)
        .length,
    })),
    issuers: state.issuers.map((issuer) => ({
      ...authorityStatus(issuer),
      anchorId: issuer.anchorId,
      instances: holders(coverage, issuer.id),
    })),
    instances: laggardsFirst(listed, state.sequence).slice(0, STATUS_INSTANCES).map(instanceStatus),
    policy: sources.policy(),
    audit: sources.audit(),
    lifecycle: sources.lifecycle(),
    store: sources.store(),
    fleet: {
      complete: sources.fleetComplete(),
      unheard: listed.filter(({ unheardUntilMs }) => unheardUntilMs > nowMs).length,
    },
  };
}

function authorityStatus(authority: Authority): AuthorityStatus {
  return {
    id: authority.id,
    phase: authority.phase,
    tainted: authority.taintedAtMs !== null,
    notBeforeMs: BigInt(authority.notBeforeMs),
    notAfterMs: BigInt(authority.notAfterMs),
    anchorId: '',
    upstream: '',
    instances: 0,
  };
}

function holders(coverage: Coverage, issuerId: string): number {
  return coverage.instances.filter(({ authorityKeyId }) => authorityKeyId === issuerId).length;
}

function laggardsFirst(instances: readonly FleetInstance[], sequence: number): readonly FleetInstance[] {
  const follows = (instance: FleetInstance): number =>
    Number(instance.connected && (instance.report?.bundleSequence ?? 0) >= sequence);
  return instances.toSorted((a, b) => follows(a) - follows(b));
}

function instanceStatus(instance: FleetInstance): InstanceStatus {
  return {
    id: instance.id,
    spiffeId: instance.spiffeId,
    namespace: instance.namespace,
    podName: instance.podName,
    connected: instance.connected,
    lastSeenMs: BigInt(instance.lastSeenMs),
    report: instance.report === null ? undefined : reportMessage(instance.report),
  };
}

function reportMessage(state: ReportedState): Report {
  const { agentVersion, bundleSequence, svid, clockSkewMs, feeds } = state;
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
    feeds: feeds.map((feed) => ({
      name: feed.name,
      evidence: feed.evidence,
      bundleSequence: BigInt(feed.bundleSequence),
      svidSerialNumber: Buffer.from(feed.svidSerialNumber, 'hex'),
      errorCode: feed.errorCode,
      consumers: feed.consumers.map(consumerMessage),
      consumerCount: feed.consumerCount,
    })),
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
