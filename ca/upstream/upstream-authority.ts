import type { KeyHandle } from '../keys/key-manager.ts';

/**
 * Who holds the trust anchor's key.
 *
 * Times are milliseconds since the Unix epoch; certificates and CSRs are DER.
 */

/** A self-signed anchor, as the trust state keeps it for its upstream. */
export interface UpstreamAnchor {
  readonly certificate: Uint8Array;
  /** Null when the key is not in our key manager (disk, vault). */
  readonly key: KeyHandle | null;
}

/** What is asked of the upstream authority when a trust domain needs an anchor. */
export interface NewAnchorRequest {
  /** The certificates of the anchors that the trust domain has already. */
  readonly known: readonly Uint8Array[];
  /** Both are wishes: an anchor that exists already has its own times. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** What is asked of the upstream authority when an issuer is to be replaced. */
export interface MintIssuerRequest {
  /** PKCS#10, signed by the new issuer's key, with the trust domain as its only URI SAN. */
  readonly csr: Uint8Array;
  /** The anchor that the issuer must hang under. */
  readonly anchor: UpstreamAnchor;
  readonly notBeforeMs: number;
  /** The wish; an upstream may give less, never more. */
  readonly notAfterMs: number;
}

/** An issuer as the upstream minted it. Not trusted yet: it is checked before it is adopted. */
export interface MintedIssuer {
  /** The issuer's certificate first, then what leads to the anchor, without the anchor. */
  readonly chain: readonly Uint8Array[];
}

/**
 * State: none. What an upstream must know of its anchors is in the trust state, and comes with each call; so any
 * replica, also one that has just started, can mint.
 *
 * Errors: `upstream_refused` (with retryAfterMs where it knows), `authority_unusable`, `key_sealed`,
 * `key_not_found`. Retries: none here; the engine backs off. Concurrency: any; minting the same CSR twice is
 * harmless.
 */
export interface UpstreamAuthority {
  readonly kind: 'self' | 'disk' | 'vault' | 'kedge';
  /**
   * An anchor that is not among the known ones: made now (self), or the newest that the upstream has (disk, vault);
   * null when it has no other. The caller adopts it, or destroys its key.
   */
  newAnchor(request: NewAnchorRequest, signal: AbortSignal): Promise<UpstreamAnchor | null>;
  mintIssuer(request: MintIssuerRequest, signal: AbortSignal): Promise<MintedIssuer>;
  /** Yields each time that `newAnchor` may have another answer than before. Ends when the signal aborts. */
  watch(signal: AbortSignal): AsyncIterable<void>;
}
