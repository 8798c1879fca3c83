import type { Random } from '../../host/random.ts';

/** Randomness that is always the same fraction. */
export function fixedRandom(fraction: number): Random {
  return { bytes: (n) => new Uint8Array(n).fill(0x5a), fraction: () => fraction };
}
