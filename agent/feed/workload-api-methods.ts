import {
  type handleUnaryCall,
  type Metadata,
  type MethodDefinition,
  status,
  type UntypedHandleCall,
} from '@grpc/grpc-js';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
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

/** With what a stream ends that was served. */
export function statusOf(error: KedgeError): EndStatus {
  const details = error.hint === undefined ? error.message : `${error.message}; ${error.hint}`;
  return { code: status[error.spec.status], details };
}

/** Makes the status of a call that is refused, see {@link WorkloadEndpoint.refusalOf}. */
export type RefusalOf = (error: unknown) => EndStatus;

const UNIMPLEMENTED = {
  FetchJWTSVID: unaryMethod('FetchJWTSVID'),
  ValidateJWTSVID: unaryMethod('ValidateJWTSVID'),
  FetchWITSVID: unaryMethod('FetchWITSVID'),
  FetchJWTBundles: streamMethod('FetchJWTBundles'),
  FetchWITBundles: streamMethod('FetchWITBundles'),
} as const;

/** The profiles of the Workload API that do not exist here yet: the header is checked, then UNIMPLEMENTED. */
export function unimplementedMethods(refusalOf: RefusalOf): {
  readonly definitions: typeof UNIMPLEMENTED;
  readonly handlers: Record<string, UntypedHandleCall>;
} {
  const refuse = (metadata: Metadata, name: string): EndStatus => {
    try {
      checkSecurityHeader(metadata);
    } catch (error) {
      return refusalOf(error);
    }
    return refusalOf(new KedgeError('unimplemented', `${name} is not served by this agent`));
  };
  const refuseUnary =
    (name: string): handleUnaryCall<Buffer, Buffer> =>
    (call, callback) =>
      callback(refuse(call.metadata, name));
  const refuseStream =
    (name: string) =>
    (stream: ByteStream): void =>
      endStream(stream, refuse(stream.metadata, name));
  return {
    definitions: UNIMPLEMENTED,
    handlers: Object.fromEntries(
      Object.entries(UNIMPLEMENTED).map(([name, { responseStream }]) => [
        name,
        (responseStream ? refuseStream(name) : refuseUnary(name)) as UntypedHandleCall,
      ]),
    ),
  };
}
