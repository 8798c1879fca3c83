import {
  Agent as HttpAgent,
  type ClientRequest,
  type IncomingMessage,
  request as httpRequest,
  type RequestOptions,
} from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { isIP } from 'node:net';
import type { SecureContext } from 'node:tls';
import { errnoOf } from '../../host/errno.ts';
import { KEDGE_VERSION } from '../../host/version.ts';
import { KedgeError } from '../../pki/kedge-error.ts';
import { type ApiRequest, headOf, readBody } from './api-message.ts';

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

const USER_AGENT = `kedge/${KEDGE_VERSION}`;

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
  readonly #target: ReturnType<typeof targetOf>;
  #agents: Agents | null = null;

  constructor(options: ApiConnectionOptions) {
    this.#options = options;
    this.#pathPrefix = options.server.pathname.replace(/\/+$/, '');
    this.#target = targetOf(options);
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
      const sent = this.#begin(request, presented, pool);
      try {
        return await headOf(sent, request.body?.text, signal);
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
  ): ClientRequest {
    const { server } = this.#options;
    const { body } = request;
    const headers = ['host', server.host, 'accept', ACCEPT, 'user-agent', USER_AGENT];
    if (authorization !== undefined) headers.push('authorization', authorization);
    if (body !== undefined)
      headers.push('content-type', body.type, 'content-length', String(Buffer.byteLength(body.text)));
    const options: RequestOptions = {
      ...this.#target,
      method: request.method,
      path: `${this.#pathPrefix}${request.path}`,
      agent: this.#agentsFor(secureContext)[pool],
      headers,
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
      const agent = isTls
        ? // Said, because NODE_TLS_REJECT_UNAUTHORIZED in the environment could say otherwise.
          new HttpsAgent({ ...options, secureContext, rejectUnauthorized: true })
        : new HttpAgent(options);
      // All its connections are to one server with one context: what they may be told apart by, some twenty options, need
      // not be put together for each request.
      agent.getName = () => server.host;
      return agent;
    };
    this.#agents = { secureContext, calls: make(connections), watches: make(Number.POSITIVE_INFINITY) };
    return this.#agents;
  }

  #noteRefusal(status: number): void {
    if (status === 401) this.#options.credentials.refused();
  }
}

/** Whom each request goes to. */
function targetOf({
  server,
  tlsServerName,
}: ApiConnectionOptions): RequestOptions & { readonly servername?: string } {
  // A URL keeps the brackets of an IPv6 address, a socket wants none.
  const hostname = server.hostname.replace(/^\[|\]$/g, '');
  const target = {
    protocol: server.protocol,
    hostname,
    port: server.port === '' ? (server.protocol === 'https:' ? 443 : 80) : server.port,
  };
  const servername = tlsServerName ?? (isIP(hostname) === 0 ? hostname : '');
  return server.protocol === 'https:' ? { ...target, servername } : target;
}

/** Closes the idle sockets of agents and has the others closed when they are; `destroy` would cut calls under way. */
function retire({ calls, watches }: Agents): void {
  for (const agent of [calls, watches]) {
    agent.maxFreeSockets = 0;
    for (const sockets of Object.values(agent.freeSockets))
      for (const socket of sockets ?? []) socket.destroy();
  }
}

function unreachable(server: URL, what: string, cause: unknown): KedgeError {
  return new KedgeError(
    'kubernetes_unreachable',
    `${what}: no connection to ${server.origin} (${errnoOf(cause) ?? 'unknown'})`,
    { hint: 'check that the API server runs, its address, and that its CA is the one trusted here', cause },
  );
}
