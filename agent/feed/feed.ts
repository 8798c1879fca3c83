import type { IdentitySnapshot } from '../snapshot.ts';

/** How sure a feed is that its consumer follows. The order of the list is the order of strength. */
export const EVIDENCE = ['delivered', 'loaded', 'proven'] as const;
export type Evidence = (typeof EVIDENCE)[number];

/**
 * Brings identity snapshots to one kind of consumer.
 *
 * The agent calls `publish` for one snapshot at a time, newest last, and keeps the old SVID until every feed has
 * acknowledged the new one. A feed that cannot take a snapshot rejects with `feed_failed`, `hook_failed` or
 * `file_unwritable`, goes on serving the one before, and is tried again with back-off; it never delays another.
 */
export interface Feed {
  /** As configured; the `name` of the report to the CA. */
  readonly name: string;

  /** Resolves with the grade reached once the consumer can no longer be handed an older snapshot. */
  publish(snapshot: IdentitySnapshot, signal: AbortSignal): Promise<Evidence>;

  /** Stops serving the identity (it expired): fails closed. Resolves when no consumer can be handed it. */
  withdraw(signal: AbortSignal): Promise<void>;

  /** Frees what the feed holds: sockets, watchers. What it wrote stays. */
  close(): Promise<void>;
}
