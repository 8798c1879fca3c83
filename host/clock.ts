/** Time as the rest of Kedge sees it: injected everywhere, so that tests own it. */
export interface Clock {
  /** Wall clock, milliseconds since the Unix epoch. May jump. */
  now(): number;
  /** Monotonic clock, milliseconds from an arbitrary start. Never goes back. */
  monotonic(): number;
  /** Resolves after `ms` milliseconds of the monotonic clock. Rejects with the signal's reason when aborted. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** The longest that {@link sleepUntil} sleeps before it looks at the wall clock again, in milliseconds. */
export const WALL_CLOCK_CHECK_MS = 10_000;

/** The clock of the machine. */
export const systemClock: Clock = {
  now: () => Date.now(),
  // Not performance.now(), whose module costs an agent a third of a megabyte.
  monotonic: () => Number(process.hrtime.bigint()) / 1e6,
  // Not that of node:timers/promises, which makes an error with a stack of its own for each timer that is given up:
  // that is each deadline that was met.
  sleep: (ms, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(signal.reason as Error);
        return;
      }
      const leave = (): void => {
        clearTimeout(timer);
        reject(signal?.reason as Error);
      };
      const timer = setTimeout(
        () => {
          signal?.removeEventListener('abort', leave);
          resolve();
        },
        Math.max(0, Math.min(ms, 2 ** 31 - 1)),
      );
      signal?.addEventListener('abort', leave, { once: true });
    }),
};

/**
 * Resolves when the wall clock has reached `atMs`.
 *
 * Sleeps in slices, because a wall clock that jumps (suspend, NTP step) does not move the monotonic timers: the
 * jump is seen at most {@link WALL_CLOCK_CHECK_MS} later.
 */
export async function sleepUntil(clock: Clock, atMs: number, signal?: AbortSignal): Promise<void> {
  for (;;) {
    const leftMs = atMs - clock.now();
    if (leftMs <= 0) return;
    await clock.sleep(Math.min(leftMs, WALL_CLOCK_CHECK_MS), signal);
  }
}
