import type { handleUnaryCall, Metadata } from '@grpc/grpc-js';
import { type RefusalContext, refusalOf } from '../../host/grpc-errors.ts';
import { serviceError } from '../../host/grpc-service-error.ts';
import { grpcStatusName } from '../../host/grpc-status.ts';
import { KedgeError } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import type { ApiMetrics, ApiMethod } from './api-metrics.ts';

/** What a handler learns of a call beside its message. */
export interface CallContext {
  readonly metadata: Metadata;
  /** Address of the other side, without the port; for logs and rate limits only. */
  readonly peerAddress: string;
  /** Aborts when the caller leaves or its deadline passes. */
  readonly signal: AbortSignal;
}

/** One method of a service: encoded request to encoded answer. What it throws becomes a refusal. */
export type UnaryMethod = (request: Buffer, call: CallContext) => Promise<Uint8Array> | Uint8Array;

/** What every handler of one server shares. */
export interface HandlerContext extends RefusalContext {
  readonly metrics: ApiMetrics;
}

/** A unary method for grpc-js, on messages that stay encoded: bounds first, then the method, then one funnel. */
export function unaryHandler(
  method: ApiMethod,
  context: HandlerContext,
  handle: UnaryMethod,
): handleUnaryCall<Buffer, Uint8Array> {
  return (call, respond) => {
    const controller = new AbortController();
    let over = false;
    const refuse = (error: unknown): void => {
      if (over) return;
      over = true;
      const refusal = refusalOf(error, context);
      context.metrics.callEnded(method, grpcStatusName(refusal.status));
      respond(serviceError(refusal));
    };
    // grpc-js emits this after every call, answered or not.
    call.on('cancelled', () => {
      if (over) return;
      over = true;
      context.metrics.callEnded(method, 'CANCELLED');
      controller.abort(new KedgeError('cancelled', 'the caller left, or its deadline passed'));
    });
    const answer = (bytes: Uint8Array): void => {
      if (over) return;
      over = true;
      context.metrics.callEnded(method, 'OK');
      respond(null, bytes);
    };
    try {
      checkSizes(call.request, call.metadata);
      const peerAddress = addressOf(call.getPeer());
      const result = handle(call.request, {
        metadata: call.metadata,
        peerAddress,
        signal: controller.signal,
      });
      if (result instanceof Promise) result.then(answer, refuse);
      else answer(result);
    } catch (error) {
      refuse(error);
    }
  };
}

/** Throws `message_too_large` and `metadata_invalid`. */
export function checkSizes(message: Uint8Array | null, metadata: Metadata): void {
  if (message !== null) checkMessageSize(message);
  const bytes = metadataSize(metadata);
  if (bytes <= LIMITS.metadataBytes) return;
  throw new KedgeError(
    'metadata_invalid',
    `the metadata of the call is ${bytes} bytes, over the limit of ${LIMITS.metadataBytes}`,
    { hint: 'send the bearer token, and nothing else that is large' },
  );
}

/** Throws `message_too_large`. */
export function checkMessageSize(message: Uint8Array): void {
  if (message.length <= LIMITS.agentMessageBytes) return;
  throw new KedgeError(
    'message_too_large',
    `the message is ${message.length} bytes, over the limit of ${LIMITS.agentMessageBytes}`,
  );
}

function metadataSize(metadata: Metadata): number {
  let size = 0;
  for (const [name, values] of Object.entries(metadata.toJSON())) {
    for (const value of values) size += name.length + value.length;
  }
  return size;
}

/** An address without its port: `10.0.0.7:41234` is `10.0.0.7`. */
export function addressOf(peer: string): string {
  const colon = peer.lastIndexOf(':');
  return colon < 0 ? peer : peer.slice(0, colon);
}
