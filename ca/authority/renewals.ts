import type { Coverage, LiveInstance } from './coverage.ts';
import type { TrustState } from './trust-state.ts';
import { activeIssuer } from './usable-authority.ts';

/** A workload instance that is to be asked for renewal. Times are milliseconds since the Unix epoch. */
export interface RenewalDue {
  /** Pod UID. */
  readonly instanceId: string;
  /** The issuer that its new SVID is to hang under: subject key identifier, lower-case hex. */
  readonly authorityKeyId: string;
  /** The agent draws one instant in this window. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

const SLOT_MS = 1_000;

/**
 * Which live instances are to renew, because the issuer of their SVID is retired or tainted, and when: nearest
 * expiry first, so many to each second that all of them together stay within `capacityPerSecond`.
 *
 * Pure. Empty while no issuer may sign: whoever is asked must be served. The windows are laid from `nowMs` on for
 * everybody who is due at this moment, so ask an instance once for each issuer, and again after it reconnects.
 */
export function renewalsDue(
  state: TrustState,
  coverage: Pick<Coverage, 'instances'>,
  nowMs: number,
  capacityPerSecond: number,
): readonly RenewalDue[] {
  const active = activeIssuer(state, nowMs);
  if (active === undefined) return [];
  const outdated = new Set(
    state.issuers
      .filter((issuer) => issuer.phase === 'retired' || issuer.taintedAtMs !== null)
      .map(({ id }) => id),
  );
  const perSlot = Math.max(1, Math.floor(capacityPerSecond * (SLOT_MS / 1_000)));
  return coverage.instances
    .filter((instance) => isOutdated(instance, outdated, nowMs))
    .toSorted((a, b) => a.svidNotAfterMs - b.svidNotAfterMs || compareIds(a.id, b.id))
    .map((instance, index) => {
      const notBeforeMs = nowMs + Math.floor(index / perSlot) * SLOT_MS;
      return {
        instanceId: instance.id,
        authorityKeyId: active.id,
        notBeforeMs,
        notAfterMs: notBeforeMs + SLOT_MS,
      };
    });
}

function isOutdated(instance: LiveInstance, outdated: ReadonlySet<string>, nowMs: number): boolean {
  return (
    instance.authorityKeyId !== null &&
    instance.svidNotAfterMs > nowMs &&
    outdated.has(instance.authorityKeyId)
  );
}

/** By code unit: the same order on every replica, whatever its locale. */
function compareIds(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}
