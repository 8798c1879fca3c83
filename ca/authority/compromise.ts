import { quote } from '../../pki/kedge-error.ts';
import type { Request, Rotation } from './rotation.ts';
import {
  beginRotation,
  endRotation,
  refused,
  type RotationPlan,
  turnedTo,
  withDeclined,
} from './rotation-transitions.ts';
import type { Anchor, TrustState } from './trust-state.ts';

/**
 * The key of an anchor is in wrong hands: it is tainted, and a rotation away from it begins, or takes over the one
 * under way from any step of it. Throws `rotation_refused` for an anchor that is not in the bundle.
 *
 * - No rotation: one begins to a new anchor of `plan.upstream`.
 * - One away from that anchor: it goes on, with the deadline; where it has no goal yet, to a new anchor of `plan.upstream`.
 * - One towards it: it goes back to where it came from; where that anchor is tainted as well, cannot sign, or was gone
 *   back to already, a new rotation begins, to a new anchor.
 */
export function compromiseAnchor(
  state: TrustState,
  anchorId: string,
  plan: Omit<RotationPlan, 'kind'>,
  request: Request,
): TrustState {
  const tainted = taintAnchor(state, anchorId, request.atMs);
  const { rotation } = tainted;
  const kind = 'compromise';
  if (rotation === null) return beginRotation(tainted, { ...plan, kind }, request);
  const { by, reason, atMs } = request;
  const over: Rotation = {
    ...rotation,
    number: rotation.number + 1,
    kind,
    fromAnchorId: anchorId,
    startedAtMs: atMs,
    deadlineMs: plan.deadlineMs,
    pausedAtMs: null,
    abortedAtMs: null,
    by,
    reason,
  };
  const ended = endRotation(tainted, 'taken-over', atMs);
  if (rotation.goalAnchorId === null) return { ...ended, rotation: { ...over, upstream: plan.upstream } };
  if (rotation.goalAnchorId !== anchorId) return { ...ended, rotation: over };
  const anew: Rotation = { ...over, removedSequence: null, cutOff: [], cutOffCount: 0 };
  const back = soundOrigin(ended, rotation, atMs);
  if (back === undefined) {
    return { ...ended, rotation: { ...anew, upstream: plan.upstream, goalAnchorId: null } };
  }
  return {
    ...ended,
    anchors: turnedTo(ended.anchors, back, atMs),
    rotation: { ...anew, upstream: back.upstream, goalAnchorId: back.id },
  };
}

/**
 * The anchor that a rotation began with, where it may sign again. It was active when the rotation began, so that every
 * instance holds it. Of any other anchor that is not known: one that was given up while it was prepared is in bundles
 * that nobody may have acknowledged.
 */
function soundOrigin(
  { anchors }: TrustState,
  { fromAnchorId, goalAnchorId }: Rotation,
  nowMs: number,
): Anchor | undefined {
  return anchors.find(
    ({ id, taintedAtMs, notBeforeMs, notAfterMs }) =>
      id === fromAnchorId &&
      id !== goalAnchorId &&
      taintedAtMs === null &&
      notBeforeMs <= nowMs &&
      nowMs < notAfterMs,
  );
}

/**
 * Marks an anchor as compromised: it mints no issuer any more, and one of others, which may go on to offer it once it
 * has left the bundle, is declined. Harmless when repeated.
 */
function taintAnchor(state: TrustState, id: string, nowMs: number): TrustState {
  const found = state.anchors.find((anchor) => anchor.id === id);
  if (found === undefined) {
    throw refused(
      `there is no trust anchor ${quote(id)} in the bundle`,
      'kedge status lists the trust anchors',
    );
  }
  return {
    ...state,
    anchors: state.anchors.map((anchor) =>
      anchor.id === id ? { ...anchor, taintedAtMs: anchor.taintedAtMs ?? nowMs } : anchor,
    ),
    declinedAnchors: found.upstream === 'self' ? state.declinedAnchors : withDeclined(state, [id]),
  };
}

/** Marks an issuer as compromised: it signs no more, and whoever holds an SVID of it is asked to renew. */
export function taintIssuer(state: TrustState, id: string, nowMs: number): TrustState {
  if (state.issuers.every((issuer) => issuer.id !== id)) {
    throw refused(`there is no issuer ${quote(id)} in the trust state`, 'kedge status lists the issuers');
  }
  return {
    ...state,
    issuers: state.issuers.map((issuer) =>
      issuer.id === id ? { ...issuer, taintedAtMs: issuer.taintedAtMs ?? nowMs } : issuer,
    ),
  };
}
