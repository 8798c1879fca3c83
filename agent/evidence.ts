import { type ConsumerStatus, EVIDENCE, type Evidence, MAX_CONSUMERS } from './feed/feed.ts';
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
 * The newest snapshot that a consumer provably holds: of the grade that is the best it can give, and of no weaker one.
 * Null (or undefined, where the caller has that for none) = nothing is proven of it. The one rule for the report to the
 * CA, the metrics and the CLI.
 *
 * A gate of the rotation lets go of an anchor by this. So what was only written to a consumer that can acknowledge counts
 * for nothing, however new the consumer is: a proxy that opens its stream again, or refuses what it was sent there,
 * goes on with what an earlier stream gave it, and we do not know what that was. Until it answers or leaves it is a
 * straggler, as one is that reads and never answers. Of a consumer that cannot acknowledge, what was written is all that
 * there will ever be.
 */
export function heldByConsumer<Held>({
  best,
  delivered,
  loaded,
}: {
  readonly best: Exclude<Evidence, 'proven'>;
  readonly delivered: Held;
  readonly loaded: Held;
}): Held {
  return best === 'loaded' ? loaded : delivered;
}

/** Refusals, then those of whom nothing is proven, then the oldest: what a reader must not miss comes first. */
export function worstFirst(consumers: readonly ConsumerStatus[]): readonly ConsumerStatus[] {
  const rank = (consumer: ConsumerStatus): number =>
    consumer.errorCode === null ? (heldByConsumer(consumer)?.generation ?? -1) : -2;
  return consumers.toSorted((a, b) => rank(a) - rank(b));
}

/**
 * Those that a feed names of its consumers, {@link MAX_CONSUMERS} at most: the worst. All that is proven of a feed rests
 * on these, so that one that is behind must never be missing for others that are not.
 */
export function namedConsumers(all: readonly ConsumerStatus[]): readonly ConsumerStatus[] {
  return all.length <= MAX_CONSUMERS ? all : worstFirst(all).slice(0, MAX_CONSUMERS);
}

/** Whether a consumer does not provably hold the snapshot of generation `newest`, or refuses something of it. */
export function isBehind(consumer: ConsumerStatus, newest: number): boolean {
  return consumer.errorCode !== null || heldByConsumer(consumer)?.generation !== newest;
}

/**
 * The oldest snapshot that a consumer of the feed may still use, see {@link heldByConsumer}: all that is proven of the
 * feed. Null = nothing is, because nothing is in place, or because nothing is proven of one of the consumers.
 *
 * Without consumers it is what is in place: whoever comes is handed that and nothing older.
 */
export function heldByFeed({ inPlace, consumers }: FeedStatus): HeldSnapshot | null {
  if (inPlace === null) return null;
  let oldest = heldSnapshot(inPlace);
  for (const consumer of consumers) {
    const held = heldByConsumer(consumer);
    if (held === null) return null;
    if (held.generation < oldest.generation) oldest = held;
  }
  return oldest;
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

/**
 * The first of the feeds that has nothing for its consumers yet; undefined = each has. Whether a consumer has taken it is
 * another question: a hook may fail, and a HAProxy be away, for as long as the proxy waits for the agent to be ready.
 */
export function firstEmptyFeed(feeds: readonly FeedStatus[]): FeedStatus | undefined {
  return feeds.find(
    ({ inPlace, consumers }) => inPlace === null && !consumers.some(({ delivered }) => delivered !== null),
  );
}
