import type { Metadata } from '@grpc/grpc-js';
import type { RefusalContext } from '../../host/grpc-errors.ts';
import { KedgeError } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import type { ApiMetrics } from './api-metrics.ts';

/** What a method learns of a call beside its message. */
export interface CallContext {
  readonly metadata: Metadata;
  /** The other side as grpc-js names it: `address:port`. */
  readonly peer: string;
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

/** Throws `message_too_large` and `metadata_invalid`. */
export function checkSizes(message: Uint8Array | null, metadata: Metadata): void {
  if (message !== null) checkMessageSize(message);
  checkMetadataSize(metadata);
}

/** Throws `metadata_invalid`. */
export function checkMetadataSize(metadata: Metadata): void {
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
  const all = metadata.toJSON();
  for (const name in all) {
    for (const value of all[name] ?? []) size += name.length + value.length;
  }
  return size;
}

/** An address without its port: `10.0.0.7:41234` is `10.0.0.7`. */
export function addressOf(peer: string): string {
  const colon = peer.lastIndexOf(':');
  return colon < 0 ? peer : peer.slice(0, colon);
}
