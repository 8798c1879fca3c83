import type { Clock } from '../../host/clock.ts';

/** What a {@link ByteBudget} is made of. */
export interface ByteBudgetOptions {
  readonly bytesPerSecond: number;
  /** Bytes at once, after a rest. */
  readonly burstBytes: number;
  /** Longest wait that is given, milliseconds. */
  readonly maxWaitMs: number;
  readonly clock: Clock;
}

/** What one address has had, and has not been given time for yet. */
interface Debt {
  bytes: number;
  /** When `bytes` was right, monotonic. */
  atMs: number;
}

/** More are counted as one: whoever has so many addresses gets no more by it. */
const MAX_ADDRESSES = 256;

/**
 * Bounds how many bytes are read in a time, shared out evenly among the addresses that ask: a token bucket for each, whose
 * rate and size are those of the whole over the number of addresses that are in debt. Who is alone has all of it; a flood
 * from one address leaves to another one half, from two a third.
 */
export class ByteBudget {
  readonly #options: ByteBudgetOptions;
  readonly #debts = new Map<string, Debt>();

  constructor(options: ByteBudgetOptions) {
    this.#options = options;
  }

  /**
   * Takes `bytes` for an address, and gives after how many milliseconds they are its own; null, with nothing taken, where
   * that is longer than the longest wait.
   */
  take(address: string, bytes: number): number | null {
    const { bytesPerSecond, burstBytes, maxWaitMs, clock } = this.#options;
    const nowMs = clock.monotonic();
    this.#settle(nowMs);
    const name = this.#debts.has(address) || this.#debts.size < MAX_ADDRESSES ? address : 'others';
    const debt = this.#debts.get(name)?.bytes ?? 0;
    const shares = this.#debts.size + (this.#debts.has(name) ? 0 : 1);
    const overBytes = debt + bytes - burstBytes / shares;
    const waitMs = Math.max(0, (overBytes * 1_000 * shares) / bytesPerSecond);
    if (waitMs > maxWaitMs) return null;
    this.#debts.set(name, { bytes: debt + bytes, atMs: nowMs });
    return waitMs;
  }

  /** Lets the time since the last look pay. */
  #settle(nowMs: number): void {
    const perMs = this.#options.bytesPerSecond / 1_000 / Math.max(1, this.#debts.size);
    for (const [address, debt] of this.#debts) {
      debt.bytes -= (nowMs - debt.atMs) * perMs;
      debt.atMs = nowMs;
      if (debt.bytes <= 0) this.#debts.delete(address);
    }
  }
}
