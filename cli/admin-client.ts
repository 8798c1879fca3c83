import { Client, credentials, type ServiceError } from '@grpc/grpc-js';
import { LIMITS } from '../pki/limits.ts';
import {
  ChangeRotationRequest,
  GetBundleRequest,
  GetRotationRequest,
  GetRotationResponse,
  GetStatusRequest,
  GetStatusResponse,
  RewrapKeysRequest,
  RewrapKeysResponse,
} from '../proto/gen/kedge/v1/admin.ts';
import { TrustBundle } from '../proto/gen/kedge/v1/identity.ts';
import { caAt, grpcFailure } from './grpc-failure.ts';

const TIMEOUT_MS = 5_000;

interface Codec<T> {
  encode(message: T): { finish(): Uint8Array };
  decode(bytes: Uint8Array): T;
}

/** Asks a running CA, over its admin socket, for its status. Errors: `ca_unreachable`, what the CA refuses with. */
export function getStatus(target: string): Promise<GetStatusResponse> {
  return call(target, 'GetStatus', GetStatusRequest, GetStatusResponse, {});
}

/** Asks a running CA for the trust bundle in force. Errors as of {@link getStatus}. */
export function getBundle(target: string): Promise<TrustBundle> {
  return call(target, 'GetBundle', GetBundleRequest, TrustBundle, {});
}

/** Has a running CA seal its keys anew. Errors: `key_sealed`, and as of {@link getStatus}. */
export function rewrapKeys(target: string): Promise<RewrapKeysResponse> {
  return call(target, 'RewrapKeys', RewrapKeysRequest, RewrapKeysResponse, {});
}

/** Asks a running CA where the rotation of its trust anchor stands. Errors as of {@link getStatus}. */
export function getRotation(target: string): Promise<GetRotationResponse> {
  return call(target, 'GetRotation', GetRotationRequest, GetRotationResponse, {});
}

/** Asks a running CA to change it. Errors: `ca_unreachable`, `rotation_refused`, and what else the CA refuses with. */
export function changeRotation(target: string, request: ChangeRotationRequest): Promise<GetRotationResponse> {
  return call(target, 'ChangeRotation', ChangeRotationRequest, GetRotationResponse, request);
}

/** One call on a connection of its own, with a deadline. */
async function call<Request, Response>(
  target: string,
  method: string,
  requests: Pick<Codec<Request>, 'encode'>,
  responses: Pick<Codec<Response>, 'decode'>,
  request: Request,
): Promise<Response> {
  const client = new Client(target, credentials.createInsecure(), {
    'grpc.max_receive_message_length': LIMITS.caMessageBytes,
  });
  const { promise, resolve, reject } = Promise.withResolvers<Response>();
  try {
    client.makeUnaryRequest(
      `/kedge.v1.Admin/${method}`,
      (message: Request) => Buffer.from(requests.encode(message).finish()),
      (bytes: Buffer) => responses.decode(bytes),
      request,
      { deadline: Date.now() + TIMEOUT_MS },
      (error: ServiceError | null, response?: Response) => {
        if (error !== null) reject(grpcFailure(error, caAt(target)));
        else if (response !== undefined) resolve(response);
      },
    );
    return await promise;
  } finally {
    client.close();
  }
}
