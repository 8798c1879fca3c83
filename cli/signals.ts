import { constants } from 'node:os';

/** A signal to drain by, and the way to stop listening. */
export interface DrainSignal extends Disposable {
  /** Aborts at the first SIGTERM or SIGINT; the reason is the signal's name. */
  readonly signal: AbortSignal;
}

/**
 * Turns SIGTERM and SIGINT into an abort signal: the first one drains, a second one ends the process at once with
 * 128 + the signal's number, as a shell reports it.
 */
export function drainSignal(): DrainSignal {
  const controller = new AbortController();
  const onSignal = (name: NodeJS.Signals): void => {
    if (controller.signal.aborted) process.exit(128 + constants.signals[name]);
    controller.abort(name);
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      process.off('SIGTERM', onSignal);
      process.off('SIGINT', onSignal);
    },
  };
}

/** Resolves when the signal aborts. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
