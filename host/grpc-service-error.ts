import { Metadata } from '@grpc/grpc-js';
import { type GrpcRefusal, STATUS_DETAILS_KEY } from './grpc-errors.ts';

/** A refusal as grpc-js takes it: the argument of a unary callback, or of `stream.emit('error', ...)`. */
export interface GrpcServiceError {
  readonly code: number;
  readonly details: string;
  readonly metadata: Metadata;
}

/** A refusal for a server on grpc-js. */
export function serviceError(refusal: GrpcRefusal): GrpcServiceError {
  const metadata = new Metadata();
  metadata.set(STATUS_DETAILS_KEY, Buffer.from(refusal.details));
  return { code: refusal.status, details: refusal.message, metadata };
}
