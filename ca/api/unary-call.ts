import { type Metadata, ServerInterceptingCall, type ServerInterceptor, status } from '@grpc/grpc-js';
import { type GrpcRefusal, refusalOf } from '../../host/grpc-errors.ts';
import { serviceError } from '../../host/grpc-service-error.ts';
import { isStreamClosed, onceStreamCloses } from '../../host/grpc-stream-close.ts';
import { grpcStatusName } from '../../host/grpc-status.ts';
import { KedgeError } from '../../pki/kedge-error.ts';
import type { ApiMethod } from './api-metrics.ts';
import { ANYONE, type HalfSentCall, type HalfSentCalls } from './half-sent-calls.ts';
import {
  type CallContext,
  checkMessageSize,
  checkMetadataSize,
  type HandlerContext,
  type UnaryMethod,
} from './unary-method.ts';

type NextCall = ConstructorParameters<typeof ServerInterceptingCall>[0];
type Listener = Parameters<NextCall['start']>[0];

/** A call that its headers let in. */
export interface Admission {
  /** With whom it shares the bound on half-sent calls, see {@link HalfSentCalls}. */
  readonly holder: string;
  /** Encoded request to encoded answer. What it throws becomes a refusal. */
  handle(request: Buffer): Promise<Uint8Array> | Uint8Array;
}

/**
 * Decides about a call by its headers alone: nothing of its message is read before, so that it costs a peer whose
 * token is no good no memory of ours. What it throws becomes a refusal.
 */
export type Admit = (call: CallContext) => Admission | Promise<Admission>;

/** What a server does with its calls. */
export interface CallRoutes {
  /** Unary methods, by their names. */
  readonly unary: ReadonlyMap<ApiMethod, Admit>;
  /** Methods with one request and a stream of answers, which anyone may call. grpc-js serves them. */
  readonly openStreams: ReadonlySet<ApiMethod>;
}

/** What the calls of one server share. */
export interface CallOptions extends HandlerContext {
  readonly halfSent: HalfSentCalls;
  /** Cuts the connection that a peer (`address:port`) made. */
  readonly disconnect: (peer: string) => void;
}

/** Admits a unary method that needs no token. */
export function withoutToken(handle: UnaryMethod): Admit {
  return (call) => ({ holder: ANYONE, handle: (request) => handle(request, call) });
}

/**
 * Serves the unary methods of a server, and bounds how long the other calls may owe their message.
 *
 * Unary methods end here and not in grpc-js's handlers of that kind. Those read the message before anyone has looked
 * at the headers; and they make a stream object for each call and flush the answer before its status, in two TLS
 * records, which together cost as much again as signing the SVID.
 */
export function callInterceptor(routes: CallRoutes, options: CallOptions): ServerInterceptor {
  return ({ path }, call) => {
    // Paths are `/<method>`, and only methods that the server has come here.
    const method = path.slice(1) as ApiMethod;
    const admit = routes.unary.get(method);
    if (admit !== undefined) return new UnaryCall(call, method, admit, options);
    return routes.openStreams.has(method) ? new OpenStream(call, options) : new TokenStream(call, options);
  };
}

/** One unary call, from its headers to its status. */
class UnaryCall extends ServerInterceptingCall implements CallContext, HalfSentCall, Listener {
  readonly #call: NextCall;
  readonly #method: ApiMethod;
  readonly #admit: Admit;
  readonly #options: CallOptions;
  #metadata: Metadata | null = null;
  #admission: Admission | null = null;
  #request: Buffer | null = null;
  /** The client has sent all that it had to. */
  #isWhole = false;
  /** Made when someone asks for its signal. */
  #controller: AbortController | null = null;
  #over = false;

  constructor(call: NextCall, method: ApiMethod, admit: Admit, options: CallOptions) {
    super(call);
    this.#call = call;
    this.#method = method;
    this.#admit = admit;
    this.#options = options;
  }

  get metadata(): Metadata {
    if (this.#metadata === null) throw new TypeError('the headers have not come');
    return this.#metadata;
  }

  get peer(): string {
    return this.#call.getPeer();
  }

  get peerAddress(): string {
    return this.#call.getConnectionInfo().remoteAddress ?? 'unknown';
  }

  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#over && !this.#controller.signal.aborted) this.#controller.abort(departure());
    return this.#controller.signal;
  }

  /** What grpc-js would do with the call is not asked for: see {@link callInterceptor}. */
  override start(): void {
    this.#call.start(this);
  }

  onReceiveMetadata(metadata: Metadata): void {
    this.#metadata = metadata;
    try {
      checkMetadataSize(metadata);
      const admission = this.#admit(this);
      if (admission instanceof Promise) admission.then(this.#begin, this.#refuse);
      else this.#begin(admission);
    } catch (error) {
      this.#refuse(error);
    }
  }

  onReceiveMessage(message: Buffer): void {
    if (this.#over) return;
    try {
      checkMessageSize(message);
      if (this.#request !== null) throw messages('more than one message');
    } catch (error) {
      this.#refuse(error);
      return;
    }
    this.#request = message;
    this.#call.startRead();
  }

  onReceiveHalfClose(): void {
    const [admission, request] = [this.#admission, this.#request];
    if (this.#over || admission === null) return;
    this.#isWhole = true;
    this.#options.halfSent.delete(admission.holder, this);
    try {
      if (request === null) throw messages('no message');
      const answer = admission.handle(request);
      if (answer instanceof Promise) answer.then(this.#answer, this.#refuse);
      else this.#answer(answer);
    } catch (error) {
      this.#refuse(error);
    }
  }

  /** Comes after every call, answered or not. */
  onCancel(): void {
    if (!this.#end()) return;
    this.#options.metrics.callEnded(this.#method, 'CANCELLED');
    this.#controller?.abort(departure());
  }

  refuse(error: KedgeError): void {
    this.#refuse(error);
  }

  cut(): void {
    this.#options.disconnect(this.#call.getPeer());
  }

  readonly #begin = (admission: Admission): void => {
    if (this.#over) return;
    this.#admission = admission;
    this.#options.halfSent.add(admission.holder, this);
    this.#call.startRead();
  };

  readonly #answer = (bytes: Uint8Array): void => {
    if (!this.#end()) return;
    this.#options.metrics.callEnded(this.#method, 'OK');
    // Not one after the other's callback, so that headers, message and status leave together.
    this.#call.sendMessage(bytes, ignore);
    this.#call.sendStatus({ code: status.OK, details: 'OK' });
  };

  readonly #refuse = (error: unknown): void => {
    if (!this.#end()) return;
    const refusal = refusalOf(error, this.#options);
    this.#options.metrics.callEnded(this.#method, grpcStatusName(refusal.status));
    this.#call.sendStatus(statusOf(refusal));
  };

  /** False when it was over already. */
  #end(): boolean {
    if (this.#over) return false;
    this.#over = true;
    const { halfSent } = this.#options;
    const holder = this.#admission?.holder;
    // It owes its message for as long as grpc-js holds what has come of it.
    if (holder !== undefined && !this.#isWhole)
      onceStreamCloses(this.#call, () => halfSent.delete(holder, this));
    this.#admission = null;
    this.#request = null;
    return true;
  }
}

/** A call of anyone that grpc-js serves once its one message has come. */
class OpenStream extends ServerInterceptingCall implements HalfSentCall {
  readonly #call: NextCall;
  readonly #options: CallOptions;

  constructor(call: NextCall, options: CallOptions) {
    super(call);
    this.#call = call;
    this.#options = options;
  }

  override start(listener: Listener): void {
    const { halfSent } = this.#options;
    this.#call.start({
      onReceiveMetadata: (metadata: Metadata) => {
        halfSent.add(ANYONE, this);
        listener.onReceiveMetadata(metadata);
      },
      onReceiveMessage: (message: unknown) => listener.onReceiveMessage(message),
      onReceiveHalfClose: () => {
        halfSent.delete(ANYONE, this);
        listener.onReceiveHalfClose();
      },
      onCancel: () => {
        onceStreamCloses(this.#call, () => halfSent.delete(ANYONE, this));
        listener.onCancel();
      },
    });
  }

  refuse(error: KedgeError): void {
    this.#call.sendStatus(statusOf(refusalOf(error, this.#options)));
  }

  cut(): void {
    this.#options.disconnect(this.#call.getPeer());
  }
}

/**
 * A stream of messages that grpc-js serves, and reads once its token was accepted. While it is served its own bounds
 * hold; once it has its status it owes its end, and shares a bound with the others of its connection.
 */
class TokenStream extends ServerInterceptingCall implements HalfSentCall {
  readonly #call: NextCall;
  readonly #options: CallOptions;

  constructor(call: NextCall, options: CallOptions) {
    super(call);
    this.#call = call;
    this.#options = options;
  }

  override start(listener: Listener): void {
    const { halfSent } = this.#options;
    const holder = this.#call.getPeer();
    this.#call.start({
      onReceiveMetadata: (metadata: Metadata) => listener.onReceiveMetadata(metadata),
      onReceiveMessage: (message: unknown) => listener.onReceiveMessage(message),
      onReceiveHalfClose: () => listener.onReceiveHalfClose(),
      onCancel: () => {
        if (!isStreamClosed(this.#call)) halfSent.add(holder, this);
        onceStreamCloses(this.#call, () => halfSent.delete(holder, this));
        listener.onCancel();
      },
    });
  }

  /** It has its status. */
  refuse(): void {}

  cut(): void {
    this.#options.disconnect(this.#call.getPeer());
  }
}

function statusOf(refusal: GrpcRefusal): Parameters<NextCall['sendStatus']>[0] {
  const { details, metadata } = serviceError(refusal);
  return { code: status[grpcStatusName(refusal.status)], details, metadata };
}

function messages(found: string): KedgeError {
  return new KedgeError('message_malformed', `the call has ${found}, and must have one`);
}

function departure(): KedgeError {
  return new KedgeError('cancelled', 'the caller left, or its deadline passed');
}

function ignore(): void {}
