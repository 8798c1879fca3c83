import type { ServerWritableStream, StatusObject } from '@grpc/grpc-js';
import type { Clock } from '../../host/clock.ts';

/** How long a reader may take to accept a message before its connection is dropped, in milliseconds. */
export const STALL_MS = 2_000;

/** A gRPC stream of bytes that were encoded before. */
export type ByteStream = ServerWritableStream<Buffer, Buffer>;

/** How a stream ends. */
export type EndStatus = Pick<StatusObject, 'code' | 'details'>;

/** What a {@link NewestBroadcast} is made of. */
export interface NewestBroadcastOptions {
  readonly clock: Clock;
  /** Cuts the connection that a stream is on: its reader has stalled. */
  readonly drop: (stream: ByteStream) => void;
}

interface Reader {
  readonly stream: ByteStream;
  /** Handed to the stream and not yet taken by the transport. */
  inFlight: Buffer | null;
  /** The newest that the transport took. */
  written: Buffer | null;
}

/**
 * Sends one message to any number of streams, and only ever the newest.
 *
 * A stream holds at most one message in flight; what comes meanwhile replaces what waits. So a reader that does not
 * read costs one message of memory, however many snapshots pass, and it never gets a stale one afterwards. All
 * streams share the bytes.
 */
export class NewestBroadcast {
  readonly #options: NewestBroadcastOptions;
  readonly #readers = new Set<Reader>();
  #newest: Buffer | null = null;
  #settled: (() => void)[] = [];

  constructor(options: NewestBroadcastOptions) {
    this.#options = options;
  }

  /** Streams open. */
  get size(): number {
    return this.#readers.size;
  }

  /** Adds a stream, which gets the newest message at once where there is one. */
  add(stream: ByteStream): void {
    const reader: Reader = { stream, inFlight: null, written: null };
    this.#readers.add(reader);
    const gone = (): void => this.#remove(reader);
    stream.once('cancelled', gone);
    stream.once('finish', gone);
    stream.once('error', gone);
    this.#push(reader);
  }

  /**
   * Makes `message` the newest. Resolves when every stream that is open has taken it; a reader that has not within
   * {@link STALL_MS} is dropped, so that it comes back for the newest.
   */
  async send(message: Buffer, signal: AbortSignal): Promise<void> {
    if (this.#newest?.equals(message) !== true) this.#newest = message;
    const newest = this.#newest;
    for (const reader of this.#readers) this.#push(reader);
    await this.#taken(newest, signal);
    for (const reader of this.#readers) {
      if (newest === this.#newest && reader.written !== newest) this.#drop(reader);
    }
  }

  /** Ends every stream; one whose reader has stalled is dropped, so that what is in flight never reaches it. */
  end(status: EndStatus): void {
    this.#newest = null;
    for (const reader of this.#readers) {
      if (reader.inFlight !== null) this.#drop(reader);
      else {
        this.#remove(reader);
        endStream(reader.stream, status);
      }
    }
  }

  #push(reader: Reader): void {
    const message = this.#newest;
    if (message === null || reader.inFlight !== null || reader.written === message) return;
    reader.inFlight = message;
    reader.stream.write(message, () => {
      reader.inFlight = null;
      reader.written = message;
      this.#push(reader);
      this.#notify();
    });
  }

  #taken(message: Buffer, signal: AbortSignal): Promise<void> {
    const isDone = (): boolean =>
      this.#newest !== message || [...this.#readers].every((reader) => reader.written === message);
    if (isDone()) return Promise.resolve();
    const timer = new AbortController();
    return new Promise<void>((resolve) => {
      const check = (): void => {
        if (isDone()) resolve();
        else this.#settled.push(check);
      };
      this.#settled.push(check);
      void this.#options.clock
        .sleep(STALL_MS, AbortSignal.any([timer.signal, signal]))
        .then(resolve, resolve);
    }).finally(() => timer.abort());
  }

  #notify(): void {
    const settled = this.#settled;
    this.#settled = [];
    for (const check of settled) check();
  }

  #drop(reader: Reader): void {
    this.#remove(reader);
    this.#options.drop(reader.stream);
  }

  #remove(reader: Reader): void {
    if (this.#readers.delete(reader)) this.#notify();
  }
}

/** Ends one stream with a status. */
export function endStream(stream: ByteStream, status: EndStatus): void {
  stream.emit('error', Object.assign(new Error(status.details), status));
}
