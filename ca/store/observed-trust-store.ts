import type { Log } from '../../host/log.ts';
import type { MetricsRegistry } from '../../host/metrics.ts';
import { isKedgeError } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import type { TrustStore, Version, VersionedDocument } from './trust-store.ts';

/** How full the trust state is. */
export interface TrustStoreFill {
  /** Bytes of the newest document that was read or written; 0 = none yet. */
  readonly bytes: number;
  /** Bytes that it may have. */
  readonly limitBytes: number;
}

/** The share of the limit from which on the log and the status warn. */
export const NEARLY_FULL = 0.8;

/** Whether somebody should look before it fails. */
export function isNearlyFull({ bytes, limitBytes }: TrustStoreFill): boolean {
  return bytes >= limitBytes * NEARLY_FULL;
}

/** A trust store whose conflicts, failures and size are told: in metrics, in the log, and in the status. */
export class ObservedTrustStore implements TrustStore {
  readonly #store: TrustStore;
  readonly #log: Log;
  readonly #count: (operation: Operation, result: Result) => void;
  #bytes = 0;
  #warned = false;

  constructor(options: {
    readonly store: TrustStore;
    readonly registry: MetricsRegistry;
    readonly log: Log;
  }) {
    this.#store = options.store;
    this.#log = options.log;
    const operations = options.registry.counter({
      name: 'kedge_trust_store_operations_total',
      help: 'Reads, swaps and watches of the trust store that ended, by result: ok, conflict, failed.',
      labels: ['operation', 'result'],
    });
    this.#count = (operation, result) => operations.add({ operation, result });
    options.registry.gaugeFrom(
      { name: 'kedge_trust_state_bytes', help: 'Size of the trust state as stored, in bytes.' },
      () => this.#bytes,
    );
    options.registry.gaugeFrom(
      { name: 'kedge_trust_state_limit_bytes', help: 'Size that the trust state may have, in bytes.' },
      () => LIMITS.trustStateBytes,
    );
  }

  get fill(): TrustStoreFill {
    return { bytes: this.#bytes, limitBytes: LIMITS.trustStateBytes };
  }

  async read(signal: AbortSignal): Promise<VersionedDocument | null> {
    const read = await this.#counted('read', signal, () => this.#store.read(signal));
    if (read !== null) this.#measure(read.document);
    return read;
  }

  async swap(expected: Version | null, next: Uint8Array, signal: AbortSignal): Promise<Version> {
    const version = await this.#counted('swap', signal, () => this.#store.swap(expected, next, signal));
    this.#measure(next);
    return version;
  }

  async *watch(signal: AbortSignal): AsyncGenerator<VersionedDocument> {
    try {
      for await (const versioned of this.#store.watch(signal)) {
        this.#measure(versioned.document);
        yield versioned;
      }
    } catch (error) {
      if (!signal.aborted) this.#count('watch', 'failed');
      throw error;
    }
  }

  close(): Promise<void> {
    return this.#store.close();
  }

  async #counted<T>(operation: Operation, signal: AbortSignal, call: () => Promise<T>): Promise<T> {
    try {
      const value = await call();
      this.#count(operation, 'ok');
      return value;
    } catch (error) {
      if (!signal.aborted)
        this.#count(operation, isKedgeError(error, 'store_conflict') ? 'conflict' : 'failed');
      throw error;
    }
  }

  #measure(document: Uint8Array): void {
    this.#bytes = document.length;
    const { fill } = this;
    if (isNearlyFull(fill) && !this.#warned) this.#log.warn('trust_store.nearly_full', { ...fill });
    this.#warned = isNearlyFull(fill);
  }
}

type Operation = 'read' | 'swap' | 'watch';
type Result = 'ok' | 'conflict' | 'failed';
