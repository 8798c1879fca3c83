import { randomBytes, randomInt } from 'node:crypto';

/** Randomness as the rest of Kedge sees it: injected, so that tests are repeatable. */
export interface Random {
  /** `n` unpredictable bytes, owned by the caller. */
  bytes(n: number): Uint8Array;
  /** A number, uniform in [0, 1). */
  fraction(): number;
}

const FRACTION_STEPS = 2 ** 47;

/** The system's CSPRNG. */
export const systemRandom: Random = {
  bytes: (n) => randomBytes(n),
  fraction: () => randomInt(FRACTION_STEPS) / FRACTION_STEPS,
};
