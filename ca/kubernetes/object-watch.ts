import type { IncomingMessage } from 'node:http';
import type { Clock } from '../../host/clock.ts';
import { withDeadline } from '../../host/deadline.ts';
import { errnoOf } from '../../host/errno.ts';
import { isKedgeError, KedgeError } from '../../pki/kedge-error.ts';
import type { ApiConnection } from './api-connection.ts';
import type { ApiRequest } from './api-message.ts';
import { refusalOfAnswer, type RefusedRequest } from './api-refusal.ts';
import type { WatchEvent } from './kubernetes-api.ts';
import type { ResourceType } from './objects.ts';
import { linesOf, parseWatchEvent } from './watch-lines.ts';

/** What {@link watchObjects} takes. */
export interface ObjectWatchOptions {
  readonly connection: ApiConnection;
  readonly clock: Clock;
  readonly type: ResourceType;
  readonly request: ApiRequest;
  readonly refused: RefusedRequest;
  /** Until the answer begins, milliseconds. */
  readonly timeoutMs: number;
  /** How long the API server was asked to keep the watch open, seconds. */
  readonly timeoutSeconds: number;
  readonly signal: AbortSignal;
  /** Told when the watch has ended: `ok` or the error's code. */
  readonly onEnd: (code: string, durationMs: number) => void;
}

/** The API server closes a watch at its time; one that is still open this much later is dead. */
const WATCH_GRACE_MS = 10_000;

/** The events of one watch, as {@link KubernetesApi.watch} has them. */
export async function* watchObjects(options: ObjectWatchOptions): AsyncGenerator<WatchEvent> {
  const { connection, clock, type, request, refused, timeoutMs, timeoutSeconds, signal, onEnd } = options;
  const end = new AbortController();
  const stop = (): void => end.abort(signal.reason);
  signal.throwIfAborted();
  signal.addEventListener('abort', stop, { once: true });
  const startMs = clock.monotonic();
  let code = 'ok';
  let isDead = false;
  clock.sleep(timeoutSeconds * 1_000 + WATCH_GRACE_MS, end.signal).then(
    () => {
      isDead = true;
      end.abort();
    },
    () => undefined,
  );
  try {
    const message = await withDeadline({ clock, timeoutMs, what: 'the API server' }, end.signal, (head) =>
      // The signal of the head alone must not cut the events that come after it.
      connection.open(request, AbortSignal.any([head, end.signal])),
    );
    try {
      await refuseUnlessOpened(message, request, refused);
      yield { kind: 'opened' };
      for await (const line of linesOf(message, request.what)) yield parseWatchEvent(line, type, refused);
    } finally {
      message.destroy();
    }
  } catch (error) {
    signal.throwIfAborted();
    const failure = isDead || errnoOf(error) !== undefined ? brokenOff(request.what, error) : error;
    if (isKedgeError(failure)) code = failure.code;
    throw failure;
  } finally {
    onEnd(code, clock.monotonic() - startMs);
    end.abort();
    signal.removeEventListener('abort', stop);
  }
}

async function refuseUnlessOpened(
  message: IncomingMessage,
  { what }: ApiRequest,
  refused: RefusedRequest,
): Promise<void> {
  const status = message.statusCode ?? 0;
  if (status === 200) return;
  const body = await wholeOf(linesOf(message, what));
  throw refusalOfAnswer({ status, retryAfter: message.headers['retry-after'], body }, refused);
}

/** A watch whose connection broke, or on which the API server does not even end what is over. */
function brokenOff(what: string, cause: unknown): KedgeError {
  if (isKedgeError(cause)) return cause;
  return new KedgeError('kubernetes_unreachable', `${what}: the connection broke off`, { cause });
}

/** The lines of a short answer, joined: a Status is one line or a few. */
async function wholeOf(lines: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const line of lines) parts.push(line);
  return Buffer.concat(parts);
}
