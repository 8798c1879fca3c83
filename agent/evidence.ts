import { type ConsumerStatus, EVIDENCE, type Evidence } from './feed/feed.ts';
import type { ErrorCode } from '../pki/error-table.ts';
import { type HeldSnapshot, heldSnapshot, type IdentitySnapshot } from './snapshot.ts';

/** One feed at one moment: what it serves, and what each of its consumers made of it. */
export interface FeedStatus {
  readonly name: string;
  /** The snapshot that the feed acknowledged last; null = none, or withdrawn. */
  readonly inPlace: IdentitySnapshot | null;
  readonly consumers: readonly ConsumerStatus[];
  /** Of the newest failed publication; null after a success. */
  readonly errorCode: ErrorCode | null;
}

/**
 * The oldest snapshot that a consumer of the feed may still use, each consumer taken at the best grade that it can
 * give: all that is proven of the feed. Null = nothing is.
 *
 * A consumer that has acknowledged nothing yet and refused nothing has only just come: what it is handed first is what
 * is in place. One that refused may still use what it had before we knew it.
 */
export function heldByFeed({ inPlace, consumers }: FeedStatus): HeldSnapshot | null {
  if (inPlace === null) return null;
  let oldest = heldSnapshot(inPlace);
  for (const consumer of consumers) {
    const held = heldByConsumer(consumer);
    if (held !== null && held.generation < oldest.generation) oldest = held;
    if (held === null && consumer.errorCode !== null) return null;
  }
  return oldest;
}

/** The newest snapshot that a consumer holds at the best grade that it can give. */
export function heldByConsumer({ best, delivered, loaded }: ConsumerStatus): HeldSnapshot | null {
  return best === 'loaded' ? loaded : delivered;
}

/** What every feed provably has; null when one of them has nothing. */
export function heldByAll(feeds: readonly FeedStatus[]): HeldSnapshot | null {
  let oldest: HeldSnapshot | null = null;
  for (const feed of feeds) {
    const held = heldByFeed(feed);
    if (held === null) return null;
    if (oldest === null || held.generation < oldest.generation) oldest = held;
  }
  return oldest;
}

/** The grade of {@link heldByFeed}: the weakest of what the consumers can give. Null without a snapshot in place. */
export function gradeOfFeed({ inPlace, consumers }: FeedStatus): Evidence | null {
  if (inPlace === null) return null;
  const grades = consumers.map(({ best }) => EVIDENCE.indexOf(best));
  return EVIDENCE[Math.min(...grades)] ?? 'delivered';
}

/** Why the feed, or the first of its consumers that refused, is not at the newest; null = nothing failed. */
export function failureOfFeed({ errorCode, consumers }: FeedStatus): ErrorCode | null {
  return errorCode ?? consumers.find((consumer) => consumer.errorCode !== null)?.errorCode ?? null;
}

/** The oldest snapshot that a feed has in place: older ones can reach nobody. Null when one of them has none. */
export function oldestInPlace(feeds: readonly FeedStatus[]): IdentitySnapshot | null {
  let oldest: IdentitySnapshot | null = null;
  for (const { inPlace } of feeds) {
    if (inPlace === null) return null;
    if (oldest === null || inPlace.generation < oldest.generation) oldest = inPlace;
  }
  return oldest;
}
