import type { KeyHandle } from '../keys/key-manager.ts';
import type { UpstreamKind } from '../upstream/upstream-authority.ts';
import type { PastRotation, Rotation } from './rotation.ts';

/**
 * The trust state: all that the CA replicas of one trust domain share. Plain data, never mutated in place.
 *
 * Times are milliseconds since the Unix epoch.
 */
export interface TrustState {
  readonly trustDomain: string;
  /** `spiffe_sequence` of the bundle. Grows by one whenever the set of anchors changes; never shrinks. */
  readonly sequence: number;
  /** All of them are in the bundle, whatever their phase. */
  readonly anchors: readonly Anchor[];
  readonly issuers: readonly Issuer[];
  /** Keys of removed authorities that their key manager may still hold: to be destroyed, then dropped from here. */
  readonly discardedKeys: readonly KeyHandle[];
  /** The change of the trust anchor that is under way; null = none. There is never more than one. */
  readonly rotation: Rotation | null;
  /** Those that ended, the oldest first; the newest `LIMITS.pastRotations` are kept. */
  readonly pastRotations: readonly PastRotation[];
  /**
   * Anchors that an operator turned away from: ids, the oldest first, at most `LIMITS.declinedAnchors`. An upstream
   * that still offers one does not begin another rotation by itself.
   */
  readonly declinedAnchors: readonly string[];
}

/** The trust state of a trust domain that has nothing yet. It is never stored. */
export function emptyTrustState(trustDomain: string): TrustState {
  return { trustDomain, sequence: 0, anchors: [], issuers: [], discardedKeys: [], ...NO_ROTATION };
}

/** What a trust state says of rotations where there was none yet. */
export const NO_ROTATION = {
  rotation: null,
  pastRotations: [],
  declinedAnchors: [],
} as const satisfies Partial<TrustState>;

/**
 * prepared → active → retired; what is removed is no longer in the state. Never back: what is given up before it was
 * active goes from prepared to retired. One exception: the trust anchor that an aborted rotation goes back to.
 */
export const PHASES = ['prepared', 'active', 'retired'] as const;
export type Phase = (typeof PHASES)[number];

/** What anchors and issuers have in common: the same lifecycle code drives both. */
export interface Authority {
  /** Subject key identifier, lower-case hex. */
  readonly id: string;
  readonly phase: Phase;
  /** When the phase began. */
  readonly phaseSinceMs: number;
  /** Set once the authority is known to be compromised; a tainted authority never signs. */
  readonly taintedAtMs: number | null;
  /** DER. */
  readonly certificate: Uint8Array;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** A self-signed root in the bundle. */
export interface Anchor extends Authority {
  readonly upstream: UpstreamKind;
  /** Sequence of the first bundle that held it: who acknowledged that one, or a later, trusts this anchor. */
  readonly sinceSequence: number;
  /** Null when the key is not ours. */
  readonly key: KeyHandle | null;
}

/** The intermediate CA that signs SVIDs, below exactly one anchor. */
export interface Issuer extends Authority {
  readonly anchorId: string;
  /** Certificates between this issuer and its anchor, without both. DER, issuer's own issuer first. */
  readonly intermediates: readonly Uint8Array[];
  readonly key: KeyHandle;
}
