import { type Clock, WALL_CLOCK_CHECK_MS } from '../host/clock.ts';

/** One moment on both clocks of the machine, in milliseconds. */
export interface Instant {
  /** Since the Unix epoch. The clock behind it may jump. */
  readonly wallMs: number;
  /** From an arbitrary start. The clock behind it stands still while the machine is suspended. */
  readonly monotonicMs: number;
}

/**
 * A moment to come on both clocks; it is reached when either clock has reached it.
 *
 * The wall clock alone would let an SVID live on when it is set back, the monotonic clock alone when the machine
 * was suspended. Whichever comes first errs on the safe side.
 */
export type Deadline = Instant;

/** The present moment. */
export function instantOf(clock: Clock): Instant {
  return { wallMs: clock.now(), monotonicMs: clock.monotonic() };
}

/** The moment `ms` milliseconds after `instant`. */
export function after(instant: Instant, ms: number): Deadline {
  return { wallMs: instant.wallMs + ms, monotonicMs: instant.monotonicMs + ms };
}

/** Milliseconds until `deadline`; zero or less when it is reached. */
export function msUntil(deadline: Deadline, now: Instant): number {
  return Math.min(deadline.wallMs - now.wallMs, deadline.monotonicMs - now.monotonicMs);
}

/** The one of two deadlines that is reached first, as seen at `now`. */
export function earlier(a: Deadline, b: Deadline, now: Instant): Deadline {
  return msUntil(b, now) < msUntil(a, now) ? b : a;
}

/**
 * Resolves when `deadline` is reached; never, where it is null. Sleeps in slices, so that a jump of the wall clock is
 * seen at most {@link WALL_CLOCK_CHECK_MS} later. Rejects with the signal's reason when aborted.
 */
export async function sleepUntilDeadline(
  clock: Clock,
  deadline: Deadline | null,
  signal: AbortSignal,
): Promise<void> {
  if (deadline === null) return await aborted(signal);
  for (;;) {
    const leftMs = msUntil(deadline, instantOf(clock));
    if (leftMs <= 0) return;
    await clock.sleep(Math.min(leftMs, WALL_CLOCK_CHECK_MS), signal);
  }
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    const fail = (): void => reject(signal.reason as Error);
    if (signal.aborted) fail();
    else signal.addEventListener('abort', fail, { once: true });
  });
}
