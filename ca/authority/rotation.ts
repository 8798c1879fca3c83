import type { UpstreamKind } from '../upstream/upstream-authority.ts';

/*
 * A change of the trust anchor, make before break:
 *
 *   prepare   the goal is obtained from its upstream and enters the bundle (sequence + 1)
 *     gate    every live instance acknowledged a bundle that holds it
 *   activate  issuers are minted under the goal, and SVIDs come from it; the other anchors retire
 *     gate    every live instance holds an SVID under it
 *   remove    every other anchor leaves the bundle (sequence + 1)
 *     gate    every live instance acknowledged that bundle
 *   end
 *
 * The step is never stored: it is what the phases of the anchors say, so that a crash between two of them leaves
 * nothing to repair. An abort turns goal and origin around and goes through the same gates.
 */

/** An instance that no gate of the rotation waits for, because an operator said so by name. */
export interface Excuse {
  /** Pod UID. */
  readonly instance: string;
  /** As people know it: `namespace/pod`. */
  readonly name: string;
  readonly atMs: number;
  readonly by: string;
  readonly reason: string;
}

/** Why it is done: by plan, or because the anchor's key is in wrong hands. */
export const ROTATION_KINDS = ['planned', 'compromise'] as const;
export type RotationKind = (typeof ROTATION_KINDS)[number];

/** The rotation under way. Times are milliseconds since the Unix epoch. */
export interface Rotation {
  /** Counts the rotations of the trust domain, from 1. */
  readonly number: number;
  readonly kind: RotationKind;
  /** Who holds the key of the goal. */
  readonly upstream: UpstreamKind;
  /** The anchor that was active when it began: where an abort goes back to. */
  readonly fromAnchorId: string;
  /** The anchor that is to be the only one at the end; null while it is not in the bundle yet. */
  readonly goalAnchorId: string | null;
  readonly startedAtMs: number;
  /**
   * A compromise: when every other anchor goes whoever still needs it. Planned: when it is called overdue, no more.
   * Null: never.
   */
  readonly deadlineMs: number | null;
  /** Since when no gate opens, because an operator said so; null = they do. */
  readonly pausedAtMs: number | null;
  /** Since when it goes back to where it came from; null = it does not. */
  readonly abortedAtMs: number | null;
  /** The first bundle that holds nothing but the goal; null while there is none. */
  readonly removedSequence: number | null;
  readonly excused: readonly Excuse[];
  /** Names of instances that had not followed when a deadline took their anchor, at most `LIMITS.cutOffInstances`. */
  readonly cutOff: readonly string[];
  /** How many those were. */
  readonly cutOffCount: number;
  /** Who began it, and why. */
  readonly by: string;
  readonly reason: string;
}

export const ROTATION_OUTCOMES = ['completed', 'aborted', 'taken-over'] as const;
export type RotationOutcome = (typeof ROTATION_OUTCOMES)[number];

/** A rotation that ended. */
export interface PastRotation {
  readonly number: number;
  readonly kind: RotationKind;
  readonly upstream: UpstreamKind;
  readonly fromAnchorId: string;
  readonly goalAnchorId: string | null;
  readonly startedAtMs: number;
  readonly endedAtMs: number;
  readonly outcome: RotationOutcome;
  /** Names of those that were excused. */
  readonly excused: readonly string[];
  readonly cutOff: readonly string[];
  readonly cutOffCount: number;
  readonly by: string;
  readonly reason: string;
}

/** Who asks for something, and why. */
export interface Request {
  /** A Unix user or a SPIFFE ID; `kedge` for what the lifecycle does by itself. */
  readonly by: string;
  readonly reason: string;
  readonly atMs: number;
}
