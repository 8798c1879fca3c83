import { KedgeError, quote } from '../../pki/kedge-error.ts';
import type { KeyHandle } from '../keys/key-manager.ts';
import {
  type Anchor,
  type Authority,
  type Issuer,
  PHASES,
  type Phase,
  type TrustState,
} from './trust-state.ts';

/*
 * Every way in which a trust state may become another. Each function gives a new state and throws
 * `lifecycle_invalid` for a step out of order; none looks at coverage or decides: `lifecycle.ts` does.
 */

/** An anchor that is not in the state yet. */
export type NewAnchor = Omit<Anchor, 'phase' | 'phaseSinceMs' | 'taintedAtMs' | 'sinceSequence'>;

/** An issuer that is not in the state yet. */
export type NewIssuer = Omit<Issuer, 'phase' | 'phaseSinceMs' | 'taintedAtMs'>;

/** A new anchor enters the bundle: prepared; sequence + 1. */
export function prepareAnchor(state: TrustState, anchor: NewAnchor, nowMs: number): TrustState {
  refuseKnown(state, anchor.id);
  const sequence = state.sequence + 1;
  const prepared: Anchor = { ...anchor, ...PREPARED, phaseSinceMs: nowMs, sinceSequence: sequence };
  return { ...state, sequence, anchors: [...state.anchors, prepared] };
}

/** A prepared anchor becomes the one that new issuers hang under; the one until now retires. */
export function activateAnchor(state: TrustState, id: string, nowMs: number): TrustState {
  return { ...state, anchors: activate(state.anchors, id, nowMs) };
}

/** A new issuer, prepared, below an active anchor. */
export function prepareIssuer(state: TrustState, issuer: NewIssuer, nowMs: number): TrustState {
  refuseKnown(state, issuer.id);
  refuseUnusableAnchor(state, issuer.anchorId);
  const prepared: Issuer = { ...issuer, ...PREPARED, phaseSinceMs: nowMs };
  return { ...state, issuers: [...state.issuers, prepared] };
}

/** A prepared issuer becomes the one that signs; the one until now, and its rivals under the anchor, retire. */
export function activateIssuer(state: TrustState, id: string, nowMs: number): TrustState {
  const { anchorId } = find(state.issuers, id);
  refuseUnusableAnchor(state, anchorId);
  const issuers = activate(state.issuers, id, nowMs).map((issuer) =>
    issuer.phase === 'prepared' && issuer.anchorId === anchorId ? inPhase(issuer, 'retired', nowMs) : issuer,
  );
  return { ...state, issuers };
}

/** An issuer signs no more, or never will. */
export function retireIssuer(state: TrustState, id: string, nowMs: number): TrustState {
  const retired = inPhase(find(state.issuers, id), 'retired', nowMs);
  return { ...state, issuers: replace(state.issuers, retired) };
}

/** A retired issuer leaves the state; its key is to be destroyed. */
export function removeIssuer(state: TrustState, id: string): TrustState {
  const issuer = find(state.issuers, id);
  if (issuer.phase !== 'retired') throw outOfOrder(issuer, 'removed');
  return {
    ...state,
    issuers: state.issuers.filter((other) => other.id !== id),
    discardedKeys: [...state.discardedKeys, issuer.key],
  };
}

/** A discarded key is gone from its key manager. */
export function forgetKey(state: TrustState, key: KeyHandle): TrustState {
  return { ...state, discardedKeys: state.discardedKeys.filter((other) => other.id !== key.id) };
}

const PREPARED = { phase: 'prepared', taintedAtMs: null } as const;

function activate<A extends Authority>(authorities: readonly A[], id: string, nowMs: number): readonly A[] {
  const chosen = find(authorities, id);
  if (chosen.phase !== 'prepared' || chosen.taintedAtMs !== null) throw outOfOrder(chosen, 'active');
  return authorities.map((authority) => {
    if (authority === chosen) return inPhase(authority, 'active', nowMs);
    return authority.phase === 'active' ? inPhase(authority, 'retired', nowMs) : authority;
  });
}

/** Only forward. A clock that went back does not move the begin of a phase before that of the phase before. */
function inPhase<A extends Authority>(authority: A, phase: Phase, nowMs: number): A {
  if (PHASES.indexOf(phase) <= PHASES.indexOf(authority.phase)) throw outOfOrder(authority, phase);
  return { ...authority, phase, phaseSinceMs: Math.max(nowMs, authority.phaseSinceMs) };
}

function find<A extends Authority>(authorities: readonly A[], id: string): A {
  const found = authorities.find((authority) => authority.id === id);
  if (found !== undefined) return found;
  throw new KedgeError('lifecycle_invalid', `there is no authority ${quote(id)} in the trust state`);
}

function replace<A extends Authority>(authorities: readonly A[], next: A): readonly A[] {
  return authorities.map((authority) => (authority.id === next.id ? next : authority));
}

function refuseKnown(state: TrustState, id: string): void {
  if ([...state.anchors, ...state.issuers].every((authority) => authority.id !== id)) return;
  throw new KedgeError('lifecycle_invalid', `the authority ${quote(id)} is in the trust state already`);
}

function refuseUnusableAnchor(state: TrustState, anchorId: string): void {
  const anchor = find(state.anchors, anchorId);
  if (anchor.phase === 'active' && anchor.taintedAtMs === null) return;
  throw new KedgeError('lifecycle_invalid', `the trust anchor ${quote(anchorId)} may have no new issuer`, {
    hint: 'issuers hang under the active anchor, unless it is tainted',
  });
}

function outOfOrder(authority: Authority, to: Phase | 'removed'): KedgeError {
  const from = authority.taintedAtMs === null ? authority.phase : `${authority.phase}, tainted`;
  return new KedgeError(
    'lifecycle_invalid',
    `the authority ${quote(authority.id)} cannot go from ${from} to ${to}`,
  );
}
