import type { Clock } from '../../host/clock.ts';
import { errorFields, type Log } from '../../host/log.ts';
import { instantOf, sleepUntilDeadline } from '../deadline.ts';
import { expiryOf } from '../renewal.ts';

/** Between two attempts to remove what has expired, milliseconds. */
const RETRY_MS = 1_000;

/** What {@link watchLeftover} is given. */
export interface LeftoverOptions {
  /** Name of the feed, for the log. */
  readonly feed: string;
  /** When the SVID that an earlier process left expires, milliseconds since the Unix epoch. */
  readonly notAfterMs: number;
  /**
   * Takes the leftover out of every consumer's reach. Must do nothing, and reject, when the signal is aborted before it
   * begins.
   */
  readonly remove: (signal: AbortSignal) => Promise<void>;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Removes what an earlier agent left behind once it has expired, and tries until it is gone, or until `signal` is
 * aborted: by what takes the place of the leftover, or by the end of the feed. Until then it stays, since a proxy may
 * live on it. What has expired already was tried once when this resolves. Never rejects.
 */
export async function watchLeftover(options: LeftoverOptions, signal: AbortSignal): Promise<void> {
  const { notAfterMs, clock } = options;
  const expiry = expiryOf(notAfterMs, instantOf(clock));
  if (notAfterMs <= clock.now() && (await isRemoved(options, signal))) return;
  const removeLater = async (): Promise<void> => {
    await sleepUntilDeadline(clock, expiry, signal);
    while (!(await isRemoved(options, signal))) await clock.sleep(RETRY_MS, signal);
  };
  // Rejects only with the reason of the signal.
  removeLater().catch(() => {});
}

async function isRemoved(
  { feed, notAfterMs, remove, log }: LeftoverOptions,
  signal: AbortSignal,
): Promise<boolean> {
  try {
    await remove(signal);
    if (!signal.aborted) log.warn('feed.leftover_removed', { feed, notAfterMs });
    return true;
  } catch (error) {
    if (signal.aborted) return true;
    log.error('feed.withdrawal_failed', { feed, error: errorFields(error) });
    return false;
  }
}
