import type { Clock } from '../../host/clock.ts';
import { KEDGE_VERSION } from '../../host/version.ts';
import {
  type AuditStatus,
  type AuthorityStatus,
  GetStatusResponse,
  type PolicyStatus,
  type StoreStatus,
} from '../../proto/gen/kedge/v1/admin.ts';
import { TrustBundle } from '../../proto/gen/kedge/v1/identity.ts';
import type { Coverage } from '../authority/coverage.ts';
import type { Authority, TrustState } from '../authority/trust-state.ts';
import { coverageOf } from '../fleet/fleet-coverage.ts';
import { type FleetInstance, isLive } from '../fleet/instance.ts';
import type { CurrentBundle } from './bundle-message.ts';
import { type ListedInstances, listInstances } from './instance-status.ts';
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

/** `kedge.v1.Admin/GetBundle`. */
export function getBundle(bundle: CurrentBundle): UnaryMethod {
  return () => TrustBundle.encode(bundle.get().bundle).finish();
}

/** `kedge.v1.Admin/GetStatus`. */
export function getStatus(sources: StatusSources): UnaryMethod {
  return async () => {
    const nowMs = sources.clock.now();
    const state = sources.trustState();
    const all = sources.instances();
    const counted = all.filter(
      (instance) => instance.pod !== 'gone' && (instance.connected || isLive(instance, nowMs)),
    );
    const listed = await listInstances(counted, state, nowMs);
    const unheard = counted.filter(({ unheardUntilMs }) => unheardUntilMs > nowMs).length;
    const message = statusOf(sources, state, coverageOf(all, nowMs), listed, unheard, nowMs);
    return Buffer.concat([GetStatusResponse.encode(message).finish(), ...listed.fields]);
  };
}

/** All but the list of the instances. */
function statusOf(
  sources: StatusSources,
  state: TrustState,
  coverage: Pick<Coverage, 'instances'>,
  { count, behind }: ListedInstances,
  unheard: number,
  nowMs: number,
): GetStatusResponse {
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
    instances: [],
    policy: sources.policy(),
    audit: sources.audit(),
    lifecycle: sources.lifecycle(),
    store: sources.store(),
    fleet: {
      complete: sources.fleetComplete(),
      unheard,
      instances: count,
      behind,
    },
  };
}

/** What operators are told of an authority, but for who holds it. */
export function authorityStatus(authority: Authority): AuthorityStatus {
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

function holders(coverage: Pick<Coverage, 'instances'>, issuerId: string): number {
  return coverage.instances.filter(({ authorityKeyId }) => authorityKeyId === issuerId).length;
}
