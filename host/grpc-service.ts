import type { MethodDefinition } from '@grpc/grpc-js';
import { KedgeError } from '../pki/kedge-error.ts';

/** What a generated message type gives: the codec of one protobuf message. */
export interface MessageCodec<T> {
  encode(message: T): { finish(): Uint8Array };
  decode(bytes: Uint8Array): T;
}

/** One method of a gRPC service, as its proto file has it. */
export interface MethodSpec<Request, Response> {
  /** `/<package>.<Service>/<Method>`. */
  readonly path: string;
  readonly request: MessageCodec<Request>;
  readonly response: MessageCodec<Response>;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
}

/**
 * Stands where a message should be that is not valid protobuf. A decoder that throws would make grpc-js answer
 * INTERNAL; this lets the handler refuse it as what it is, see {@link decoded}.
 */
export class MalformedMessage {
  readonly error: KedgeError;

  constructor(cause: unknown) {
    this.error = new KedgeError('message_malformed', 'the message is not valid protobuf of its type', {
      hint: 'generate the client from the published proto files',
      cause,
    });
  }
}

/** A message, or the mark that its bytes were no such message. */
export type Decoded<T> = T | MalformedMessage;

/** The message itself. Throws `message_malformed` where the bytes were none. */
export function decoded<T>(message: Decoded<T>): T {
  if (message instanceof MalformedMessage) throw message.error;
  return message;
}

/** Decodes one message. Throws `message_malformed` for bytes that are none. */
export function decodeMessage<T>(codec: Pick<MessageCodec<T>, 'decode'>, bytes: Uint8Array): T {
  try {
    return codec.decode(bytes);
  } catch (error) {
    throw new MalformedMessage(error).error;
  }
}

/**
 * The definition of one method for grpc-js, for a server's `addService` and for a client's `make...Request`.
 *
 * Requests are decoded for a server that expects hostile bytes, so they arrive as {@link Decoded}. A response that
 * does not decode makes grpc-js fail the client's call by itself.
 */
export function methodDefinition<Request, Response>(
  spec: MethodSpec<Request, Response>,
): MethodDefinition<Decoded<Request>, Response> {
  const { path, request, response, requestStream, responseStream } = spec;
  return {
    path,
    requestStream,
    responseStream,
    requestSerialize: (message) => bufferOf(request.encode(decoded(message)).finish()),
    requestDeserialize: (bytes) => {
      try {
        return request.decode(bytes);
      } catch (error) {
        return new MalformedMessage(error);
      }
    },
    responseSerialize: (message) => bufferOf(response.encode(message).finish()),
    responseDeserialize: (bytes) => response.decode(bytes),
  };
}

/**
 * The definition of one method whose messages stay encoded: for a server that refuses malformed messages in its own
 * terms and answers with bytes that it encoded before.
 */
export function rawMethodDefinition(
  spec: Pick<MethodSpec<never, never>, 'path' | 'requestStream' | 'responseStream'>,
): MethodDefinition<Buffer, Uint8Array> {
  const same = (bytes: Buffer): Buffer => bytes;
  return {
    ...spec,
    requestSerialize: same,
    requestDeserialize: same,
    responseSerialize: bufferOf,
    responseDeserialize: same,
  };
}

/** The same bytes as a Buffer, not copied. */
function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
