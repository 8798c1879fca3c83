import type { Coverage } from './coverage.ts';
import type { LifecycleSettings } from './lifecycle-settings.ts';
import type { Anchor, Authority, TrustState } from './trust-state.ts';
import type { UpstreamSight } from './upstream-sight.ts';

/** All that the lifecycle decides by. */
export interface Moment {
  readonly state: TrustState;
  /** What the fleet holds. */
  readonly coverage: Coverage;
  /** What the upstream authorities offer. */
  readonly upstream: UpstreamSight;
  /** Milliseconds since the Unix epoch. */
  readonly nowMs: number;
  readonly settings: LifecycleSettings;
}

/** Something that is waited for. */
export interface Pending {
  /** When to look again at the latest; infinite where no time is known. */
  readonly atMs: number;
  readonly what: string;
}

/** Whether an issuer under the anchor can be had from an upstream authority that is configured. */
export function isMintable(anchor: Anchor, { upstream }: Moment): boolean {
  return upstream.mintable.includes(anchor.upstream);
}

/** Something that happens at a time. */
export function pendingAt(atMs: number, what: string): Pending {
  return { atMs, what: `${what} at ${timeText(atMs)}` };
}

/** Enough of an identifier for people to tell a few authorities apart. */
export function shortName(authority: Pick<Authority, 'id'>): string {
  return authority.id.slice(0, 8);
}

/** ISO 8601, UTC. */
export function timeText(ms: number): string {
  return new Date(ms).toISOString();
}
