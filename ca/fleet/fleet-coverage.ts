import type { Coverage, LiveInstance } from '../authority/coverage.ts';
import { Evidence } from '../../proto/gen/kedge/v1/identity.ts';
import type { FleetView } from './fleet-view.ts';
import { type FleetInstance, isLive } from './instance.ts';
import type { ReportedState } from './reported-state.ts';

/**
 * What the live instances provably hold, for the lifecycle. Pure.
 *
 * Only what an agent reported counts as held: an SVID that was issued may never have arrived. An instance that was
 * issued one and has not reported is live, and holds nothing.
 */
export function coverageOf(instances: readonly FleetInstance[], nowMs: number): Pick<Coverage, 'instances'> {
  return {
    instances: instances
      .filter((instance) => isLive(instance, nowMs))
      .map((instance) => liveInstance(instance, nowMs)),
  };
}

/** The same of all that is known, and whether that is everybody: what gates of a rotation open on. */
export function fleetCoverage(fleet: FleetView, nowMs: number): Coverage {
  // In this order: who is read before something goes missing is still there.
  const { complete, unknown } = fleet;
  return { ...coverageOf(fleet.instances(), nowMs), complete, unknown };
}

function liveInstance(instance: FleetInstance, nowMs: number): LiveInstance {
  const { id, namespace, podName, report, issued } = instance;
  const svid = report?.svid ?? null;
  const held = svid !== null && svid.notAfterMs > nowMs ? svid : null;
  return {
    id,
    name: podName === '' ? id : `${namespace}/${podName}`,
    bundleSequence: report?.bundleSequence ?? 0,
    authorityKeyId: held?.authorityKeyId ?? null,
    svidNotAfterMs: held?.notAfterMs ?? 0,
    confirmed: issued === null || issued.notAfterMs <= (report?.svid?.notAfterMs ?? 0),
    proven: report !== null && isProven(report),
  };
}

/**
 * Whether what a report says is held was shown by a handshake at every consumer: each feed takes its consumers at the
 * strongest grade that each can give, and names the weakest of those grades. A feed without consumers serves nobody.
 */
function isProven({ feeds }: ReportedState): boolean {
  const serving = feeds.filter(({ consumerCount }) => consumerCount > 0);
  return serving.length > 0 && serving.every(({ evidence }) => evidence === Evidence.EVIDENCE_PROVEN);
}

/** What every live instance is to hold. */
export interface CoverageGoal {
  /** At least this bundle. */
  readonly bundleSequence: number;
  /** An SVID under this issuer: subject key identifier, lower-case hex; null = any. */
  readonly authorityKeyId: string | null;
}

/** The live instances that do not hold it yet. Pure. */
export function stragglersOf(
  coverage: Pick<Coverage, 'instances'>,
  goal: CoverageGoal,
): readonly LiveInstance[] {
  return coverage.instances.filter(
    ({ bundleSequence, authorityKeyId }) =>
      bundleSequence < goal.bundleSequence ||
      (goal.authorityKeyId !== null && authorityKeyId !== goal.authorityKeyId),
  );
}
