import type { ServerWritableStream, StatusObject } from '@grpc/grpc-js';
import type { Clock } from '../../host/clock.ts';
import type { HeldSnapshot } from '../snapshot.ts';
import type { ConsumerStatus } from './feed.ts';
import { OverdueWatch } from './overdue-watch.ts';

/**
 * How long a reader may take to accept a message before its connection is dropped, in milliseconds: whenever that
 * message came, so that who reads nothing keeps no stream from others.
 */
export const STALL_MS = 2_000;

/** A gRPC stream of bytes that were encoded before. */
export type ByteStream = ServerWritableStream<Buffer, Buffer>;

/** How a stream ends. */
export type EndStatus = Pick<StatusObject, 'code' | 'details'> & Partial<Pick<StatusObject, 'metadata'>>;

/** What is sent, and which snapshot it makes the reader hold; null = none. */
export interface Broadcast {
  readonly bytes: Buffer;
  readonly held: HeldSnapshot | null;
}

/** What a {@link NewestBroadcast} is made of. */
export interface NewestBroadcastOptions {
  /** What the readers are named after. */
  readonly name: string;
  readonly clock: Clock;
  /** Told when a reader comes, leaves, or takes a message. */
  readonly onReadersChange?: () => void;
  /** Cuts the connection that a stream is on: its reader has stalled. */
  readonly drop: (stream: ByteStream) => void;
}

interface Reader {
  readonly name: string;
  readonly stream: ByteStream;
  /** Handed to the stream and not yet taken by the transport. */
  inFlight: Broadcast | null;
  /** The newest that the transport took. */
  written: Broadcast | null;
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
  /** Those with a message in flight. */
  readonly #writing: OverdueWatch<Reader>;
  #newest: Broadcast | null = null;
  #readerCount = 0;
  #settled: (() => void)[] = [];

  constructor(options: NewestBroadcastOptions) {
    this.#options = options;
    this.#writing = new OverdueWatch({
      clock: options.clock,
      timeoutMs: STALL_MS,
      onOverdue: (reader) => this.#drop(reader),
    });
  }

  /** Streams open. */
  get size(): number {
    return this.#readers.size;
  }

  /** Adds a stream, which gets the newest message at once where there is one. */
  add(stream: ByteStream): void {
    this.#readerCount += 1;
    const name = `${this.#options.name}-${this.#readerCount}`;
    const reader: Reader = { name, stream, inFlight: null, written: null };
    this.#readers.add(reader);
    const gone = (): void => this.#remove(reader);
    stream.once('cancelled', gone);
    stream.once('finish', gone);
    stream.once('error', gone);
    this.#push(reader);
  }

  /** What each reader was given: all of them, those that came first first. */
  consumers(): readonly ConsumerStatus[] {
    return [...this.#readers].map(({ name, written }) => ({
      name,
      best: 'delivered',
      delivered: written?.held ?? null,
      loaded: null,
      errorCode: null,
    }));
  }

  /**
   * Makes `message` the newest; one of the same bytes is not sent again. Resolves when every stream that is open has
   * taken it; a reader that takes nothing is dropped after {@link STALL_MS}, so that it comes back for the newest.
   */
  async send(message: Broadcast, signal: AbortSignal): Promise<void> {
    const before = this.#newest;
    this.#newest = message;
    if (before?.bytes.equals(message.bytes) === true) {
      for (const reader of this.#readers) if (reader.written === before) reader.written = message;
    }
    for (const reader of this.#readers) this.#push(reader);
    await this.#taken(message, signal);
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
    this.#writing.add(reader);
    reader.stream.write(message.bytes, () => {
      reader.inFlight = null;
      this.#writing.delete(reader);
      reader.written = this.#sameAs(message);
      this.#push(reader);
      this.#notify();
    });
  }

  /** While a message was in flight, another one of the same bytes may have become the newest. */
  #sameAs(message: Broadcast): Broadcast {
    const newest = this.#newest;
    return newest !== null && newest !== message && newest.bytes.equals(message.bytes) ? newest : message;
  }

  /** Whoever comes meanwhile gets the newest, and is not waited for. */
  #taken(message: Broadcast, signal: AbortSignal): Promise<void> {
    const owed = new Set([...this.#readers].filter(({ written }) => written !== message));
    const isDone = (): boolean => {
      if (signal.aborted || this.#newest !== message) return true;
      for (const reader of owed) {
        if (this.#readers.has(reader) && reader.written !== message) return false;
        owed.delete(reader);
      }
      return true;
    };
    if (isDone()) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    const check = (): void => {
      if (isDone()) resolve();
      else this.#settled.push(check);
    };
    this.#settled.push(check);
    signal.addEventListener('abort', check, { once: true });
    return promise.finally(() => signal.removeEventListener('abort', check));
  }

  #notify(): void {
    const settled = this.#settled;
    this.#settled = [];
    for (const check of settled) check();
    this.#options.onReadersChange?.();
  }

  #drop(reader: Reader): void {
    this.#remove(reader);
    this.#options.drop(reader.stream);
  }

  #remove(reader: Reader): void {
    this.#writing.delete(reader);
    if (this.#readers.delete(reader)) this.#notify();
  }
}

/** Ends one stream with a status. */
export function endStream(stream: Pick<ByteStream, 'emit'>, status: EndStatus): void {
  stream.emit('error', Object.assign(new Error(status.details), status));
}
