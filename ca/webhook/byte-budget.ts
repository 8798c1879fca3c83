import type { Clock } from '../../host/clock.ts';

/** What a {@link ByteBudget} is made of. */
export interface ByteBudgetOptions {
  readonly bytesPerSecond: number;
  /** Bytes at once, after a rest. */
  readonly burstBytes: number;
  readonly clock: Clock;
}

/** Bounds how many bytes are read in a time: a token bucket on the monotonic clock. */
export class ByteBudget {
  readonly #options: ByteBudgetOptions;
  /** When the bucket is full again. */
  #fullAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: ByteBudgetOptions) {
    this.#options = options;
  }

  /** Takes `bytes`, if the bucket holds them; else takes nothing and gives false. */
  take(bytes: number): boolean {
    const { bytesPerSecond, burstBytes, clock } = this.#options;
    const nowMs = clock.monotonic();
    const nextMs = Math.max(this.#fullAtMs, nowMs) + (bytes * 1_000) / bytesPerSecond;
    if (nextMs - nowMs > (burstBytes * 1_000) / bytesPerSecond) return false;
    this.#fullAtMs = nextMs;
    return true;
  }
}
