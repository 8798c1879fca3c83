import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { Clock } from '../../../host/clock.ts';
import { withDeadline } from '../../../host/deadline.ts';
import { KedgeError, quote } from '../../../pki/kedge-error.ts';
import type { TokenAnswer, TokenCall, TokenFault, TokenValue, TokenWorkerData } from './token-protocol.ts';
import { tokenWorker } from './token-worker.ts';

/** How a call ended. */
export type TokenOutcome =
  | { readonly ok: true; readonly value: TokenValue }
  | { readonly ok: false; readonly fault: TokenFault };

/** Talks to a token; calls are carried out one after the other. */
export interface TokenThread {
  /** Throws `hsm_module_unavailable`, `hsm_unavailable` when it does not answer in time. */
  call(call: TokenCall): Promise<TokenOutcome>;
  close(): Promise<void>;
}

/** What a {@link WorkerTokenThread} is made of. */
export interface TokenThreadOptions {
  /** The PKCS#11 library of the token's maker. */
  readonly module: string;
  readonly clock: Clock;
  /** How long one call may take, milliseconds. */
  readonly timeoutMs: number;
}

const INSTALL_HINT =
  'build the package pkcs11js, which needs a C++ compiler and Python: npm run pkcs11; a bundle finds it in a node_modules above it';

/** A {@link TokenThread} on a worker thread, which is started at the first call, and again when it has died. */
export class WorkerTokenThread implements TokenThread {
  readonly #options: TokenThreadOptions;
  #worker: Worker | null = null;
  #sequence = 0;
  readonly #waiting = new Map<number, PromiseWithResolvers<TokenOutcome>>();

  constructor(options: TokenThreadOptions) {
    this.#options = options;
  }

  async call(call: TokenCall): Promise<TokenOutcome> {
    const { clock, timeoutMs } = this.#options;
    const worker = (this.#worker ??= this.#start());
    const sequence = (this.#sequence += 1);
    const answer = Promise.withResolvers<TokenOutcome>();
    // Whoever gave up waiting must not make its late rejection an unhandled one.
    answer.promise.catch(() => undefined);
    this.#waiting.set(sequence, answer);
    worker.ref();
    worker.postMessage({ sequence, call }, []);
    try {
      const deadline = { clock, timeoutMs, what: 'the PKCS#11 token' };
      return await withDeadline(deadline, new AbortController().signal, () => answer.promise);
    } catch (cause) {
      if (cause instanceof KedgeError && cause.code !== 'deadline_exceeded') throw cause;
      throw new KedgeError('hsm_unavailable', `the PKCS#11 token did not answer in ${timeoutMs} ms`, {
        hint: 'look at the HSM and the network to it',
        retryAfterMs: timeoutMs,
        cause,
      });
    } finally {
      this.#waiting.delete(sequence);
      if (this.#waiting.size === 0) this.#worker?.unref();
    }
  }

  async close(): Promise<void> {
    const worker = this.#worker;
    this.#worker = null;
    await worker?.terminate();
  }

  #start(): Worker {
    const data: TokenWorkerData = { addon: addonPath(), module: this.#options.module };
    const worker = new Worker(
      `const { parentPort, workerData } = require('node:worker_threads');
(${tokenWorker.toString()})(parentPort, require(workerData.addon), workerData);`,
      { eval: true, workerData: data, env: process.env, name: 'pkcs11' },
    );
    worker.on('message', (answer: TokenAnswer) => {
      const outcome: TokenOutcome =
        'value' in answer ? { ok: true, value: answer.value } : { ok: false, fault: answer.fault };
      this.#waiting.get(answer.sequence)?.resolve(outcome);
    });
    worker.on('error', (error) => this.#died(worker, error));
    worker.on('exit', () => this.#died(worker, new Error('the thread ended')));
    return worker;
  }

  /** The addon or the library could not be loaded, or took the thread down. */
  #died(worker: Worker, cause: unknown): void {
    if (this.#worker === worker) this.#worker = null;
    const { module } = this.#options;
    const error = new KedgeError(
      'hsm_module_unavailable',
      `the PKCS#11 library ${quote(module, 200)}, or the package that loads it, cannot be used`,
      { hint: `check the path in keys.pkcs11.module; ${INSTALL_HINT}`, cause },
    );
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}

/**
 * Where the package is: looked for from the program that was started, as a bundle has no place of its own, then from
 * the working directory. Throws `hsm_module_unavailable`.
 */
export function addonPath(program: string = process.argv[1] ?? ''): string {
  for (const from of [resolve(program), resolve('kedge')]) {
    try {
      return createRequire(from).resolve('pkcs11js');
    } catch {
      // Not there: the next place.
    }
  }
  throw new KedgeError('hsm_module_unavailable', 'the package pkcs11js is not installed', {
    hint: INSTALL_HINT,
  });
}
