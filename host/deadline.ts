import { KedgeError } from '../pki/kedge-error.ts';
import type { Clock } from './clock.ts';

/** How long something outside may take. */
export interface Deadline {
  readonly clock: Clock;
  /** Milliseconds. */
  readonly timeoutMs: number;
  /** What is waited for, as it stands in the message: "the trust store". */
  readonly what: string;
}

/** Why a timer is given up: given, because the default is an error whose stack costs more than the timer. */
const MET = 'the deadline was met';

/**
 * Runs `work` with a signal that aborts with `signal`, or when the time is over. Rejects then at once, with the
 * reason of `signal` or `deadline_exceeded`, even if `work` does not look at its signal.
 */
export async function withDeadline<T>(
  { clock, timeoutMs, what }: Deadline,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  signal.throwIfAborted();
  const end = new AbortController();
  const ended = Promise.withResolvers<never>();
  const stop = (reason: unknown): void => {
    end.abort(reason);
    ended.reject(reason);
  };
  const onAbort = (): void => stop(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  const timer = new AbortController();
  clock.sleep(timeoutMs, timer.signal).then(
    () => stop(new KedgeError('deadline_exceeded', `${what} did not answer in ${timeoutMs} ms`)),
    () => undefined,
  );
  try {
    return await Promise.race([work(end.signal), ended.promise]);
  } finally {
    timer.abort(MET);
    signal.removeEventListener('abort', onAbort);
  }
}
