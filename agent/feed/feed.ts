import type { ErrorCode } from '../../pki/error-table.ts';
import type { HeldSnapshot, IdentitySnapshot } from '../snapshot.ts';

/**
 * How sure it is that a consumer holds a snapshot. The order of the list is the order of strength.
 *
 * `delivered`: written to the stream or the file. `loaded`: the consumer itself acknowledged it. `proven`: a handshake
 * against the proxy showed it, which no feed can say of itself: it comes from the canary.
 */
export const EVIDENCE = ['delivered', 'loaded', 'proven'] as const;
export type Evidence = (typeof EVIDENCE)[number];

/** One consumer of a feed (one Envoy, one HAProxy, one stream, one hook) at one moment. Never mutated. */
export interface ConsumerStatus {
  /** Stable while the consumer lives; printable ASCII, at most 64 characters, once in a feed. */
  readonly name: string;
  /** The strongest grade that this consumer can give. */
  readonly best: Exclude<Evidence, 'proven'>;
  /** The newest snapshot that was written to it; null = none. */
  readonly delivered: HeldSnapshot | null;
  /** The newest snapshot that it acknowledged itself; null = none, or it acknowledges nothing. */
  readonly loaded: HeldSnapshot | null;
  /** Why it has not taken the newest; null = it has, or has not answered yet. */
  readonly errorCode: ErrorCode | null;
}

/** Consumers that a feed names at most; beyond it, it names those that are furthest behind. */
export const MAX_CONSUMERS = 64;

/**
 * Brings identity snapshots to one kind of consumer.
 *
 * The agent calls `publish` for one snapshot at a time, newest last, and keeps the old SVID until every feed has
 * acknowledged the new one. A feed that cannot take a snapshot rejects with a typed error (`feed_failed`,
 * `hook_failed`, `file_unwritable`, ...), goes on serving the one before, and is tried again with back-off; it never
 * delays another.
 *
 * What its consumers make of a snapshot may come to light later: a feed tells each change of {@link Feed.consumers}
 * through the `onConsumersChange` of its options.
 */
export interface Feed {
  /** As configured; the `name` of the report to the CA. */
  readonly name: string;

  /**
   * Resolves once no consumer can be handed an older snapshot any more; not once every consumer has loaded it. A feed
   * that makes its consumer load (a hook, a transaction) resolves after that.
   */
  publish(snapshot: IdentitySnapshot, signal: AbortSignal): Promise<void>;

  /** Stops serving the identity (it expired): fails closed. Resolves when no consumer can be handed it. */
  withdraw(signal: AbortSignal): Promise<void>;

  /** The consumers as of now, at most {@link MAX_CONSUMERS}. */
  consumers(): readonly ConsumerStatus[];

  /** Frees what the feed holds: sockets, watchers. What it wrote stays. */
  close(): Promise<void>;
}
