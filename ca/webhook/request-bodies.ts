import type { IncomingMessage } from 'node:http';

/** What {@link RequestBodies} are bounded by. */
export interface RequestBodiesOptions {
  /** One body, bytes. */
  readonly maxBytes: number;
  /** All bodies that are held, bytes; more than one body. */
  readonly maxTotalBytes: number;
}

/** How reading a body ended: with the body, or why there is none. */
export type ReadBody = Uint8Array | 'too large' | 'displaced';

interface Held {
  bytes: number;
  /** Cut to make room for others. */
  isDisplaced: boolean;
}

/**
 * The bodies of requests, read within a bound on all of them: where there is no room for more, the request goes that has
 * been under way for longest. Whoever sends as usual is done long before; who stalls is in nobody's way.
 */
export class RequestBodies {
  readonly #options: RequestBodiesOptions;
  /** Oldest first. */
  readonly #held = new Map<IncomingMessage, Held>();
  #total = 0;

  constructor(options: RequestBodiesOptions) {
    this.#options = options;
  }

  /**
   * Reads the body and gives it to `use`; it counts until that has ended. Rejects when the connection breaks, and with
   * what `use` throws.
   */
  async with<T>(request: IncomingMessage, use: (body: ReadBody) => Promise<T> | T): Promise<T> {
    const held = { bytes: 0, isDisplaced: false };
    this.#held.set(request, held);
    try {
      return await use(await this.#read(request, held));
    } finally {
      this.#held.delete(request);
      this.#total -= held.bytes;
    }
  }

  async #read(request: IncomingMessage, held: Held): Promise<ReadBody> {
    const { maxBytes, maxTotalBytes } = this.#options;
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of request) {
        const bytes = chunk as Buffer;
        held.bytes += bytes.length;
        this.#total += bytes.length;
        if (held.bytes > maxBytes) return 'too large';
        if (this.#total > maxTotalBytes) this.#displace();
        chunks.push(bytes);
      }
    } catch (error) {
      if (held.isDisplaced) return 'displaced';
      throw error;
    }
    return Buffer.concat(chunks);
  }

  /** Who was read to its end is about to be answered, and stays. */
  #displace(): void {
    for (const [request, held] of this.#held) {
      if (held.isDisplaced || request.complete) continue;
      held.isDisplaced = true;
      this.#total -= held.bytes;
      held.bytes = 0;
      request.destroy();
      return;
    }
  }
}
