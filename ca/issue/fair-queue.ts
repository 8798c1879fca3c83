import type { Clock } from '../../host/clock.ts';
import { KedgeError, quote } from '../../pki/kedge-error.ts';

/** What a {@link FairQueue} is made of. */
export interface FairQueueOptions<T> {
  /** Items that wait at most, over all instances. */
  readonly capacity: number;
  /** Items of one instance that wait at most. */
  readonly instanceCapacity: number;
  readonly clock: Clock;
  /** Whether the caller of an item has left: such an item is handed to nobody. */
  readonly hasLeft: (item: T) => boolean;
}

/** Bounds of what a refused caller is told to wait, milliseconds. */
export const RETRY_AFTER_MS = { min: 50, max: 30_000 } as const;

/** What one item is thought to take until it was measured, milliseconds. */
const ASSUMED_ITEM_MS = 1;

/** Weight of the newest measurement in the moving average. */
const NEWEST_WEIGHT = 0.2;

/**
 * A bounded queue with a fair share for each workload instance: instances take turns, one item at a time, so that
 * one that asks a thousand times waits for itself, not the others for it. First in, first out within an instance.
 *
 * Items whose caller has left still hold their place until their turn comes, and then cost nothing: an instance that
 * asks and leaves, again and again, gains no room by it.
 */
export class FairQueue<T> {
  readonly #options: FairQueueOptions<T>;
  /** In the order of their next turn. An instance is here exactly while it has items. */
  readonly #instances = new Map<string, T[]>();
  #size = 0;
  #itemMs = ASSUMED_ITEM_MS;
  /** The last take that left items behind: what the pace is measured from. */
  #lastTake: { readonly atMs: number; readonly items: number } | null = null;

  constructor(options: FairQueueOptions<T>) {
    this.#options = options;
  }

  /** Items that wait, those of callers who left included. */
  get size(): number {
    return this.#size;
  }

  /** Instances with items that wait. */
  get instances(): number {
    return this.#instances.size;
  }

  /**
   * Adds an item. Throws `instance_overloaded` and `overloaded`, with the time in which the measured pace will have
   * served what is ahead.
   */
  add(instance: string, item: T): void {
    const own = this.#instances.get(instance);
    if (own !== undefined && own.length >= this.#options.instanceCapacity) {
      throw new KedgeError(
        'instance_overloaded',
        `the workload instance ${quote(instance)} has ${own.length} requests waiting`,
        {
          hint: 'ask once and wait for the answer',
          // Its items come one in each round of all instances.
          retryAfterMs: this.#retryAfterMs(Math.min(this.#size, own.length * this.#instances.size)),
        },
      );
    }
    if (this.#size >= this.#options.capacity) {
      throw new KedgeError('overloaded', `${this.#size} requests wait already`, {
        hint: 'retry after the time given',
        retryAfterMs: this.#retryAfterMs(this.#size),
      });
    }
    if (own === undefined) this.#instances.set(instance, [item]);
    else own.push(item);
    this.#size += 1;
  }

  /** Takes up to `max` items whose callers still wait, in turn. `onLeft` gets the others that came up meanwhile. */
  take(max: number, onLeft: (item: T) => void): readonly T[] {
    this.#measure();
    const taken: T[] = [];
    while (taken.length < max) {
      const item = this.#next();
      if (item === undefined) break;
      if (this.#options.hasLeft(item)) onLeft(item);
      else taken.push(item);
    }
    this.#lastTake =
      this.#size === 0 ? null : { atMs: this.#options.clock.monotonic(), items: Math.max(1, taken.length) };
    return taken;
  }

  #next(): T | undefined {
    for (const [instance, items] of this.#instances) {
      const item = items.shift();
      this.#instances.delete(instance);
      // To the end of the line: the others have their turn first.
      if (items.length > 0) this.#instances.set(instance, items);
      this.#size -= 1;
      return item;
    }
    return undefined;
  }

  /** Between two takes with items left in between, the CA was busy all the time: that is its pace. */
  #measure(): void {
    if (this.#lastTake === null) return;
    const elapsedMs = this.#options.clock.monotonic() - this.#lastTake.atMs;
    const itemMs = elapsedMs / this.#lastTake.items;
    this.#itemMs += NEWEST_WEIGHT * (itemMs - this.#itemMs);
  }

  #retryAfterMs(itemsAhead: number): number {
    const estimateMs = Math.ceil(itemsAhead * this.#itemMs);
    return Math.min(RETRY_AFTER_MS.max, Math.max(RETRY_AFTER_MS.min, estimateMs));
  }
}
