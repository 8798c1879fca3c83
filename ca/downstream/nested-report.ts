import type { Coverage, LiveInstance } from '../authority/coverage.ts';
import type { TrustState } from '../authority/trust-state.ts';

/** What a nested CA says of its fleet to the CA that it stands under. */
export interface NestedReport {
  /** Whether all of its live instances are known to it. */
  readonly complete: boolean;
  /** Ids of the trust anchors in its bundle. */
  readonly bundleAnchors: readonly string[];
  /** Those of them that every live instance has acknowledged. */
  readonly heldAnchors: readonly string[];
  /** The anchor that every live instance holds an SVID under; null = there is no one such. */
  readonly svidAnchor: string | null;
  /** When the last SVID under its present issuers ends at the latest, milliseconds since the Unix epoch. */
  readonly issuersEndMs: number;
}

/** What is known of a CA that has not spoken, or not lately, or has no trust state: it is there, and holds nothing. */
export const HOLDS_NOTHING: NestedReport = {
  complete: false,
  bundleAnchors: [],
  heldAnchors: [],
  svidAnchor: null,
  issuersEndMs: 0,
};

/** What this CA, as a nested one, says of its fleet. Pure. Null before there is a trust state. */
export function nestedReport(state: TrustState | null, coverage: Coverage): NestedReport | null {
  if (state === null) return null;
  const { complete } = coverage;
  // What is not confirmed is as good as nothing.
  const instances = coverage.instances.map(({ confirmed, bundleSequence, authorityKeyId }) => ({
    bundleSequence: confirmed ? bundleSequence : 0,
    authorityKeyId: confirmed ? authorityKeyId : null,
  }));
  const { anchors, issuers } = state;
  const under = new Set(
    instances.map(({ authorityKeyId }) => issuers.find(({ id }) => id === authorityKeyId)?.anchorId ?? null),
  );
  if (instances.length === 0) {
    under.add(issuers.find(({ phase }) => phase === 'active')?.anchorId ?? null);
  }
  const [only = null] = under;
  return {
    complete,
    bundleAnchors: anchors.map(({ id }) => id),
    heldAnchors: anchors
      .filter(({ sinceSequence }) => instances.every(({ bundleSequence }) => bundleSequence >= sinceSequence))
      .map(({ id }) => id),
    svidAnchor: under.size === 1 ? only : null,
    issuersEndMs: Math.max(0, ...issuers.map(({ notAfterMs }) => notAfterMs)),
  };
}

/**
 * A nested CA as one instance in the coverage of the CA above: it holds a bundle when its whole fleet does, and an SVID
 * under an anchor when its whole fleet does. Pure.
 */
export function nestedInstance(name: string, report: NestedReport, state: TrustState): LiveInstance {
  const { complete, bundleAnchors, heldAnchors, svidAnchor, issuersEndMs } = report;
  const isHeld = (id: string): boolean => heldAnchors.includes(id);
  const lacking = state.anchors.filter(({ id }) => !isHeld(id)).map(({ sinceSequence }) => sinceSequence);
  // What left our bundle and is still in its own has not left for its fleet.
  const hasMore = bundleAnchors.some((id) => !state.anchors.some((anchor) => anchor.id === id));
  const newest = Math.min(
    hasMore ? state.sequence - 1 : state.sequence,
    ...lacking.map((since) => since - 1),
  );
  const issuer = state.issuers.find(({ anchorId }) => anchorId === svidAnchor);
  return {
    id: name,
    name,
    bundleSequence: complete ? newest : 0,
    authorityKeyId: complete && issuer !== undefined ? issuer.id : null,
    svidNotAfterMs: issuersEndMs,
    confirmed: true,
    // Only its own gates know what its agents have proven.
    proven: false,
  };
}
