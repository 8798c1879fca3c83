import { KedgeError } from '../../pki/kedge-error.ts';

/** The bounds of {@link ReviewTurns}. */
export interface ReviewTurnsOptions {
  /** How many go on at once. */
  readonly concurrent: number;
  /** How many more may wait. */
  readonly waiting: number;
  /** How many of both may come from one address. */
  readonly perAddress: number;
}

/** When to come back where there was no turn, milliseconds. */
const RETRY_AFTER_MS = 1_000;

/**
 * Whose turn it is to ask the API server: first come, first served, within bounds, so that a flood of tokens makes
 * neither a flood of TokenReviews nor a heap of waiting calls, and one address cannot have it all.
 */
export class ReviewTurns {
  readonly #options: ReviewTurnsOptions;
  readonly #waiting: (() => void)[] = [];
  readonly #byAddress = new Map<string, number>();
  #running = 0;

  constructor(options: ReviewTurnsOptions) {
    this.#options = options;
  }

  get running(): number {
    return this.#running;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** Runs `work` when there is a turn. Throws `overloaded` at once when there is no place to wait. */
  async run<T>(address: string, work: () => Promise<T>): Promise<T> {
    const { concurrent, waiting, perAddress } = this.#options;
    const ofAddress = this.#byAddress.get(address) ?? 0;
    if (ofAddress >= perAddress) throw overloaded('this address has as many tokens under review as it may');
    if (this.#running >= concurrent) {
      if (this.#waiting.length >= waiting) throw overloaded('as many tokens wait for their review as may');
    }
    this.#byAddress.set(address, ofAddress + 1);
    try {
      if (this.#running >= concurrent) await new Promise<void>((resolve) => this.#waiting.push(resolve));
      else this.#running += 1;
      try {
        return await work();
      } finally {
        // Whoever waits takes over this turn.
        const next = this.#waiting.shift();
        if (next === undefined) this.#running -= 1;
        else next();
      }
    } finally {
      const left = (this.#byAddress.get(address) ?? 1) - 1;
      if (left === 0) this.#byAddress.delete(address);
      else this.#byAddress.set(address, left);
    }
  }
}

function overloaded(why: string): KedgeError {
  return new KedgeError('overloaded', why, {
    hint: 'come back after the time given',
    retryAfterMs: RETRY_AFTER_MS,
  });
}
