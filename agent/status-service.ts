import type { handleUnaryCall } from '@grpc/grpc-js';
import { decodeMessage } from '../host/grpc-service.ts';
import { KedgeError } from '../pki/kedge-error.ts';
import { GetAgentStatusRequest, GetAgentStatusResponse } from '../proto/gen/kedge/v1/agent.ts';
import { unaryMethod } from './feed/workload-api-methods.ts';
import type { WorkloadEndpoint } from './feed/workload-endpoint.ts';

/** `kedge.v1.Agent`, beside the Workload API on its socket (SPIFFE_Workload_Endpoint.md section 7 forbids only to extend
 *  the services of SPIFFE). */
export const AGENT_SERVICE = 'kedge.v1.Agent';

/** The request is empty; a field of a later version may come to it. The endpoint's own bound is an Envoy's. */
const MAX_REQUEST_BYTES = 1024;

/**
 * Adds `kedge.v1.Agent/GetStatus` to the endpoint. Whoever may connect may ask: the answer holds no more than what the
 * Workload API gives to the same caller, and no key.
 */
export function addStatusService(endpoint: WorkloadEndpoint, read: () => GetAgentStatusResponse): void {
  const getStatus: handleUnaryCall<Buffer, Buffer> = (call, callback) => {
    try {
      const { length } = call.request;
      if (length > MAX_REQUEST_BYTES) {
        throw new KedgeError(
          'message_too_large',
          `the request has ${length} bytes, over ${MAX_REQUEST_BYTES}`,
        );
      }
      decodeMessage(GetAgentStatusRequest, call.request);
      callback(null, Buffer.from(GetAgentStatusResponse.encode(read()).finish()));
    } catch (error) {
      callback(endpoint.refusalOf(error));
    }
  };
  endpoint.addService({ GetStatus: unaryMethod('GetStatus', AGENT_SERVICE) }, { GetStatus: getStatus });
}
