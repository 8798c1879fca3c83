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

interface Waiter {
  readonly go: () => void;
  readonly refuse: (error: KedgeError) => void;
}

/**
 * Whose turn it is to ask the API server, within bounds, so that a flood of tokens makes neither a flood of TokenReviews
 * nor a heap of waiting calls. Turns go round the addresses that wait, in each in the order in which its calls came: one
 * with a thousand forged tokens is ahead of another one's first by no more than one. Where no more may wait, the last call
 * of the address with most of them goes.
 */
export class ReviewTurns {
  readonly #options: ReviewTurnsOptions;
  /** By address, never empty; the address whose turn is next comes first. */
  readonly #waiting = new Map<string, Waiter[]>();
  #waitingCount = 0;
  readonly #byAddress = new Map<string, number>();
  #running = 0;

  constructor(options: ReviewTurnsOptions) {
    this.#options = options;
  }

  get running(): number {
    return this.#running;
  }

  get waiting(): number {
    return this.#waitingCount;
  }

  /** Runs `work` when there is a turn. Throws `overloaded` when there is no place to wait, or none any more. */
  async run<T>(address: string, work: () => Promise<T>): Promise<T> {
    const { concurrent, perAddress } = this.#options;
    const ofAddress = this.#byAddress.get(address) ?? 0;
    if (ofAddress >= perAddress) throw overloaded('this address has as many tokens under review as it may');
    if (this.#running >= concurrent) this.#makeRoom(address);
    this.#byAddress.set(address, ofAddress + 1);
    try {
      if (this.#running >= concurrent) await this.#wait(address);
      else this.#running += 1;
      try {
        return await work();
      } finally {
        this.#handOn();
      }
    } finally {
      const left = (this.#byAddress.get(address) ?? 1) - 1;
      if (left === 0) this.#byAddress.delete(address);
      else this.#byAddress.set(address, left);
    }
  }

  #wait(address: string): Promise<void> {
    return new Promise((go, refuse) => {
      this.#waitingCount += 1;
      const queue = this.#waiting.get(address);
      if (queue === undefined) this.#waiting.set(address, [{ go, refuse }]);
      else queue.push({ go, refuse });
    });
  }

  /** Whoever waits takes over this turn. */
  #handOn(): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#running -= 1;
      return;
    }
    const [address, queue] = next;
    const waiter = queue.shift();
    this.#waiting.delete(address);
    if (queue.length > 0) this.#waiting.set(address, queue);
    this.#waitingCount -= 1;
    waiter?.go();
  }

  #makeRoom(address: string): void {
    if (this.#waitingCount < this.#options.waiting) return;
    const [largest, queue] = [...this.#waiting].reduce((a, b) => (b[1].length > a[1].length ? b : a));
    if (queue.length <= (this.#waiting.get(address)?.length ?? 0) + 1) {
      throw overloaded('as many tokens wait for their review as may');
    }
    const last = queue.pop();
    if (queue.length === 0) this.#waiting.delete(largest);
    this.#waitingCount -= 1;
    last?.refuse(overloaded('others wait for the review of their tokens, and this address has most'));
  }
}

function overloaded(why: string): KedgeError {
  return new KedgeError('overloaded', why, {
    hint: 'come back after the time given',
    retryAfterMs: RETRY_AFTER_MS,
  });
}
