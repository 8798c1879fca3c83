import { Duplex } from 'node:stream';
import { Metadata } from '@grpc/grpc-js';
import type { WatchCall } from '../../ca/api/watch-stream.ts';
import type { GrpcServiceError } from '../../host/grpc-service-error.ts';
import { WatchResponse } from '../../proto/gen/kedge/v1/identity.ts';
import { settle } from '../support/manual-clock.ts';

/** The server's side of a Watch stream, without a network: the test plays the client. */
export class FakeWatchCall extends Duplex {
  readonly metadata: Metadata;
  readonly peer: string;
  /** What has been written, the newest last. */
  readonly messages: WatchResponse[] = [];
  /** What ended the stream, when it was refused. */
  refusal: GrpcServiceError | null = null;
  ended = false;
  /** While true the client reads nothing: a write is not over until it does. */
  stalled = false;
  #pending: (() => void) | null = null;

  constructor(token: string | null, peer = '192.0.2.7:41000') {
    super({ objectMode: true });
    this.metadata = new Metadata();
    if (token !== null) this.metadata.set('authorization', `Bearer ${token}`);
    this.peer = peer;
    // As grpc-js has it: an error is the status, and the end.
    this.on('error', (error: unknown) => {
      this.refusal = error as GrpcServiceError;
      this.end();
    });
  }

  getPeer(): string {
    return this.peer;
  }

  /** The client sends a message. */
  async send(bytes: Uint8Array): Promise<void> {
    this.push(Buffer.from(bytes));
    await settle();
  }

  /** The client sends no more. */
  async halfClose(): Promise<void> {
    this.push(null);
    await settle();
  }

  /** The client goes away. */
  async cancel(): Promise<void> {
    this.emit('cancelled', 'cancelled');
    this.destroy();
    await settle();
  }

  /** The client reads again. */
  async read1(): Promise<void> {
    this.stalled = false;
    this.#pending?.();
    this.#pending = null;
    await settle();
  }

  override _read(): void {}

  override _write(chunk: Uint8Array, _encoding: BufferEncoding, done: () => void): void {
    this.messages.push(WatchResponse.decode(chunk));
    if (this.stalled) this.#pending = done;
    else done();
  }

  override _final(done: () => void): void {
    this.ended = true;
    done();
    // The status is sent: grpc-js drops the stream.
    this.destroy();
  }

  /** As the service takes it. */
  get asCall(): WatchCall {
    return this as unknown as WatchCall;
  }
}
