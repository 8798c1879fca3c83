import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { KedgeError, quote } from '../pki/kedge-error.ts';
import type { Clock } from './clock.ts';
import { boundConnections } from './connection-bound.ts';
import { errnoOf } from './errno.ts';

/** Whether the process can do its work now. */
export interface Readiness {
  readonly ready: boolean;
  /** Why not; goes to whoever asks, so it names no secret. */
  readonly reason: string;
}

/** What an {@link HttpEndpoint} is made of. */
export interface HttpEndpointOptions {
  /** The metrics in Prometheus' text format. */
  readonly metrics: () => string;
  readonly readiness: () => Readiness;
  /** JSON documents by path, beside those three; each is made when it is asked for, and holds no secret. */
  readonly documents?: ReadonlyMap<string, () => string>;
  readonly clock: Clock;
}

const MAX_CONNECTIONS = 64;
const MAX_HEADER_BYTES = 8 * 1024;
const REQUEST_TIMEOUT_MS = 5_000;
const KEEP_ALIVE_MS = 5_000;
/** The metrics are made in at most one of so many parts of the time: they count a whole fleet, and anyone may ask. */
const METRICS_PARTS = 10;

/**
 * The small HTTP server for Prometheus and the kubelet: `/metrics`, `/livez`, `/readyz`, by GET or HEAD, in the
 * clear and without a secret. Liveness says only that the event loop turns; readiness answers 503 with the reason.
 */
export class HttpEndpoint {
  readonly #server: Server;

  constructor(given: HttpEndpointOptions) {
    const options = { ...given, metrics: sparing(given.metrics, given.clock) };
    this.#server = createServer(
      {
        maxHeaderSize: MAX_HEADER_BYTES,
        headersTimeout: REQUEST_TIMEOUT_MS,
        requestTimeout: REQUEST_TIMEOUT_MS,
        connectionsCheckingInterval: REQUEST_TIMEOUT_MS,
        keepAliveTimeout: KEEP_ALIVE_MS,
      },
      (request, response) => answer(options, request, response),
    );
    boundConnections(this.#server, MAX_CONNECTIONS);
  }

  /** Binds; gives the port. Throws `address_unavailable`. */
  listen(host: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      const onError = (cause: Error): void =>
        reject(
          new KedgeError(
            'address_unavailable',
            `cannot listen on ${quote(host)} port ${port}: ${errnoOf(cause) ?? 'unknown'}`,
            { hint: 'another process may have the port: choose another one, or stop it', cause },
          ),
        );
      this.#server.once('error', onError);
      this.#server.listen({ host, port }, () => {
        this.#server.removeListener('error', onError);
        const address = this.#server.address();
        resolve(typeof address === 'object' && address !== null ? address.port : port);
      });
    });
  }

  /** Stops listening and ends every connection. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }
}

/** The text, or for some times as long as it took to make it, the one before. */
function sparing(make: () => string, clock: Clock): () => string {
  let made = { text: '', untilMs: Number.NEGATIVE_INFINITY };
  return () => {
    const beganMs = clock.monotonic();
    if (beganMs < made.untilMs) return made.text;
    const text = make();
    const endedMs = clock.monotonic();
    made = { text, untilMs: endedMs + (endedMs - beganMs) * (METRICS_PARTS - 1) };
    return text;
  };
}

function answer(options: HttpEndpointOptions, request: IncomingMessage, response: ServerResponse): void {
  const { status, body, type = 'text/plain; charset=utf-8' } = route(options, request);
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    ...(status === 405 ? { allow: 'GET, HEAD' } : {}),
    // What the client still sends is not read.
    ...(status >= 400 && status !== 503 ? { connection: 'close' } : {}),
  });
  response.end(request.method === 'HEAD' ? undefined : body);
}

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly type?: string;
}

function route({ metrics, readiness, documents }: HttpEndpointOptions, request: IncomingMessage): Answer {
  if (request.method !== 'GET' && request.method !== 'HEAD')
    return { status: 405, body: 'only GET and HEAD\n' };
  const [path = ''] = (request.url ?? '').split('?');
  switch (path) {
    case '/metrics':
      return { status: 200, body: metrics(), type: 'text/plain; version=0.0.4; charset=utf-8' };
    case '/livez':
      return { status: 200, body: 'ok\n' };
    case '/readyz': {
      const { ready, reason } = readiness();
      return ready ? { status: 200, body: 'ok\n' } : { status: 503, body: `not ready: ${reason}\n` };
    }
    default: {
      const document = documents?.get(path);
      if (document !== undefined) return { status: 200, body: document(), type: 'application/json' };
      const known = ['/metrics', '/livez', '/readyz', ...(documents?.keys() ?? [])];
      return { status: 404, body: `there are ${known.join(', ')}\n` };
    }
  }
}
