import type { Clock } from '../../host/clock.ts';
import { Wakeup } from '../../host/wakeup.ts';

/** Nothing wakes who waits for nothing but this, milliseconds. */
const IDLE_MS = 600_000;

/** When each of many things is to be looked at next, by name: the soonest that anybody asked for. */
export class LookSchedule {
  readonly #clock: Clock;
  /** Monotonic, milliseconds. */
  readonly #due = new Map<string, number>();
  readonly #changes = new Wakeup();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** To be looked at in `ms` milliseconds, unless that is to be sooner anyway. */
  dueIn(name: string, ms: number): void {
    const atMs = this.#clock.monotonic() + ms;
    const known = this.#due.get(name);
    if (known !== undefined && known <= atMs) return;
    this.#due.set(name, atMs);
    this.#changes.wake();
  }

  /** Waits until one is due, and takes it off. Rejects with the signal's reason. */
  async next(signal: AbortSignal): Promise<string> {
    for (;;) {
      signal.throwIfAborted();
      const generation = this.#changes.generation;
      const first = this.#first();
      const waitMs = first === null ? IDLE_MS : first.atMs - this.#clock.monotonic();
      if (first !== null && waitMs <= 0) {
        this.#due.delete(first.name);
        return first.name;
      }
      await this.#changes.sleep(generation, (end) => this.#clock.sleep(waitMs, end), signal);
    }
  }

  #first(): { readonly name: string; readonly atMs: number } | null {
    let first: { readonly name: string; readonly atMs: number } | null = null;
    for (const [name, atMs] of this.#due) {
      if (first === null || atMs < first.atMs) first = { name, atMs };
    }
    return first;
  }
}
