import type { Clock } from '../../host/clock.ts';

/** What an {@link OverdueWatch} is made of. */
export interface OverdueWatchOptions<T> {
  readonly clock: Clock;
  /** How long something may take, milliseconds. */
  readonly timeoutMs: number;
  /** Told of each thing that took longer; it is watched no more then. */
  readonly onOverdue: (item: T) => void;
}

/** Things that have begun and must end in time. Costs one timer while there are any, and none while there are none. */
export class OverdueWatch<T> {
  readonly #options: OverdueWatchOptions<T>;
  /** When each began, on the monotonic clock; the one that began first comes first. */
  readonly #sinceMs = new Map<T, number>();
  /** Ends the sleep under way; null = there is none. */
  #sleep: AbortController | null = null;

  constructor(options: OverdueWatchOptions<T>) {
    this.#options = options;
  }

  get size(): number {
    return this.#sinceMs.size;
  }

  /** The one that began first. */
  get oldest(): T | undefined {
    return this.#sinceMs.keys().next().value;
  }

  has(item: T): boolean {
    return this.#sinceMs.has(item);
  }

  /** It begins now, also where it had begun before. */
  add(item: T): void {
    this.#sinceMs.delete(item);
    this.#sinceMs.set(item, this.#options.clock.monotonic());
    this.#watch();
  }

  /** It has ended. Harmless when repeated. */
  delete(item: T): void {
    this.#sinceMs.delete(item);
    if (this.#sinceMs.size > 0) return;
    this.#sleep?.abort();
    this.#sleep = null;
  }

  #watch(): void {
    const [firstMs] = this.#sinceMs.values();
    if (firstMs === undefined || this.#sleep !== null) return;
    const { clock, timeoutMs } = this.#options;
    const sleep = new AbortController();
    this.#sleep = sleep;
    clock.sleep(firstMs + timeoutMs - clock.monotonic(), sleep.signal).then(
      () => {
        if (this.#sleep !== sleep) return;
        this.#sleep = null;
        this.#tell();
        this.#watch();
      },
      () => {},
    );
  }

  #tell(): void {
    const { clock, timeoutMs, onOverdue } = this.#options;
    const overdueMs = clock.monotonic() - timeoutMs;
    const overdue = [...this.#sinceMs].filter(([, sinceMs]) => sinceMs <= overdueMs);
    for (const [item] of overdue) this.#sinceMs.delete(item);
    for (const [item] of overdue) onOverdue(item);
  }
}
