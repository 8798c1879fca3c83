import type { ServerDuplexStream } from '@grpc/grpc-js';
import type { Clock } from '../../host/clock.ts';
import type { Log } from '../../host/log.ts';
import type { Random } from '../../host/random.ts';
import { toHex } from '../../pki/bytes.ts';
import type { ConsumerStatus } from './feed.ts';
import { type EndStatus, endStream } from './newest-broadcast.ts';
import type { SdsForm } from './sds-form.ts';
import type { SdsProtocol } from './sds-protocol.ts';
import type { SdsCatalog, SecretKind } from './sds-resources.ts';
import type { Nack, SdsEvent, StreamState } from './sds-stream-state.ts';
import type { RefusalOf } from './workload-api-methods.ts';

/** A discovery stream as grpc-js gives it, both ways in bytes. */
export type SdsCall = ServerDuplexStream<Buffer, Buffer>;

const NONCE_BYTES = 8;
/** A client that refuses over and over gets one line in the log in this time, milliseconds. */
const NACK_LOG_MS = 1_000;
/** Resource names in one line of the log. */
const NACK_LOG_NAMES = 8;

/** What every {@link SdsStream} of a feed is given. */
export interface SdsStreamOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** The setting; the node metadata of a client wins over it. */
  readonly isValidatorDisabled: boolean;
  /** A name for this stream that no other open one has; `nodeName` is what the client calls itself, or empty. */
  readonly nameFor: (nodeName: string) => string;
  /** Told of each secret that the client refuses. */
  readonly onNack: (kind: SecretKind) => void;
  readonly refusalOf: RefusalOf;
  /** Cuts the connection that the call is on. */
  readonly drop: (call: SdsCall) => void;
  /** Told when what the stream shows to hold has changed, or when it is writing no more. */
  readonly onChange: () => void;
  /** Told of each response that waits for the transport, and (false) when none does any more. */
  readonly onWriting: (isWriting: boolean) => void;
  /** Told once, when the stream is over. */
  readonly onEnd: () => void;
}

/** One open stream of SDS: carries out what the protocol's steps say. */
export class SdsStream<Request, State extends StreamState> {
  readonly #call: SdsCall;
  readonly #protocol: SdsProtocol<Request, State>;
  readonly #options: SdsStreamOptions;
  #state: State;
  #name: string | null = null;
  #isOpen = true;
  #nackLoggedAtMs = Number.NEGATIVE_INFINITY;

  /** Takes over the call. `catalog`: null while there is no identity, which holds the stream. */
  constructor(
    call: SdsCall,
    protocol: SdsProtocol<Request, State>,
    catalog: SdsCatalog | null,
    options: SdsStreamOptions,
  ) {
    const form: SdsForm = options.isValidatorDisabled ? 'plain' : 'spiffe';
    this.#call = call;
    this.#protocol = protocol;
    this.#options = options;
    this.#state = protocol.start(form, catalog);
    call.on('data', (bytes: Buffer) => {
      this.#guard(() => ({ type: 'request', request: protocol.read(bytes, options.isValidatorDisabled) }));
    });
    call.on('end', () => this.end(null));
    for (const event of ['cancelled', 'finish', 'error'] as const) call.once(event, () => this.#leave());
  }

  /** It may have been handed something of an identity. */
  get hasIdentity(): boolean {
    return this.#state.catalog !== null;
  }

  /** A response waits for the transport. */
  get isWriting(): boolean {
    return this.#state.isWriting;
  }

  /** What the client shows to hold; null while it asks for nothing. */
  get status(): ConsumerStatus | null {
    const { isStarted, isWildcard, names, evidence } = this.#state;
    if (this.#name === null || !isStarted || (!isWildcard && names.size === 0)) return null;
    return { name: this.#name, best: 'loaded', ...evidence };
  }

  get name(): string | null {
    return this.#name;
  }

  /** Gives the stream a newer snapshot. */
  offer(catalog: SdsCatalog): void {
    this.#guard(() => ({ type: 'catalog', catalog }));
  }

  /** Ends the stream; null = with OK. */
  end(status: EndStatus | null): void {
    if (!this.#isOpen) return;
    this.#leave();
    if (status === null) this.#call.end();
    else endStream(this.#call, status);
  }

  /** Ends the stream with its connection, so that what is in flight never reaches a reader that has stalled. */
  cut(): void {
    if (!this.#isOpen) return;
    this.#leave();
    this.#options.drop(this.#call);
  }

  /** What happens next, or what refuses it and ends the stream. */
  #guard(event: () => SdsEvent<Request>): void {
    if (!this.#isOpen) return;
    try {
      this.#take(event());
    } catch (error) {
      this.end(this.#options.refusalOf(error));
    }
  }

  #take(event: SdsEvent<Request>): void {
    const before = this.#state;
    const nonce = toHex(this.#options.random.bytes(NONCE_BYTES));
    const { state, send, nack } = this.#protocol.step(before, event, nonce);
    this.#state = state;
    if (!before.isStarted && state.isStarted) this.#name = this.#options.nameFor(state.nodeName);
    if (nack !== null) this.#tellNack(nack, before.catalog);
    if (send !== null) {
      this.#options.onWriting(true);
      this.#call.write(this.#protocol.encode(send), () => this.#guard(() => ({ type: 'written' })));
    }
    if (before.isWriting && !state.isWriting) this.#options.onWriting(false);
    if (isChanged(before, state)) this.#options.onChange();
  }

  #tellNack({ names, reason }: Nack, catalog: SdsCatalog | null): void {
    const { clock, log, onNack } = this.#options;
    for (const name of names) onNack(catalog?.kindOf(name) ?? 'validation_context');
    const nowMs = clock.monotonic();
    if (nowMs - this.#nackLoggedAtMs < NACK_LOG_MS) return;
    this.#nackLoggedAtMs = nowMs;
    log.warn('sds.nack', { consumer: this.#name, resources: names.slice(0, NACK_LOG_NAMES), reason });
  }

  #leave(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#options.onEnd();
  }
}

function isChanged(before: StreamState, after: StreamState): boolean {
  const [a, b] = [before.evidence, after.evidence];
  return (
    before.isStarted !== after.isStarted ||
    before.isWildcard !== after.isWildcard ||
    (before.names.size === 0) !== (after.names.size === 0) ||
    (before.isWriting && !after.isWriting) ||
    a.delivered !== b.delivered ||
    a.loaded !== b.loaded ||
    a.errorCode !== b.errorCode
  );
}
