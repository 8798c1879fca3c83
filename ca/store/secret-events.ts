import type { Clock } from '../../host/clock.ts';
import { withDeadline } from '../../host/deadline.ts';
import type { KubernetesApi, WatchEvent, WatchOptions } from '../kubernetes/kubernetes-api.ts';
import { SECRET } from '../kubernetes/objects.ts';
import { closed } from './kubernetes-store-error.ts';

/** A watch that has said nothing for so much longer than the API server was to keep it open is dead, milliseconds. */
const WATCH_GRACE_MS = 15_000;

/**
 * The events of one watch of Secrets. Each is waited for a bounded time: a connection that is dead may never say so.
 * Throws what {@link KubernetesApi.watch} does, `deadline_exceeded`.
 */
export async function* secretEvents(
  { api, clock }: { readonly api: Pick<KubernetesApi, 'watch'>; readonly clock: Clock },
  { signal, ...options }: WatchOptions,
): AsyncGenerator<WatchEvent> {
  const deadline = {
    clock,
    timeoutMs: options.timeoutSeconds * 1_000 + WATCH_GRACE_MS,
    what: 'the watch of the trust store',
  };
  const leave = new AbortController();
  const stop = (): void => leave.abort(signal.reason);
  signal.addEventListener('abort', stop, { once: true });
  const steps = api.watch(SECRET, { ...options, signal: leave.signal })[Symbol.asyncIterator]();
  try {
    for (;;) {
      const step = await withDeadline(deadline, signal, () => steps.next());
      if (step.done === true) return;
      yield step.value;
    }
  } finally {
    signal.removeEventListener('abort', stop);
    leave.abort(closed());
  }
}
