import {
  Agent as HttpAgent,
  type ClientRequest,
  type IncomingMessage,
  request as httpRequest,
  type RequestOptions,
} from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { SecureContext } from 'node:tls';
import { errnoOf } from '../../host/errno.ts';
import { KEDGE_VERSION } from '../../host/version.ts';
import { KedgeError } from '../../pki/kedge-error.ts';
import { answerInvalid } from './api-answer.ts';

/** What goes with a request so that the API server knows us, and we know it. */
export interface PresentedCredentials {
  /** Value of the `authorization` header. */
  readonly authorization: string | undefined;
  /** Trusted CAs and client certificate; the same object for as long as they stay the same. */
  readonly secureContext: SecureContext;
}

/** Where {@link PresentedCredentials} come from. */
export interface ApiCredentials {
  /** Those of this moment. Throws `config_invalid`, `file_unreadable` while there have never been any. */
  present(): Promise<PresentedCredentials> | PresentedCredentials;
  /** The API server did not accept them: what is read from elsewhere is read again before the next request. */
  refused(): void;
}

/** What an {@link ApiConnection} is made of. */
export interface ApiConnectionOptions {
  /** `https:`, or `http:` on loopback; a path is put before every path. */
  readonly server: URL;
  /** The name that the certificate must have, where that is not the host. */
  readonly tlsServerName?: string;
  readonly credentials: ApiCredentials;
  /** How many calls go on at once; more wait. Watches do not count. */
  readonly connections: number;
}

/** One request, complete. */
export interface ApiRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** With query. */
  readonly path: string;
  readonly body?: { readonly type: string; readonly text: string };
  /** Longest answer that is taken, bytes. */
  readonly maxBytes: number;
  /** True when it changes nothing, so that it may be sent again over a new connection. */
  readonly isRead: boolean;
  /** In words, for messages. */
  readonly what: string;
}

/** An answer, whole. */
export interface ApiAnswer {
  readonly status: number;
  readonly retryAfter: string | undefined;
  readonly body: Buffer;
}

interface Agents {
  readonly secureContext: SecureContext;
  readonly calls: HttpAgent;
  readonly watches: HttpAgent;
}

/** As kubectl: kube-apiserver answers 406 where JSON alone is taken, for its keys are `application/jwk-set+json`. */
const ACCEPT = 'application/json, */*';

/** Idle connections that are kept. */
const MAX_FREE_SOCKETS = 32;

/**
 * HTTP/1.1 to one API server over connections that are kept: one request, one bounded answer. Knows no object.
 *
 * A read whose kept connection turns out to be closed is sent once more, over a new one; nothing else is repeated.
 * Throws `kubernetes_unreachable`, `kubernetes_answer_invalid` (caused by `message_too_large` where the answer is), or the
 * signal's reason.
 */
export class ApiConnection {
  readonly #options: ApiConnectionOptions;
  readonly #pathPrefix: string;
  #agents: Agents | null = null;

  constructor(options: ApiConnectionOptions) {
    this.#options = options;
    this.#pathPrefix = options.server.pathname.replace(/\/+$/, '');
  }

  /** Sends a request and reads the answer, whatever its status. */
  async exchange(request: ApiRequest, signal: AbortSignal): Promise<ApiAnswer> {
    const message = await this.#send(request, signal, 'calls');
    const status = message.statusCode ?? 0;
    const body = await readBody(message, request, signal);
    this.#noteRefusal(status);
    return { status, retryAfter: message.headers['retry-after'], body };
  }

  /** Sends a request and gives the answer when its head is there. The caller reads it to its end or destroys it. */
  async open(request: ApiRequest, signal: AbortSignal): Promise<IncomingMessage> {
    const message = await this.#send(request, signal, 'watches');
    this.#noteRefusal(message.statusCode ?? 0);
    return message;
  }

  /** Closes the idle connections. */
  close(): void {
    if (this.#agents !== null) retire(this.#agents);
    this.#agents = null;
  }

  async #send(request: ApiRequest, signal: AbortSignal, pool: 'calls' | 'watches'): Promise<IncomingMessage> {
    const presented = await this.#options.credentials.present();
    signal.throwIfAborted();
    for (let isSecond = false; ; isSecond = true) {
      const sent = this.#begin(request, presented, pool, signal);
      try {
        return await headOf(sent, request.body?.text);
      } catch (cause) {
        signal.throwIfAborted();
        const wasClosed = sent.reusedSocket && ['ECONNRESET', 'EPIPE'].includes(errnoOf(cause) ?? '');
        if (wasClosed && request.isRead && !isSecond) continue;
        throw unreachable(this.#options.server, request.what, cause);
      }
    }
  }

  #begin(
    request: ApiRequest,
    { authorization, secureContext }: PresentedCredentials,
    pool: 'calls' | 'watches',
    signal: AbortSignal,
  ): ClientRequest {
    const { server, tlsServerName } = this.#options;
    const { body } = request;
    const options: RequestOptions & { servername?: string } = {
      protocol: server.protocol,
      // A URL keeps the brackets of an IPv6 address, a socket wants none.
      hostname: server.hostname.replace(/^\[|\]$/g, ''),
      port: server.port === '' ? (server.protocol === 'https:' ? 443 : 80) : server.port,
      method: request.method,
      path: `${this.#pathPrefix}${request.path}`,
      agent: this.#agentsFor(secureContext)[pool],
      signal,
      headers: {
        accept: ACCEPT,
        'user-agent': `kedge/${KEDGE_VERSION}`,
        ...(authorization === undefined ? {} : { authorization }),
        ...(body === undefined
          ? {}
          : { 'content-type': body.type, 'content-length': Buffer.byteLength(body.text) }),
      },
      ...(tlsServerName === undefined ? {} : { servername: tlsServerName }),
    };
    return server.protocol === 'https:' ? httpsRequest(options) : httpRequest(options);
  }

  #agentsFor(secureContext: SecureContext): Agents {
    if (this.#agents?.secureContext === secureContext) return this.#agents;
    if (this.#agents !== null) retire(this.#agents);
    const { server, connections } = this.#options;
    const isTls = server.protocol === 'https:';
    const make = (maxSockets: number): HttpAgent => {
      const options = { keepAlive: true, maxSockets, maxFreeSockets: MAX_FREE_SOCKETS };
      // Said, because NODE_TLS_REJECT_UNAUTHORIZED in the environment could say otherwise.
      return isTls
        ? new HttpsAgent({ ...options, secureContext, rejectUnauthorized: true })
        : new HttpAgent(options);
    };
    this.#agents = { secureContext, calls: make(connections), watches: make(Number.POSITIVE_INFINITY) };
    return this.#agents;
  }

  #noteRefusal(status: number): void {
    if (status === 401) this.#options.credentials.refused();
  }
}

/** Closes the idle sockets of agents and has the others closed when they are; `destroy` would cut calls under way. */
function retire({ calls, watches }: Agents): void {
  for (const agent of [calls, watches]) {
    agent.maxFreeSockets = 0;
    for (const sockets of Object.values(agent.freeSockets))
      for (const socket of sockets ?? []) socket.destroy();
  }
}

function headOf(sent: ClientRequest, body: string | undefined): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    sent.once('response', (message) => {
      // From here on an error reaches whoever reads the message.
      sent.on('error', () => {});
      resolve(message);
    });
    sent.once('error', reject);
    sent.end(body);
  });
}

async function readBody(message: IncomingMessage, request: ApiRequest, signal: AbortSignal): Promise<Buffer> {
  const announced = Number(message.headers['content-length'] ?? 0);
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    if (announced > request.maxBytes) throw tooLong(request);
    for await (const chunk of message as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > request.maxBytes) throw tooLong(request);
      chunks.push(chunk);
    }
  } catch (cause) {
    message.destroy();
    signal.throwIfAborted();
    if (cause instanceof KedgeError) throw cause;
    throw new KedgeError('kubernetes_unreachable', `${request.what}: the answer broke off`, { cause });
  }
  return chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks, length);
}

function tooLong({ what, maxBytes }: ApiRequest): KedgeError {
  const problem = `is over ${maxBytes} bytes`;
  const cause = new KedgeError('message_too_large', `the answer ${problem}`);
  return answerInvalid(`the answer to ${what}`, problem, cause);
}

function unreachable(server: URL, what: string, cause: unknown): KedgeError {
  return new KedgeError(
    'kubernetes_unreachable',
    `${what}: no connection to ${server.origin} (${errnoOf(cause) ?? 'unknown'})`,
    { hint: 'check that the API server runs, its address, and that its CA is the one trusted here', cause },
  );
}
