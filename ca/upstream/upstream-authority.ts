import type { KeyHandle } from '../keys/key-manager.ts';

/**
 * Who holds the trust anchor's key.
 *
 * Times are milliseconds since the Unix epoch; certificates and CSRs are DER.
 */

/** The kinds of upstream authorities there are. */
export type UpstreamKind = 'self' | 'disk' | 'vault' | 'kedge';

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

/** What is asked of an upstream authority that gives issuers together with their keys. */
export interface GivenIssuerRequest {
  /** The anchor that the issuer must hang under. */
  readonly anchor: UpstreamAnchor;
  /** The certificates of the issuers that the trust domain has, or had a short while ago. */
  readonly known: readonly Uint8Array[];
}

/** An issuer that the upstream gives with its key. Not trusted yet: it is checked before it is adopted. */
export interface GivenIssuer {
  /** The issuer's certificate first, then what leads to the anchor, without the anchor. */
  readonly chain: readonly Uint8Array[];
  /** Puts the issuer's key into our key manager, under an id of its own each time. The caller keeps or destroys it. */
  takeKey(): Promise<KeyHandle>;
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
  readonly kind: UpstreamKind;
  /**
   * An anchor that is not among the known ones; null when it has no other.
   *
   * `self` makes one, with a key: the caller adopts it, or destroys its key. Every other kind gives the anchor that it
   * would mint under now, has no side effect, and is asked often: at the start, each time that `watch` yields, after a
   * minting that failed, and every few minutes.
   */
  newAnchor(request: NewAnchorRequest, signal: AbortSignal): Promise<UpstreamAnchor | null>;
  /**
   * Mints an issuer under exactly the anchor that is asked for. Rejects when it would sign under another one now, or
   * does not hold it.
   */
  mintIssuer(request: MintIssuerRequest, signal: AbortSignal): Promise<MintedIssuer>;
  /**
   * There only where the upstream gives issuers with their keys, instead of minting: the issuer under that anchor that
   * is not known yet; null when it has none.
   */
  givenIssuer?(request: GivenIssuerRequest, signal: AbortSignal): Promise<GivenIssuer | null>;
  /** Yields each time that `newAnchor` or `givenIssuer` may have another answer. Ends when the signal aborts. */
  watch(signal: AbortSignal): AsyncIterable<void>;
  /** What is wrong while what it gave before still serves, in words; null = nothing. Cheap. */
  problem?(): string | null;
}
