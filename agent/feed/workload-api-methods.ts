import {
  type handleUnaryCall,
  type Metadata,
  type MethodDefinition,
  status,
  type UntypedHandleCall,
} from '@grpc/grpc-js';
import { isKedgeError, KedgeError, quote } from '../../pki/kedge-error.ts';
import { type ByteStream, type EndStatus, endStream } from './newest-broadcast.ts';

/** The service of SPIFFE_Workload_API.md; the standard gives it no package. */
export const WORKLOAD_API_SERVICE = 'SpiffeWorkloadAPI';
/** The header of SPIFFE_Workload_Endpoint.md section 6. */
export const SECURITY_HEADER = 'workload.spiffe.io';

/** Messages are encoded and decoded by whoever makes them, not by grpc-js. */
const RAW = {
  requestSerialize: (bytes: Buffer) => bytes,
  requestDeserialize: (bytes: Buffer) => bytes,
  responseSerialize: (bytes: Buffer) => bytes,
  responseDeserialize: (bytes: Buffer) => bytes,
} as const;

/** A method that answers with a stream of encoded messages. */
export function streamMethod(
  name: string,
  service: string = WORKLOAD_API_SERVICE,
): MethodDefinition<Buffer, Buffer> {
  return { path: `/${service}/${name}`, requestStream: false, responseStream: true, ...RAW };
}

/** A method that answers a stream of encoded messages with another. */
export function duplexMethod(name: string, service: string): MethodDefinition<Buffer, Buffer> {
  return { path: `/${service}/${name}`, requestStream: true, responseStream: true, ...RAW };
}

/** A method that answers with one encoded message. */
export function unaryMethod(
  name: string,
  service: string = WORKLOAD_API_SERVICE,
): MethodDefinition<Buffer, Buffer> {
  return { path: `/${service}/${name}`, requestStream: false, responseStream: false, ...RAW };
}

/**
 * Refuses a call without exactly one security header `workload.spiffe.io: true`: it keeps a server-side request
 * forgery, which cannot set headers, away from the keys (SPIFFE_Workload_Endpoint.md section 6).
 */
export function checkSecurityHeader(metadata: Metadata): void {
  const values = metadata.get(SECURITY_HEADER);
  if (values.length === 1 && values[0] === 'true') return;
  const found = values.length === 0 ? 'no value' : quote(values.map(String).join(', '));
  throw new KedgeError(
    'security_header_missing',
    `security header missing from request: ${SECURITY_HEADER} has ${found}`,
    { hint: `send the metadata ${SECURITY_HEADER}: true, once, with every call` },
  );
}

/** An error as the status of a call; message and hint of a public error reach the caller. */
export function statusOf(error: unknown): EndStatus {
  if (!isKedgeError(error) || error.spec.exposure === 'internal') {
    return { code: status.INTERNAL, details: 'internal error' };
  }
  const details = error.hint === undefined ? error.message : `${error.message}; ${error.hint}`;
  return { code: status[error.spec.status], details };
}

/** The profiles of the Workload API that do not exist here yet: the header is checked, then UNIMPLEMENTED. */
export const UNIMPLEMENTED_METHODS = {
  definitions: {
    FetchJWTSVID: unaryMethod('FetchJWTSVID'),
    ValidateJWTSVID: unaryMethod('ValidateJWTSVID'),
    FetchWITSVID: unaryMethod('FetchWITSVID'),
    FetchJWTBundles: streamMethod('FetchJWTBundles'),
    FetchWITBundles: streamMethod('FetchWITBundles'),
  },
  handlers: {
    FetchJWTSVID: refuseUnary('FetchJWTSVID'),
    ValidateJWTSVID: refuseUnary('ValidateJWTSVID'),
    FetchWITSVID: refuseUnary('FetchWITSVID'),
    FetchJWTBundles: refuseStream('FetchJWTBundles'),
    FetchWITBundles: refuseStream('FetchWITBundles'),
  } satisfies Record<string, UntypedHandleCall>,
} as const;

function refusal(metadata: Metadata, name: string): EndStatus {
  try {
    checkSecurityHeader(metadata);
  } catch (error) {
    return statusOf(error);
  }
  return statusOf(new KedgeError('unimplemented', `${name} is not served by this agent`));
}

function refuseUnary(name: string): handleUnaryCall<Buffer, Buffer> {
  return (call, callback) => callback(refusal(call.metadata, name));
}

function refuseStream(name: string): (stream: ByteStream) => void {
  return (stream) => endStream(stream, refusal(stream.metadata, name));
}
