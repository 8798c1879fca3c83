import { Agent, request } from 'node:http';

/** What {@link HttpLoad} is made of. */
export interface HttpLoadOptions {
  /** 127.0.0.1 where absent. */
  readonly host?: string;
  /** The proxy of the calling workload. */
  readonly port: number;
  /** How many requests are under way at once; every second worker keeps its connection. */
  readonly workers: number;
}

/** A machine that is busy with something else may be slow; it fails no request by that. */
const TIMEOUT_MS = 30_000;

/** A kept connection was closed before it carried an answer. */
class ReusedConnectionClosed extends Error {}

/** Steady plain HTTP requests, as a workload sends them to its own proxy; counts all of them, and forgives none. */
export class HttpLoad {
  requests = 0;
  /** Requests that met a kept connection which the proxy was closing, and were sent again (RFC 9112 section 9.3.1). */
  resent = 0;
  readonly failures: string[] = [];
  /** What the answers said: the distinct bodies. */
  readonly answers = new Set<string>();
  readonly #options: HttpLoadOptions;
  readonly #kept = new Agent({ keepAlive: true });
  readonly #done: Promise<unknown>;
  #stopped = false;

  constructor(options: HttpLoadOptions) {
    this.#options = options;
    this.#done = Promise.all(
      Array.from({ length: options.workers }, (_, index) => this.#work(index % 2 === 0)),
    );
  }

  /** Ends the load; every request that was sent is answered or counted as failed. Harmless when repeated. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#done;
    this.#kept.destroy();
  }

  async #work(keep: boolean): Promise<void> {
    while (!this.#stopped) {
      try {
        this.answers.add(await this.#once(keep));
        this.requests += 1;
      } catch (error) {
        const at = new Date().toISOString();
        this.failures.push(`${at} ${keep ? 'kept' : 'new'} connection: ${String(error)}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async #once(keep: boolean): Promise<string> {
    if (!keep) return await this.#send(false);
    try {
      return await this.#send(this.#kept);
    } catch (error) {
      if (!(error instanceof ReusedConnectionClosed)) throw error;
      this.resent += 1;
      return await this.#send(false);
    }
  }

  #send(agent: Agent | false): Promise<string> {
    return new Promise((resolve, reject) => {
      const sent = request(
        {
          host: this.#options.host ?? '127.0.0.1',
          port: this.#options.port,
          path: '/',
          agent,
          timeout: TIMEOUT_MS,
        },
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
      sent.on('timeout', () => sent.destroy(new Error(`no answer in ${TIMEOUT_MS} ms`)));
      sent.on('error', (error: NodeJS.ErrnoException) => {
        const closed = sent.reusedSocket && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
        reject(closed ? new ReusedConnectionClosed(error.message) : error);
      });
      sent.end();
    });
  }
}
