import { KedgeError } from '../../pki/kedge-error.ts';
import type { TrustStore, Version, VersionedDocument } from '../../ca/store/trust-store.ts';

/** How a swap fails when its outcome is unknown to the caller: both must be lived with. */
export const SWAP_FAULTS = ['not persisted', 'persisted but reported failed'] as const;
export type SwapFault = (typeof SWAP_FAULTS)[number];

/** A trust store that fails when it is told to; else it does what the one beneath does. */
export class FaultyTrustStore implements TrustStore {
  readonly #store: TrustStore;
  readonly #swapFaults = new Map<number, SwapFault>();
  /** While true, everything fails as a store does that cannot be reached. */
  away = false;
  /** While true, the store seems to be empty. */
  emptied = false;
  /** While true, reads never answer. */
  hanging = false;
  /** Swaps asked for so far. */
  swaps = 0;
  /** Reads asked for so far. */
  reads = 0;

  constructor(store: TrustStore) {
    this.#store = store;
  }

  /** Lets the `nth` swap from the first on fail. */
  failSwap(nth: number, fault: SwapFault): void {
    this.#swapFaults.set(nth, fault);
  }

  async read(signal: AbortSignal): Promise<VersionedDocument | null> {
    this.reads += 1;
    if (this.hanging) await new Promise<never>(() => {});
    this.#reach();
    return this.emptied ? null : this.#store.read(signal);
  }

  async swap(expected: Version | null, next: Uint8Array, signal: AbortSignal): Promise<Version> {
    this.#reach();
    this.swaps += 1;
    const fault = this.#swapFaults.get(this.swaps);
    if (fault === 'not persisted') throw lost();
    const version = await this.#store.swap(expected, next, signal);
    if (fault === 'persisted but reported failed') throw lost();
    return version;
  }

  async *watch(signal: AbortSignal): AsyncGenerator<VersionedDocument> {
    for await (const versioned of this.#store.watch(signal)) {
      this.#reach();
      if (!this.emptied) yield versioned;
    }
  }

  close(): Promise<void> {
    return this.#store.close();
  }

  #reach(): void {
    if (this.away) throw lost();
  }
}

function lost(): KedgeError {
  return new KedgeError('store_unavailable', 'the connection to the trust store was lost');
}
