import { type Metadata, ServerInterceptingCall, type ServerInterceptor } from '@grpc/grpc-js';
import type { Clock } from '../../host/clock.ts';
import { isStreamClosed, onceStreamCloses } from '../../host/grpc-stream-close.ts';
import { OverdueWatch } from './overdue-watch.ts';

type NextCall = ConstructorParameters<typeof ServerInterceptingCall>[0];
type Listener = Parameters<NextCall['start']>[0];

/**
 * Calls at once that owe their first message, or their end after they were answered. An honest client sends it right behind its headers, so who stalls crowds
 * out nobody but others who stall.
 */
export const MAX_OWING_CALLS = 64;
/**
 * The first message must be whole so many milliseconds after the headers; and the client must have ended its side so
 * long after the call has got its status, as it can by its own deadline.
 */
export const FIRST_MESSAGE_MS = 10_000;

/** What {@link EndpointCalls} are made of. */
export interface EndpointCallsOptions {
  readonly clock: Clock;
  /** A call has begun on the connection that is called `peer`. */
  readonly onBegin: (peer: string) => void;
  /** It has ended, answered or not, and nothing of it is held any more. */
  readonly onEnd: (peer: string) => void;
  /** Cuts the connection: ending a call frees nothing of a message that has come in part. */
  readonly cut: (peer: string) => void;
}

/**
 * Every call on the agent's sockets, from its headers to its end. Bounds what calls whose first message never comes
 * can make the agent hold: {@link MAX_OWING_CALLS} half-sent messages, none for longer than {@link FIRST_MESSAGE_MS},
 * whether the call has its status already or not. Later messages of a stream are bound by the streams that are served.
 */
export class EndpointCalls {
  readonly #options: EndpointCallsOptions;
  readonly #owing: OverdueWatch<EndpointCall>;

  constructor(options: EndpointCallsOptions) {
    this.#options = options;
    this.#owing = new OverdueWatch({
      clock: options.clock,
      timeoutMs: FIRST_MESSAGE_MS,
      onOverdue: (call) => options.cut(call.peer),
    });
  }

  /** For the server's options. */
  readonly interceptor: ServerInterceptor = ({ requestStream }, call) =>
    new EndpointCall(call, requestStream, {
      onBegin: (self) => {
        this.#owe(self);
        this.#options.onBegin(self.peer);
      },
      onOwing: (self) => this.#owe(self),
      onMessage: (self) => this.#owing.delete(self),
      onEnd: (self) => {
        this.#owing.delete(self);
        this.#options.onEnd(self.peer);
      },
    });

  #owe(call: EndpointCall): void {
    if (this.#owing.has(call)) return;
    const { oldest } = this.#owing;
    if (oldest !== undefined && this.#owing.size >= MAX_OWING_CALLS) {
      this.#owing.delete(oldest);
      this.#options.cut(oldest.peer);
    }
    this.#owing.add(call);
  }
}

interface CallObserver {
  readonly onBegin: (call: EndpointCall) => void;
  readonly onMessage: (call: EndpointCall) => void;
  readonly onOwing: (call: EndpointCall) => void;
  readonly onEnd: (call: EndpointCall) => void;
}

class EndpointCall extends ServerInterceptingCall {
  readonly peer: string;
  readonly #call: NextCall;
  readonly #isRequestStream: boolean;
  readonly #observer: CallObserver;
  /** The client has ended its side. */
  #isWhole = false;
  #hasBegun = false;

  constructor(call: NextCall, isRequestStream: boolean, observer: CallObserver) {
    super(call);
    this.peer = call.getPeer();
    this.#call = call;
    this.#isRequestStream = isRequestStream;
    this.#observer = observer;
  }

  override start(listener: Listener): void {
    const { onBegin, onMessage, onOwing, onEnd } = this.#observer;
    this.#call.start({
      onReceiveMetadata: (metadata: Metadata) => {
        this.#hasBegun = true;
        onBegin(this);
        listener.onReceiveMetadata(metadata);
      },
      onReceiveMessage: (message: unknown) => {
        // A call with one message is served once the client has ended its side: until then it is held.
        if (this.#isRequestStream) onMessage(this);
        listener.onReceiveMessage(message);
      },
      onReceiveHalfClose: () => {
        this.#isWhole = true;
        onMessage(this);
        listener.onReceiveHalfClose();
      },
      // Comes after every call, answered or not.
      onCancel: () => {
        if (!this.#isWhole && !isStreamClosed(this.#call)) onOwing(this);
        // Counted out only where it was counted in.
        if (this.#hasBegun) onceStreamCloses(this.#call, () => onEnd(this));
        listener.onCancel();
      },
    });
  }
}
