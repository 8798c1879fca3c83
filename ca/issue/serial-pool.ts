import type { Random } from '../../host/random.ts';

/** What {@link PreparedSvid.ticket} draws: 128 bits for each serial number. */
export const SERIAL_RANDOM_BYTES = 16;

/**
 * The randomness of a slice's serial numbers, drawn at once: one call of the system's generator costs more than a
 * hundred times its bytes. Each byte is handed out once; what is left over is never used.
 */
export class SerialPool implements Pick<Random, 'bytes'> {
  readonly #random: Random;
  readonly #pool: Uint8Array;
  #used = 0;

  /** Enough for `count` serial numbers; beyond that it draws one by one. */
  constructor(random: Random, count: number) {
    this.#random = random;
    this.#pool = count === 0 ? new Uint8Array(0) : random.bytes(count * SERIAL_RANDOM_BYTES);
  }

  bytes(n: number): Uint8Array {
    if (this.#used + n > this.#pool.length) return this.#random.bytes(n);
    this.#used += n;
    return this.#pool.slice(this.#used - n, this.#used);
  }
}
