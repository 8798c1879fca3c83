/**
 * The one durable, shared thing of a trust domain: a small document, changed only by compare-and-swap.
 *
 * The document is opaque here (see `ca/authority/trust-state-codec.ts`), at most `LIMITS.trustStateBytes`.
 */

/** Names one version of the document. Opaque; equal strings = the same version; no order. */
export type Version = string;

/** The document as one read saw it. The caller owns the bytes. */
export interface VersionedDocument {
  readonly version: Version;
  readonly document: Uint8Array;
}

/**
 * Consistency: reads and swaps are linearizable over all processes that use the same store.
 *
 * Durability: when `swap` resolves, the new document survives a crash of the process and of the machine. When it
 * rejects with any other code than `store_conflict`, the outcome is unknown: the caller reads again and looks.
 *
 * Retries: the store retries nothing; whoever swaps reads again after `store_conflict` and decides anew.
 *
 * Errors: `store_conflict`, `store_unavailable` (may pass by itself), `store_corrupt`, `store_newer_version`
 * (will not), `message_too_large`, and the abort reason of a signal.
 *
 * Concurrency: every method may be called at any time, from any number of callers.
 */
export interface TrustStore {
  /** The newest document, or null when the store is empty. */
  read(signal: AbortSignal): Promise<VersionedDocument | null>;

  /**
   * Replaces the document if its version is still `expected` (null: if the store is still empty), and gives the
   * new version. Rejects with `store_conflict` otherwise.
   */
  swap(expected: Version | null, next: Uint8Array, signal: AbortSignal): Promise<Version>;

  /**
   * The newest document now (if there is one), then after each change by anyone. Versions that came and went
   * between two steps of the reader are skipped: the newest always comes. Ends by throwing: the signal's reason
   * when aborted, a store error when the store is lost; the caller backs off and watches again.
   */
  watch(signal: AbortSignal): AsyncIterable<VersionedDocument>;

  /** Frees what the store holds. Calls under way may reject with `store_unavailable`. */
  close(): Promise<void>;
}
