import { KedgeError } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import type { UpstreamKind } from '../upstream/upstream-authority.ts';
import type { Excuse, PastRotation, Request, Rotation, RotationKind, RotationOutcome } from './rotation.ts';
import { activateAnchor, type NewAnchor, prepareAnchor } from './transitions.ts';
import type { Anchor, TrustState } from './trust-state.ts';

/*
 * Every way in which a rotation begins, changes and ends. Each function gives a new state; none looks at coverage:
 * `rotation-steps.ts` does. What an operator may not ask is `rotation_refused`, with what to do instead.
 */

/** What a rotation is to be. */
export interface RotationPlan {
  readonly kind: RotationKind;
  readonly upstream: UpstreamKind;
  readonly deadlineMs: number | null;
}

/** Begins a rotation. Throws `rotation_refused` while there is another. */
export function beginRotation(state: TrustState, plan: RotationPlan, request: Request): TrustState {
  if (state.rotation !== null) {
    throw refused(
      `rotation ${state.rotation.number} is under way since ${time(state.rotation.startedAtMs)}`,
      'wait for its end, or abort it; a compromise takes over by itself',
    );
  }
  const from = state.anchors.find(({ phase }) => phase === 'active');
  if (from === undefined)
    throw refused('there is no active trust anchor to rotate from', 'wait until the CA is ready');
  const rotation: Rotation = {
    number: nextNumber(state),
    ...plan,
    fromAnchorId: from.id,
    goalAnchorId: null,
    startedAtMs: request.atMs,
    pausedAtMs: null,
    abortedAtMs: null,
    removedSequence: null,
    excused: [],
    cutOff: [],
    cutOffCount: 0,
    by: request.by,
    reason: request.reason,
  };
  return { ...state, rotation };
}

/** The goal of the rotation enters the bundle: prepared; sequence + 1. */
export function prepareGoal(state: TrustState, anchor: NewAnchor, nowMs: number): TrustState {
  const rotation = rotationOf(state);
  if (rotation.goalAnchorId !== null) throw invalid('the rotation has its trust anchor already');
  return {
    ...prepareAnchor(state, anchor, nowMs),
    rotation: { ...rotation, goalAnchorId: anchor.id, upstream: anchor.upstream },
    declinedAnchors: state.declinedAnchors.filter((id) => id !== anchor.id),
  };
}

/** The goal becomes the anchor that issuers hang under; every other one retires. */
export function activateGoal(state: TrustState, nowMs: number): TrustState {
  return activateAnchor(state, rotationOf(state).goalAnchorId ?? '', nowMs);
}

/** Every anchor but the goal leaves the bundle, with all below it; sequence + 1. `cutOff` names who still needed one. */
export function removeOthers(state: TrustState, cutOff: readonly string[]): TrustState {
  const rotation = rotationOf(state);
  const goal = state.anchors.find(({ id }) => id === rotation.goalAnchorId);
  if (goal?.phase !== 'active') throw invalid('the goal of the rotation is not active');
  if (state.issuers.every(({ anchorId, phase }) => anchorId !== goal.id || phase !== 'active')) {
    throw invalid('no issuer is active under the goal of the rotation');
  }
  const isGone = (anchorId: string): boolean => anchorId !== goal.id;
  const keys = [
    ...state.anchors.filter(({ id }) => isGone(id)).flatMap(({ key }) => (key === null ? [] : [key])),
    ...state.issuers.filter(({ anchorId }) => isGone(anchorId)).map(({ key }) => key),
  ];
  const sequence = state.anchors.length === 1 ? state.sequence : state.sequence + 1;
  return {
    ...state,
    sequence,
    anchors: [goal],
    issuers: state.issuers.filter(({ anchorId }) => !isGone(anchorId)),
    discardedKeys: [...state.discardedKeys, ...keys],
    rotation: {
      ...rotation,
      removedSequence: sequence,
      cutOff: cutOff.slice(0, LIMITS.cutOffInstances),
      cutOffCount: cutOff.length,
    },
  };
}

/** The rotation is over, and remembered. */
export function endRotation(state: TrustState, outcome: RotationOutcome, nowMs: number): TrustState {
  const { number, kind, upstream, fromAnchorId, goalAnchorId, startedAtMs, excused, cutOff, ...rest } =
    rotationOf(state);
  const past: PastRotation = {
    number,
    kind,
    upstream,
    fromAnchorId,
    goalAnchorId,
    startedAtMs,
    endedAtMs: Math.max(nowMs, startedAtMs),
    outcome,
    excused: excused.map(({ name }) => name),
    cutOff,
    cutOffCount: rest.cutOffCount,
    by: rest.by,
    reason: rest.reason,
  };
  return {
    ...state,
    rotation: null,
    pastRotations: [...state.pastRotations, past].slice(-LIMITS.pastRotations),
  };
}

/** No gate opens any more, until {@link resumeRotation}. Harmless when repeated. */
export function pauseRotation(state: TrustState, nowMs: number): TrustState {
  const rotation = requireRotation(state);
  return rotation.pausedAtMs === null ? { ...state, rotation: { ...rotation, pausedAtMs: nowMs } } : state;
}

/** Gates open again. Harmless when repeated. */
export function resumeRotation(state: TrustState): TrustState {
  const rotation = requireRotation(state);
  return rotation.pausedAtMs === null ? state : { ...state, rotation: { ...rotation, pausedAtMs: null } };
}

/**
 * Goes back to the anchor that the rotation began with. Throws `rotation_refused` once the others were removed, and
 * for a compromise: the anchor that it would go back to is in wrong hands.
 */
export function abortRotation(state: TrustState, nowMs: number): TrustState {
  const rotation = requireRotation(state);
  if (rotation.abortedAtMs !== null) return state;
  const from = state.anchors.find(({ id }) => id === rotation.fromAnchorId);
  if (from === undefined || rotation.removedSequence !== null) {
    throw refused(
      'the trust anchor that the rotation began with is out of the bundle',
      'begin another rotation once this one has ended',
    );
  }
  if (from.taintedAtMs !== null) {
    throw refused(
      'the trust anchor that the rotation began with is tainted',
      'a compromise cannot be aborted: its anchor is in wrong hands; pause it to gain time',
    );
  }
  return backTo(state, from, nowMs);
}

/**
 * Turns the rotation around: `anchor`, which never left the bundle, is to be the only one. It signs again at once: all
 * instances trust it. The goal until now retires, and leaves once nobody needs it.
 */
function backTo(state: TrustState, anchor: Anchor, nowMs: number): TrustState {
  const rotation = rotationOf(state);
  const declined = state.anchors
    .filter(({ id, upstream }) => id !== anchor.id && upstream !== 'self')
    .map(({ id }) => id);
  const turned: TrustState = {
    ...state,
    anchors: turnedTo(state.anchors, anchor, nowMs),
    rotation: { ...rotation, goalAnchorId: anchor.id, abortedAtMs: nowMs },
    declinedAnchors: withDeclined(state, declined).filter((id) => id !== anchor.id),
  };
  // It was not in the bundle yet, and nothing was signed under it: there is nothing to undo.
  return rotation.goalAnchorId === null ? endRotation(turned, 'aborted', nowMs) : turned;
}

/** The declined anchors with these among them: no rotation goes there by itself. The oldest give way. */
export function withDeclined({ declinedAnchors }: TrustState, ids: readonly string[]): readonly string[] {
  return [...declinedAnchors.filter((id) => !ids.includes(id)), ...ids].slice(-LIMITS.declinedAnchors);
}

/** The anchors with `chosen` active and every other one retired: it must never have left the bundle. */
export function turnedTo(anchors: readonly Anchor[], chosen: Anchor, nowMs: number): readonly Anchor[] {
  return anchors.map((anchor) => {
    const phase = anchor.id === chosen.id ? 'active' : 'retired';
    return anchor.phase === phase ? anchor : inPhase(anchor, phase, nowMs);
  });
}

function inPhase(anchor: Anchor, phase: 'active' | 'retired', nowMs: number): Anchor {
  return { ...anchor, phase, phaseSinceMs: Math.max(nowMs, anchor.phaseSinceMs) };
}

/** No gate waits for that instance any more. Throws `rotation_refused` over the limit; harmless when repeated. */
export function excuseInstance(state: TrustState, excuse: Excuse): TrustState {
  const rotation = requireRotation(state);
  if (rotation.excused.some(({ instance }) => instance === excuse.instance)) return state;
  if (rotation.excused.length >= LIMITS.excusedInstances) {
    throw refused(
      `${rotation.excused.length} instances are excused already, the limit`,
      'an excused instance may be cut off: find out why so many do not follow',
    );
  }
  return { ...state, rotation: { ...rotation, excused: [...rotation.excused, excuse] } };
}

function nextNumber({ pastRotations }: TrustState): number {
  return (pastRotations.at(-1)?.number ?? 0) + 1;
}

/** The rotation of an operator's request. */
function requireRotation({ rotation }: TrustState): Rotation {
  if (rotation !== null) return rotation;
  throw refused('no rotation is under way', 'kedge rotate history lists those that ended');
}

function rotationOf({ rotation }: TrustState): Rotation {
  if (rotation !== null) return rotation;
  throw invalid('there is no rotation');
}

function invalid(what: string): KedgeError {
  return new KedgeError('lifecycle_invalid', what);
}

/** What an operator asked for and cannot be. */
export function refused(what: string, hint: string): KedgeError {
  return new KedgeError('rotation_refused', what, { hint });
}

function time(ms: number): string {
  return new Date(ms).toISOString();
}
