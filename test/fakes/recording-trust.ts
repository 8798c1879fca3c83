import { CaTrust, type TrustKeeper, type TrustMemory } from '../../agent/ca-trust.ts';
import type { BundleSnapshot } from '../../agent/snapshot.ts';

/** A real {@link CaTrust} without connections, which writes down what it was told. */
export class RecordingTrust implements TrustKeeper {
  /** Sequences of the bundles, in order. */
  readonly sequences: bigint[] = [];
  /** What the bootstrap bundle file holds. */
  bootstrap: readonly Uint8Array[] = [];
  readonly caTrust = new CaTrust({ readBootstrap: () => Promise.resolve(this.bootstrap) });

  trust(bundle: BundleSnapshot): void {
    this.sequences.push(bundle.sequence);
    this.caTrust.accept(bundle);
  }

  restoreTrust(memory: TrustMemory): void {
    this.caTrust.restore(memory);
  }

  get trustMemory(): TrustMemory | null {
    return this.caTrust.memory;
  }
}
