import type { Clock } from '../../host/clock.ts';

/** A token bucket: `burst` at once, and one more after each `intervalMs`. */
export interface Rate {
  readonly burst: number;
  /** Milliseconds. */
  readonly intervalMs: number;
}

/** What a {@link RefusalBudget} is made of. */
export interface RefusalBudgetOptions {
  /** What each key may take. */
  readonly perKey: Rate;
  /** What all keys together may take: it holds also against one who comes under ever new keys. */
  readonly overall: Rate;
  /** Keys that are remembered; beyond it the one that took least lately is forgotten, and has a full bucket again. */
  readonly maxKeys: number;
  readonly clock: Clock;
}

/** Bounds how often something may be done: for each key, and over all of them. In bounded memory. */
export class RefusalBudget {
  readonly #options: RefusalBudgetOptions;
  /** When the bucket of each key is full again, on the monotonic clock. The one that took least lately comes first. */
  readonly #fullAtMs = new Map<string, number>();
  /** The same of the bucket that all share. */
  #allFullAtMs = 0;

  constructor(options: RefusalBudgetOptions) {
    this.#options = options;
  }

  /** Keys that are remembered. */
  get keys(): number {
    return this.#fullAtMs.size;
  }

  /** Takes one for `key`, if its bucket and the one of all hold one; else takes nothing and gives false. */
  take(key: string): boolean {
    const { perKey, overall, maxKeys, clock } = this.#options;
    const nowMs = clock.monotonic();
    const own = taken(perKey, this.#fullAtMs.get(key) ?? nowMs, nowMs);
    const all = taken(overall, this.#allFullAtMs, nowMs);
    if (own === null || all === null) return false;
    this.#allFullAtMs = all;
    this.#fullAtMs.delete(key);
    this.#fullAtMs.set(key, own);
    for (const oldest of this.#fullAtMs.keys()) {
      if (this.#fullAtMs.size <= maxKeys) break;
      this.#fullAtMs.delete(oldest);
    }
    return true;
  }
}

/** When a bucket is full again once one more was taken from it; null when it holds none. */
function taken({ burst, intervalMs }: Rate, fullAtMs: number, nowMs: number): number | null {
  const next = Math.max(fullAtMs, nowMs) + intervalMs;
  return next - nowMs <= burst * intervalMs ? next : null;
}
