import { equalBytes } from '../../pki/bytes.ts';
import { type GateView, gateOf, goalOf, lookAtGate } from './gates.ts';
import { isMintable, type Moment, type Pending, pendingAt, shortName, timeText } from './moment.ts';
import type { Request, Rotation } from './rotation.ts';
import {
  activateGoal,
  beginRotation,
  endRotation,
  prepareGoal,
  removeOthers,
} from './rotation-transitions.ts';
import type { NewAnchor } from './transitions.ts';
import type { Anchor, TrustState } from './trust-state.ts';
import { activeIssuer, isUsable } from './usable-authority.ts';

/** While a gate is closed the fleet is looked at so often, milliseconds: coverage changes without a word to us. */
const GATE_LOOK_MS = 1_000;

/**
 * What a step that a deadline forces leaves the fleet to follow the step before it, milliseconds. Without it a goal that
 * comes late, or a gate that one instance kept shut until the deadline, would cut off everybody at one stroke.
 */
const FORCED_STEP_MS = 60_000;

/** The next step of the rotation that is under way, or of one that begins by itself; null = none now. Pure. */
export function rotationStep(moment: Moment): TrustState | null {
  const { state, nowMs } = moment;
  const { rotation } = state;
  if (rotation === null) return automaticStart(moment);
  if (rotation.pausedAtMs !== null) return null;
  const goal = goalOf(state, rotation);
  if (goal === undefined) {
    const offered = offeredAnchor(moment);
    return offered?.upstream === rotation.upstream ? prepareGoal(state, offered, nowMs) : null;
  }
  const gate = gateView(moment);
  if (gate === null) return null;
  if (rotation.removedSequence !== null) {
    const outcome = rotation.abortedAtMs === null ? 'completed' : 'aborted';
    return gate.open && isSettled(goal.phaseSinceMs, moment) ? endRotation(state, outcome, nowMs) : null;
  }
  if (goal.phase === 'prepared') {
    const may = isForced(goal.phaseSinceMs, moment) || (gate.open && isSettled(goal.phaseSinceMs, moment));
    return may && isUsable(goal, nowMs) ? activateGoal(state, nowMs) : null;
  }
  const active = activeIssuer(state, nowMs);
  if (active?.anchorId !== goal.id) return null;
  if (isForced(active.phaseSinceMs, moment))
    return removeOthers(
      state,
      gate.stragglers.map(({ name }) => name),
    );
  return gate.open && isSettled(active.phaseSinceMs, moment) ? removeOthers(state, []) : null;
}

/** Whether the rotation needs an anchor made now, for which there is no other way than to ask for it. */
export function wantsAnchor({ state: { rotation }, upstream }: Moment): boolean {
  return (
    rotation !== null &&
    rotation.goalAnchorId === null &&
    rotation.pausedAtMs === null &&
    rotation.upstream === 'self' &&
    upstream.mintable.includes('self')
  );
}

/** What the rotation waits for, or what would begin one. */
export function rotationWaits(moment: Moment): readonly Pending[] {
  const { rotation } = moment.state;
  return rotation === null ? withheld(moment) : [underWay(rotation, moment)];
}

/** The gate that the rotation stands before, and what is behind it; null while it waits for no instance. */
export function gateView({ state, coverage, settings }: Moment): GateView | null {
  const gate = gateOf(state);
  return gate === null ? null : lookAtGate(gate, state, coverage, settings.rotation.evidence);
}

/** Whether a compromise goes on whoever has not followed what happened at `sinceMs`. */
function isForced(sinceMs: number, { state: { rotation }, nowMs }: Moment): boolean {
  if (rotation?.kind !== 'compromise' || rotation.deadlineMs === null) return false;
  return nowMs >= Math.max(rotation.deadlineMs, sinceMs + FORCED_STEP_MS);
}

/** Whether every replica has had the time to hear of what happened at `sinceMs`, and to tell whom it serves. */
function isSettled(sinceMs: number, { nowMs, settings }: Moment): boolean {
  return nowMs >= sinceMs + settings.rotation.settleMs;
}

/** The anchor that the upstream offers, where it is one that can be gone over to. */
function offeredAnchor(moment: Moment): NewAnchor | null {
  const { state, upstream, nowMs } = moment;
  const { offered } = upstream;
  if (offered === null || nowMs < offered.notBeforeMs || nowMs >= offered.notAfterMs) return null;
  const isKnown = [...state.anchors, ...state.issuers].some(({ id }) => id === offered.id);
  return isKnown || offerProblem(moment) !== null ? null : offered;
}

/**
 * Why the anchor that the upstream offers is never taken; null = it may be, or there is none. A root that was renewed
 * with its old key is one: authorities are told apart by the identifiers of their keys.
 */
function offerProblem({ state, upstream: { offered } }: Moment): string | null {
  if (offered === null) return null;
  const name = `trust anchor ${shortName(offered)}, which the upstream authority (${offered.upstream}) offers,`;
  const lost = state.pastRotations.findLast(
    ({ kind, fromAnchorId }) => kind === 'compromise' && fromAnchorId === offered.id,
  );
  if (lost !== undefined) {
    return `${name} was given up as compromised by rotation ${lost.number} and is not taken: have it make a new root`;
  }
  const known = [...state.anchors, ...state.issuers].find(({ id }) => id === offered.id);
  return known === undefined || equalBytes(known.certificate, offered.certificate)
    ? null
    : `${name} is another certificate for a key that is in use and is not taken: have it make a root with a new key`;
}

/** A rotation that nobody asked for, and why; null = there is no cause. */
function cause(moment: Moment): { readonly reason: string; readonly offered: NewAnchor | null } | null {
  const { state, upstream, nowMs, settings } = moment;
  const active = state.anchors.find(({ phase }) => phase === 'active');
  // Without an issuer there is nobody to rotate: the first anchor is made otherwise.
  if (active === undefined || state.issuers.length === 0) return null;
  const offered = offeredAnchor(moment);
  if (offered !== null) {
    const reason =
      active.upstream === offered.upstream
        ? `the upstream authority (${offered.upstream}) has another trust anchor`
        : `the configured upstream authority is ${offered.upstream}, and no longer ${active.upstream}`;
    return { reason, offered };
  }
  if (upstream.kind !== 'self') return null;
  if (active.upstream !== 'self') {
    const reason = `the configured upstream authority is self, and no longer ${active.upstream}`;
    return { reason, offered: null };
  }
  const { anchorRenewAfterMs } = settings.rotation;
  if (anchorRenewAfterMs !== null && nowMs >= active.notBeforeMs + anchorRenewAfterMs)
    return { reason: 'the trust anchor has reached its age', offered: null };
  return null;
}

function automaticStart(moment: Moment): TrustState | null {
  const { state, upstream, nowMs, settings } = moment;
  const found = settings.rotation.automatic ? cause(moment) : null;
  if (found === null || isDeclined(found.offered, state)) return null;
  const { offered, reason } = found;
  const request: Request = { by: 'kedge', reason, atMs: nowMs };
  const plan = { kind: 'planned', upstream: upstream.kind, deadlineMs: null } as const;
  const begun = beginRotation(state, plan, request);
  return offered === null ? begun : prepareGoal(begun, offered, nowMs);
}

/** Whether an operator turned away from it: then only an operator goes there again. */
function isDeclined(offered: NewAnchor | null, { declinedAnchors, pastRotations }: TrustState): boolean {
  if (offered !== null) return declinedAnchors.includes(offered.id);
  const last = pastRotations.at(-1);
  return last?.outcome === 'aborted' && last.upstream === 'self';
}

/** A rotation that there is a cause for, and that does not begin by itself. */
function withheld(moment: Moment): readonly Pending[] {
  const { settings } = moment;
  const problem = offerProblem(moment);
  if (problem !== null) return [{ atMs: Infinity, what: problem }];
  const found = cause(moment);
  if (found === null) return [];
  const { offered, reason } = found;
  const why = settings.rotation.automatic
    ? 'it was turned away from before, by an abort or a compromise'
    : 'rotations do not begin by themselves (rotation.automatic)';
  const what = offered === null ? 'a new trust anchor' : `trust anchor ${shortName(offered)}`;
  const text = `${what} is held back: ${reason}, and ${why}; begin with kedge rotate start`;
  return [{ atMs: Infinity, what: text }];
}

function underWay(rotation: Rotation, moment: Moment): Pending {
  const { state, nowMs } = moment;
  const { number, pausedAtMs, deadlineMs } = rotation;
  const goal = goalOf(state, rotation);
  const title = `rotation ${number}${rotation.abortedAtMs === null ? '' : ' (aborted)'}`;
  if (pausedAtMs !== null)
    return { atMs: Infinity, what: `${title} is paused since ${timeText(pausedAtMs)}` };
  const late = deadlineMs !== null && nowMs >= deadlineMs && rotation.kind === 'planned';
  const overdue = late ? `, overdue since ${timeText(deadlineMs)}` : '';
  const lookMs = Math.min(
    nowMs + GATE_LOOK_MS,
    deadlineMs !== null && deadlineMs > nowMs ? deadlineMs : Infinity,
  );
  return { atMs: lookMs, what: `${title}${overdue}: ${blocker(rotation, goal, moment)}` };
}

/** Why the rotation does not go on at this moment. */
function blocker(rotation: Rotation, goal: Anchor | undefined, moment: Moment): string {
  const { state, nowMs } = moment;
  if (goal === undefined) {
    const problem = offerProblem(moment);
    const why = problem === null ? '' : ` (${problem})`;
    return `waiting for a trust anchor of the upstream authority (${rotation.upstream})${why}`;
  }
  const gate = gateView(moment);
  const isActivated = goal.phase === 'active' && rotation.removedSequence === null;
  if (goal.phase === 'prepared' && !isUsable(goal, nowMs)) {
    if (goal.notBeforeMs > nowMs)
      return pendingAt(goal.notBeforeMs, `trust anchor ${shortName(goal)} becomes valid`).what;
    return `trust anchor ${shortName(goal)} is tainted or expired: abort the rotation`;
  }
  if (isActivated && activeIssuer(state, nowMs)?.anchorId !== goal.id) {
    const how = isMintable(goal, moment)
      ? ''
      : ` (no upstream authority ${goal.upstream} is configured to mint it)`;
    return `waiting for an issuer under trust anchor ${shortName(goal)}${how}`;
  }
  if (gate === null) return 'waiting';
  return gate.open ? 'waiting until every replica of the CA has heard of the last step' : gate.reason;
}
