import type { Anchor, Authority, Issuer, TrustState } from './trust-state.ts';

/** Whether an authority may sign at this moment, as far as taint and validity go. */
export function isUsable(authority: Authority, nowMs: number): boolean {
  return authority.taintedAtMs === null && authority.notBeforeMs <= nowMs && nowMs < authority.notAfterMs;
}

/** The anchor that new issuers hang under; undefined when there is none, or it may not sign. */
export function signingAnchor(state: TrustState, nowMs: number): Anchor | undefined {
  return state.anchors.find((anchor) => anchor.phase === 'active' && isUsable(anchor, nowMs));
}

/** The issuer that signs SVIDs; undefined when there is none, or it may not sign. */
export function activeIssuer(state: TrustState, nowMs: number): Issuer | undefined {
  return state.issuers.find((issuer) => issuer.phase === 'active' && isUsable(issuer, nowMs));
}
