import { Agent, request } from 'node:https';
import type { TLSSocket } from 'node:tls';
import { systemClock } from '../../host/clock.ts';
import { systemRandom } from '../../host/random.ts';
import { encodePem } from '../../pki/pem.ts';
import { TrustDomain } from '../../pki/spiffe-id.ts';
import { verifyX509Svid } from '../../pki/x509-svid-verify.ts';
import { WorkloadApiClient } from '../../cli/workload-api-client.ts';
import type { X509Context, X509Identity } from '../../cli/x509-context.ts';

/** What {@link MtlsLoad} is made of. */
export interface MtlsLoadOptions {
  /** gRPC target of the Workload API that gives the client its identity. */
  readonly target: string;
  /** The server, on 127.0.0.1. */
  readonly port: number;
  /** How many requests are under way at once; every second worker keeps its connection. */
  readonly workers: number;
}

/** Steady mTLS requests on the newest SVID of a workload; counts all of them, and forgives none. */
export class MtlsLoad {
  requests = 0;
  /** Requests that met a kept connection which the server was closing, and were sent again (RFC 9112 section 9.3.1). */
  resent = 0;
  readonly failures: string[] = [];
  readonly serverSerials = new Set<string>();
  readonly clientSerials = new Set<string>();
  readonly #options: MtlsLoadOptions;
  readonly #stop = new AbortController();
  readonly #done: Promise<unknown>;
  #identity: X509Identity;
  #kept: Agent;

  private constructor(options: MtlsLoadOptions, identity: X509Identity, updates: AsyncIterable<X509Context>) {
    this.#options = options;
    this.#identity = identity;
    this.#kept = this.#agent(true);
    const follow = this.#follow(updates).catch(() => undefined);
    const workers = Array.from({ length: options.workers }, (_, index) => this.#work(index % 2 === 0));
    this.#done = Promise.all([follow, ...workers]);
  }

  static async start(options: MtlsLoadOptions): Promise<MtlsLoad> {
    const client = new WorkloadApiClient({
      target: options.target,
      clock: systemClock,
      random: systemRandom,
    });
    const stop = new AbortController();
    const updates = client.watch(stop.signal);
    const first = identityOf((await updates.next()).value);
    const load = new MtlsLoad(options, first, updates);
    load.#stop.signal.addEventListener('abort', () => stop.abort(load.#stop.signal.reason), { once: true });
    return load;
  }

  /** Ends the load; every request that was sent is answered or counted as failed. Harmless when repeated. */
  async stop(): Promise<void> {
    this.#stop.abort(new Error('the load is over'));
    await this.#done;
    this.#kept.destroy();
  }

  async #follow(updates: AsyncIterable<X509Context>): Promise<void> {
    for await (const context of updates) {
      this.#identity = identityOf(context);
      // Connections that are kept go on; new ones take the new SVID.
      const old = this.#kept;
      this.#kept = this.#agent(true);
      setTimeout(() => old.destroy(), 5_000).unref();
    }
  }

  async #work(keep: boolean): Promise<void> {
    while (!this.#stop.signal.aborted) {
      const agent = keep ? this.#kept : this.#agent(false);
      try {
        await this.#once(agent);
        this.requests += 1;
      } catch (error) {
        this.failures.push(`${keep ? 'kept' : 'new'} connection: ${String(error)}`);
      }
      if (!keep) agent.destroy();
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  async #once(agent: Agent): Promise<void> {
    try {
      this.clientSerials.add(await this.#send(agent));
    } catch (error) {
      if (!(error instanceof ReusedConnectionClosed)) throw error;
      this.resent += 1;
      const fresh = this.#agent(false);
      this.clientSerials.add(await this.#send(fresh));
      fresh.destroy();
    }
  }

  /** One request; resolves with what the server saw as the client's serial. */
  #send(agent: Agent): Promise<string> {
    return new Promise((resolve, reject) => {
      const sent = request(
        { host: '127.0.0.1', port: this.#options.port, path: '/', agent, timeout: 10_000 },
        (response) => {
          let body = '';
          response.setEncoding('utf8');
          response.on('data', (text: string) => (body += text));
          response.on('end', () => {
            if (response.statusCode === 200) resolve(body.trim());
            else reject(new Error(`status ${response.statusCode}: ${body.slice(0, 200)}`));
          });
          response.on('error', reject);
        },
      );
      sent.on('socket', (socket) => {
        const tls = socket as TLSSocket;
        if (!sent.reusedSocket)
          tls.once('secureConnect', () => this.#checkServer(tls, sent.destroy.bind(sent)));
      });
      sent.on('timeout', () => sent.destroy(new Error('no answer in 10 s')));
      sent.on('error', (error: NodeJS.ErrnoException) => {
        const closed = sent.reusedSocket && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
        reject(closed ? new ReusedConnectionClosed(error.message) : error);
      });
      sent.end();
    });
  }

  /** The server must hold an X.509-SVID of `web`, verified by Kedge's own verifier on top of the TLS stack's. */
  #checkServer(socket: TLSSocket, destroy: (error: Error) => void): void {
    try {
      const chain: Uint8Array[] = [];
      let certificate = socket.getPeerX509Certificate();
      if (certificate !== undefined) this.serverSerials.add(certificate.serialNumber);
      for (; certificate !== undefined && chain.length < 4; certificate = certificate.issuerCertificate) {
        chain.push(new Uint8Array(certificate.raw));
      }
      const identity = this.#identity;
      const { spiffeId } = verifyX509Svid({
        chain,
        bundles: (trustDomain: TrustDomain) =>
          trustDomain.name === 'example.org' ? identity.bundle : undefined,
        nowMs: Date.now(),
      });
      if (spiffeId.toString() !== 'spiffe://example.org/ns/demo/sa/web')
        throw new Error(`the server is ${spiffeId.toString()}`);
    } catch (error) {
      destroy(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #agent(keepAlive: boolean): Agent {
    const { chain, privateKey, bundle } = this.#identity;
    const pem = (certificates: readonly Uint8Array[]): string =>
      certificates.map((der) => encodePem('CERTIFICATE', der)).join('');
    return new Agent({
      keepAlive,
      maxCachedSessions: 0,
      cert: pem(chain),
      key: encodePem('PRIVATE KEY', privateKey.expose()),
      ca: pem(bundle),
      // SPIFFE IDs, not DNS names: checked once the handshake is done.
      checkServerIdentity: () => undefined,
    });
  }
}

/** A kept connection was closed before it carried an answer. */
class ReusedConnectionClosed extends Error {}

function identityOf(context: X509Context): X509Identity {
  const [identity] = context.identities;
  if (identity === undefined) throw new TypeError('the Workload API gave no identity');
  return identity;
}
