import { backoffMs } from '../host/backoff.ts';
import type { Clock } from '../host/clock.ts';
import { errorFields, type Log } from '../host/log.ts';
import type { Random } from '../host/random.ts';
import { isKedgeError } from '../pki/kedge-error.ts';

/** What {@link patiently} needs. */
export interface PatienceOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly signal: AbortSignal;
  /** Told of each failure, for whoever asks why the CA is not ready. */
  readonly onFailure: (reason: string) => void;
}

const BACKOFF = { baseMs: 500, capMs: 30_000 } as const;

/**
 * Does `work` until it succeeds, whatever it is refused for, with back-off and jitter. In a cluster a process that ends
 * because an object is broken would be started again without end, and say less each time; one that waits says why, and
 * goes on once the object is mended. Rejects when the signal aborts, and with what is no {@link KedgeError}.
 */
export async function patiently<T>(options: PatienceOptions, work: () => Promise<T>): Promise<T> {
  const { clock, random, log, signal, onFailure } = options;
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work();
    } catch (error) {
      if (signal.aborted || !isKedgeError(error)) throw error;
      const waitMs = Math.ceil(backoffMs(attempt, BACKOFF, random, error.retryAfterMs));
      log.warn('ca.start_waits', { ...errorFields(error), attempt, retryInMs: waitMs });
      onFailure(error.message);
      await clock.sleep(waitMs, signal);
    }
  }
}
