import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import { constants } from 'node:crypto';
import type { SecureContextOptions } from 'node:tls';
import type { Clock } from '../../host/clock.ts';
import { boundConnections } from '../../host/connection-bound.ts';
import { errnoOf } from '../../host/errno.ts';
import { errorFields, type Log } from '../../host/log.ts';
import { isKedgeError, KedgeError, quote } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import type { ServingCertificate } from '../api/tls-listener.ts';
import { MUTATE_PATH } from '../inject/webhook-configuration.ts';
import type { Admission, AdmissionOutcome } from './admission.ts';
import { type AdmissionRequest, formatAdmissionReview, parseAdmissionReview } from './admission-review.ts';
import { ByteBudget } from './byte-budget.ts';
import { RequestBodies } from './request-bodies.ts';

/** What a {@link WebhookServer} is made of. */
export interface WebhookServerOptions {
  readonly certificate: ServingCertificate;
  /** Decides. A rejection is no answer: the API server goes by its failure policy. */
  readonly admit: (request: AdmissionRequest) => Promise<Admission>;
  readonly onOutcome: (outcome: AdmissionOutcome) => void;
  readonly clock: Clock;
  readonly log: Log;
}

/** Each has at most one request under way; the API server opens one for each pod that is created at once. */
const MAX_CONNECTIONS = 512;
/** Bytes of all bodies that are held: thousands of usual pods, a few of the largest. */
const MAX_HELD_BYTES = 32 * 1024 * 1024;
const MAX_HEADER_BYTES = 16 * 1024;
/** A request that is not there in this time is cut; the API server waits 30 seconds at most. */
const REQUEST_TIMEOUT_MS = 10_000;
/** Longer than the API server keeps an idle connection would be for nothing. */
const KEEP_ALIVE_MS = 90_000;
/**
 * Reading JSON strictly takes the time of the loop that signs SVIDs: whoever can reach the port, and it is not only the
 * API server, gets no more of it than some hundred pods a second need.
 */
const BYTES_PER_SECOND = 4 * 1024 * 1024;
const BURST_BYTES = 16 * 1024 * 1024;
/** A burst beyond that waits: a pod whose question is refused starts without its agent, or not at all. */
const MAX_WAIT_MS = 2_000;

/**
 * The HTTPS server of the webhook: `POST /mutate`, an AdmissionReview in, one out.
 *
 * It is not told who asks, and need not be: an answer depends on the request alone, changes nothing here, and holds no
 * secret. Whoever asks too much or too slowly is cut before others are: each bound gives way to newcomers, or is shared out
 * by address. A new certificate is for the connections to come.
 */
export class WebhookServer {
  readonly #options: WebhookServerOptions;
  readonly #server: Server;
  readonly #budget: ByteBudget;
  readonly #bodies = new RequestBodies({
    maxBytes: LIMITS.admissionReviewBytes,
    maxTotalBytes: MAX_HELD_BYTES,
  });

  constructor(options: WebhookServerOptions) {
    this.#options = options;
    this.#budget = new ByteBudget({
      bytesPerSecond: BYTES_PER_SECOND,
      burstBytes: BURST_BYTES,
      maxWaitMs: MAX_WAIT_MS,
      clock: options.clock,
    });
    this.#server = createServer(
      {
        ...contextOf(options.certificate),
        maxHeaderSize: MAX_HEADER_BYTES,
        headersTimeout: REQUEST_TIMEOUT_MS,
        requestTimeout: REQUEST_TIMEOUT_MS,
        connectionsCheckingInterval: 1_000,
        keepAliveTimeout: KEEP_ALIVE_MS,
        handshakeTimeout: REQUEST_TIMEOUT_MS,
      },
      (request, response) => void this.#answer(request, response),
    );
    boundConnections(this.#server, MAX_CONNECTIONS);
    // Clients that break off their handshake are theirs to explain.
    this.#server.on('tlsClientError', () => {});
  }

  /** Binds; gives the port. Throws `address_unavailable`. */
  listen(host: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      const onError = (cause: Error): void =>
        reject(
          new KedgeError(
            'address_unavailable',
            `the webhook cannot listen on ${quote(host)} port ${port}: ${errnoOf(cause) ?? 'unknown'}`,
            { hint: 'another process may have the port: choose another webhook.address, or stop it', cause },
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

  /** Connections from now on see this certificate. */
  use(certificate: ServingCertificate): void {
    this.#server.setSecureContext(contextOf(certificate));
  }

  /** Takes no more connections; those that are idle end, those with a request when it is answered. */
  stopListening(): void {
    this.#server.close();
    this.#server.closeIdleConnections();
  }

  /** Ends listening, and cuts what is still connected. */
  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // A connection that breaks is the API server's to explain, and to try again.
    request.on('error', () => {});
    response.on('error', () => {});
    try {
      const refusal = refusalOf(request);
      if (refusal !== null) return this.#refuse(response, ...refusal);
      // Not known any more when the connection has broken.
      const address = request.socket.remoteAddress ?? '';
      await this.#bodies.with(request, async (body) => {
        if (body === 'too large') return this.#refuse(response, 413, 'malformed', TOO_LARGE);
        if (body === 'displaced') return this.#options.onOutcome('overloaded');
        const waitMs = this.#budget.take(address, body.length);
        if (waitMs === null) return this.#refuse(response, 429, 'overloaded', BUSY);
        if (waitMs > 0) await this.#options.clock.sleep(waitMs);
        const review = parseAdmissionReview(body);
        const { answer, outcome } = await this.#options.admit(review);
        this.#options.onOutcome(outcome);
        send(response, 200, 'application/json', formatAdmissionReview(review, answer));
      });
    } catch (error) {
      this.#fail(request, response, error);
    }
  }

  #fail(request: IncomingMessage, response: ServerResponse, error: unknown): void {
    if (request.destroyed && !request.complete) return this.#options.onOutcome('malformed');
    if (isKedgeError(error, 'admission_review_malformed')) {
      return this.#refuse(response, 400, 'malformed', `${error.message}; ${error.hint ?? ''}`);
    }
    // Details are for the log: whoever asks may not be the API server.
    this.#options.log.error('admission.failed', { error: errorFields(error) });
    const isPassing = isKedgeError(error);
    this.#refuse(
      response,
      isPassing ? 503 : 500,
      'failed',
      isPassing ? error.message : 'a mistake in Kedge; its log says more',
    );
  }

  #refuse(response: ServerResponse, status: number, outcome: AdmissionOutcome, text: string): void {
    this.#options.onOutcome(outcome);
    // What the client still sends is not read.
    response.setHeader('connection', 'close');
    if (status === 405) response.setHeader('allow', 'POST');
    if (status === 429) response.setHeader('retry-after', '1');
    send(response, status, 'text/plain; charset=utf-8', `${text}\n`);
  }
}

const TOO_LARGE = `the AdmissionReview is over ${LIMITS.admissionReviewBytes} bytes`;
const BUSY = 'the webhook has as much to read as it takes; ask again';

/** What can be said without the body. */
function refusalOf(
  request: IncomingMessage,
): readonly [status: number, outcome: AdmissionOutcome, text: string] | null {
  const [path] = (request.url ?? '').split('?');
  if (path !== MUTATE_PATH) return [404, 'malformed', `there is ${MUTATE_PATH} alone`];
  if (request.method !== 'POST') return [405, 'malformed', 'only POST'];
  if (!/^application\/json(?:;|$)/.test(request.headers['content-type'] ?? '')) {
    return [415, 'malformed', 'the body must be application/json'];
  }
  if (Number(request.headers['content-length'] ?? 0) > LIMITS.admissionReviewBytes) {
    return [413, 'malformed', TOO_LARGE];
  }
  return null;
}

function send(response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
  });
  response.end(body);
}

function contextOf({ chainPem, keyPem }: ServingCertificate): SecureContextOptions {
  return { cert: chainPem, key: keyPem, minVersion: 'TLSv1.2', secureOptions: constants.SSL_OP_NO_TICKET };
}
