import { type Clock, WALL_CLOCK_CHECK_MS } from './clock.ts';

/** How far the wall clock may fall behind the monotonic one before that counts as a jump, milliseconds. */
const JUMP_MS = 1_000;

/**
 * Resolves when the wall clock has reached `atMs`, like `sleepUntil`; also when it has jumped back meanwhile, because
 * whoever waits must then decide anew: what was valid when it fell asleep may not be valid yet. Either is seen at
 * most {@link WALL_CLOCK_CHECK_MS} later.
 */
export async function sleepUntilOrJumpBack(clock: Clock, atMs: number, signal: AbortSignal): Promise<void> {
  const aheadMs = clock.now() - clock.monotonic();
  for (;;) {
    const leftMs = atMs - clock.now();
    if (leftMs <= 0 || clock.now() - clock.monotonic() < aheadMs - JUMP_MS) return;
    await clock.sleep(Math.min(leftMs, WALL_CLOCK_CHECK_MS), signal);
  }
}
