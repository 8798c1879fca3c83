import { Agent as HttpAgent, type IncomingMessage, request as httpRequest } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { SecureContext } from 'node:tls';
import { errnoOf } from '../../../host/errno.ts';
import { KEDGE_VERSION } from '../../../host/version.ts';
import { KedgeError, quote } from '../../../pki/kedge-error.ts';
import { LIMITS } from '../../../pki/limits.ts';

/** One request to Vault, as it goes out. */
export interface VaultHttpRequest {
  readonly method: string;
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  /** JSON. */
  readonly body: string | undefined;
}

/** An answer, whole, with no look at what it says. */
export interface VaultHttpAnswer {
  readonly status: number;
  readonly contentType: string;
  readonly retryAfter: string | undefined;
  /** The server's clock by its `Date` header, milliseconds since the Unix epoch; null without one. */
  readonly dateMs: number | null;
  readonly body: Buffer;
}

/** What a {@link VaultTransport} is made of. */
export interface VaultTransportOptions {
  readonly tls: { context(): Promise<SecureContext> };
  readonly serverName: string | null;
}

const MAX_SOCKETS = 8;

/**
 * HTTP/1.1 to Vault: one request, one answer of at most {@link LIMITS.vaultAnswerBytes}, no redirect followed, the
 * certificate always checked, whatever `VAULT_SKIP_VERIFY` says.
 *
 * Throws `vault_unreachable`, `vault_answer_too_large`, or the signal's reason.
 */
export class VaultTransport {
  readonly #options: VaultTransportOptions;
  readonly #http = new HttpAgent({ keepAlive: true, maxSockets: MAX_SOCKETS });
  #https: { readonly context: SecureContext; readonly agent: HttpsAgent } | null = null;

  constructor(options: VaultTransportOptions) {
    this.#options = options;
  }

  async exchange(request: VaultHttpRequest, signal: AbortSignal): Promise<VaultHttpAnswer> {
    const isTls = request.url.protocol === 'https:';
    const agent = isTls ? this.#agentOf(await this.#options.tls.context()) : this.#http;
    for (let attempt = 1; ; attempt += 1) {
      signal.throwIfAborted();
      const sent = this.#begin(request, agent, signal);
      try {
        const message = await headOf(sent, request.body);
        return {
          status: message.statusCode ?? 0,
          contentType: message.headers['content-type'] ?? '',
          retryAfter: message.headers['retry-after'],
          dateMs: dateOf(message),
          body: await readBody(message, request.url),
        };
      } catch (cause) {
        signal.throwIfAborted();
        if (cause instanceof KedgeError) throw cause;
        // A kept connection that the server had closed: nothing of the request was read.
        const wasClosed = sent.reusedSocket && ['ECONNRESET', 'EPIPE'].includes(errnoOf(cause) ?? '');
        if (wasClosed && request.method === 'GET' && attempt === 1) continue;
        throw unreachable(request.url, cause);
      }
    }
  }

  /** Closes the idle connections. */
  close(): void {
    this.#http.destroy();
    this.#https?.agent.destroy();
    this.#https = null;
  }

  #begin({ method, url, headers, body }: VaultHttpRequest, agent: HttpAgent, signal: AbortSignal) {
    const { serverName } = this.#options;
    const options = {
      method,
      agent,
      signal,
      headers: {
        accept: 'application/json',
        'user-agent': `kedge/${KEDGE_VERSION}`,
        // Listeners and agents with require_request_header want it.
        'x-vault-request': 'true',
        ...headers,
        ...(body === undefined
          ? {}
          : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
      },
    };
    if (url.protocol !== 'https:') return httpRequest(url, options);
    return httpsRequest(url, { ...options, ...(serverName === null ? {} : { servername: serverName }) });
  }

  #agentOf(context: SecureContext): HttpsAgent {
    if (this.#https?.context === context) return this.#https.agent;
    this.#https?.agent.destroy();
    const agent = new HttpsAgent({ keepAlive: true, maxSockets: MAX_SOCKETS, secureContext: context });
    this.#https = { context, agent };
    return agent;
  }
}

function headOf(sent: ReturnType<typeof httpRequest>, body: string | undefined): Promise<IncomingMessage> {
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

async function readBody(message: IncomingMessage, url: URL): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of message as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > LIMITS.vaultAnswerBytes) {
      message.destroy();
      throw new KedgeError(
        'vault_answer_too_large',
        `the answer of ${url.origin} is over ${LIMITS.vaultAnswerBytes} bytes`,
        { hint: 'check that upstream.vault.address is that of Vault, and what proxies stand before it' },
      );
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, length);
}

function dateOf(message: IncomingMessage): number | null {
  const ms = Date.parse(message.headers.date ?? '');
  return Number.isNaN(ms) ? null : ms;
}

/** TLS failures by the code that Node gives them, in words of their own: they are a matter of configuration. */
const TLS_HINTS: readonly (readonly [codes: RegExp, hint: string])[] = [
  [
    /SELF_SIGNED|UNABLE_TO_(GET|VERIFY)|CERT_SIGNATURE|CERT_UNTRUSTED/,
    'name the CA of its certificate by upstream.vault.authoritiesFile',
  ],
  [
    /ALTNAME/,
    'the certificate is for another name: correct upstream.vault.address, or set upstream.vault.serverName',
  ],
  [
    /CERT_HAS_EXPIRED|CERT_NOT_YET_VALID/,
    "renew Vault's server certificate, or check the clock of this machine",
  ],
  [
    /CERTIFICATE_REQUIRED|ALERT|HANDSHAKE_FAILURE/,
    'Vault may want a client certificate: upstream.vault.certificateFile and keyFile',
  ],
  [/WRONG_VERSION_NUMBER|EPROTO/, 'the port may not speak TLS: check upstream.vault.address'],
];

function unreachable(url: URL, cause: unknown): KedgeError {
  const code = errnoOf(cause) ?? (cause instanceof Error ? cause.message : 'unknown');
  const tls = TLS_HINTS.find(([codes]) => codes.test(code));
  return new KedgeError('vault_unreachable', `no answer from Vault at ${url.origin} (${quote(code, 100)})`, {
    hint: tls?.[1] ?? 'check that Vault runs, upstream.vault.address, and the network policies between',
    cause,
  });
}
