import type { Random } from './random.ts';

/** A back-off: the ceiling doubles from `baseMs` up to `capMs`. */
export interface BackoffOptions {
  /** Ceiling of the first wait, milliseconds. */
  readonly baseMs: number;
  /** Ceiling of every wait, milliseconds. */
  readonly capMs: number;
}

/**
 * How long to wait before attempt `attempt` (1 = after the first failure): full jitter, uniform between 0 and the
 * ceiling, but never less than `retryAfterMs` where the other side gave one (then jittered above it by up to the
 * ceiling, so that those told the same time do not return together).
 */
export function backoffMs(
  attempt: number,
  options: BackoffOptions,
  random: Random,
  retryAfterMs?: number,
): number {
  const ceilingMs = Math.min(options.capMs, options.baseMs * 2 ** Math.min(attempt - 1, 30));
  return (retryAfterMs ?? 0) + random.fraction() * ceilingMs;
}
