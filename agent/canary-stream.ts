import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';

/** What a {@link CanaryStream} is made of. */
export interface CanaryStreamOptions {
  /** A connection, open or about to be. It is owned by the stream from now on. */
  readonly socket: Socket;
  /** Bytes that the other side may send in all; more ends the connection. */
  readonly maxBytes: number;
}

/**
 * A connection under a TLS client, which counts and keeps the raw bytes that the server sends: Node's TLS shows
 * neither the authorities of a CertificateRequest nor how much came in.
 */
export class CanaryStream extends Duplex {
  readonly #socket: Socket;
  readonly #maxBytes: number;
  #chunks: Buffer[] = [];
  #bytes = 0;
  #isFlooded = false;

  constructor({ socket, maxBytes }: CanaryStreamOptions) {
    super();
    this.#socket = socket;
    this.#maxBytes = maxBytes;
    socket.on('data', (chunk: Buffer) => this.#take(chunk));
    socket.on('end', () => this.push(null));
    socket.on('error', (error) => this.destroy(error));
    socket.on('close', () => this.destroy());
  }

  /** All that the server sent so far, encrypted parts included. */
  get received(): Uint8Array {
    return Buffer.concat(this.#chunks);
  }

  /** The server sent more than it may. */
  get isFlooded(): boolean {
    return this.#isFlooded;
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#socket.write(chunk, done);
  }

  override _final(done: () => void): void {
    this.#socket.end(done);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#socket.destroy();
    done(error);
  }

  #take(chunk: Buffer): void {
    if (this.#bytes + chunk.length > this.#maxBytes) {
      this.#isFlooded = true;
      this.destroy(new Error('the server sends more than it may'));
      return;
    }
    this.#bytes += chunk.length;
    this.#chunks.push(chunk);
    if (!this.push(chunk)) this.#socket.pause();
  }
}
