import type { Coverage, LiveInstance } from '../authority/coverage.ts';
import { type FleetInstance, isLive } from './instance.ts';

/**
 * What the live instances provably hold, for the lifecycle. Pure.
 *
 * Only what an agent reported counts as held: an SVID that was issued may never have arrived. An instance that was
 * issued one and has not reported is live, and holds nothing.
 */
export function coverageOf(instances: readonly FleetInstance[], nowMs: number): Coverage {
  return {
    instances: instances
      .filter((instance) => isLive(instance, nowMs))
      .map((instance) => liveInstance(instance, nowMs)),
  };
}

function liveInstance({ id, report }: FleetInstance, nowMs: number): LiveInstance {
  const svid = report?.svid ?? null;
  const held = svid !== null && svid.notAfterMs > nowMs ? svid : null;
  return {
    id,
    bundleSequence: report?.bundleSequence ?? 0,
    authorityKeyId: held?.authorityKeyId ?? null,
    svidNotAfterMs: held?.notAfterMs ?? 0,
  };
}

/** What every live instance is to hold. */
export interface CoverageGoal {
  /** At least this bundle. */
  readonly bundleSequence: number;
  /** An SVID under this issuer: subject key identifier, lower-case hex; null = any. */
  readonly authorityKeyId: string | null;
}

/** The live instances that do not hold it yet. Pure. */
export function stragglersOf(coverage: Coverage, goal: CoverageGoal): readonly LiveInstance[] {
  return coverage.instances.filter(
    ({ bundleSequence, authorityKeyId }) =>
      bundleSequence < goal.bundleSequence ||
      (goal.authorityKeyId !== null && authorityKeyId !== goal.authorityKeyId),
  );
}
