import { type handleServerStreamingCall, type handleUnaryCall, status } from '@grpc/grpc-js';
import type { Clock } from '../../host/clock.ts';
import {
  HealthCheckRequest,
  HealthCheckResponse,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from '../../proto/gen/grpc/health/v1/health.ts';
import { type ByteStream, type EndStatus, endStream, NewestBroadcast } from './newest-broadcast.ts';
import { streamMethod, unaryMethod, WORKLOAD_API_SERVICE } from './workload-api-methods.ts';
import type { WorkloadEndpoint } from './workload-endpoint.ts';

/** The service name of the gRPC health checking protocol. */
export const HEALTH_SERVICE = 'grpc.health.v1.Health';

/** The health of the Workload API: SERVING exactly while an identity is served. */
export interface HealthService {
  setServing(serving: boolean): void;
  close(status: EndStatus): void;
}

/** Adds gRPC health (Check and Watch, for `` and `SpiffeWorkloadAPI`) to the endpoint. No security header is asked for. */
export function addHealthService(endpoint: WorkloadEndpoint, clock: Clock): HealthService {
  const drop = (stream: ByteStream): void => endpoint.drop(stream);
  const watchers = new NewestBroadcast({ name: 'health', clock, drop });
  const unknownWatchers = new NewestBroadcast({ name: 'health-unknown', clock, drop });
  const never = new AbortController().signal;
  let current = encode(ServingStatus.NOT_SERVING);
  void watchers.send({ bytes: current, held: null }, never);
  void unknownWatchers.send({ bytes: encode(ServingStatus.SERVICE_UNKNOWN), held: null }, never);

  const check: handleUnaryCall<Buffer, Buffer> = (call, callback) => {
    if (isKnown(call.request)) callback(null, current);
    else callback({ code: status.NOT_FOUND, details: 'unknown service' });
  };
  const watch: handleServerStreamingCall<Buffer, Buffer> = (stream) => {
    try {
      endpoint.admit(stream);
    } catch (error) {
      endStream(stream, endpoint.refusalOf(error));
      return;
    }
    (isKnown(stream.request) ? watchers : unknownWatchers).add(stream);
  };
  endpoint.addService(
    { Check: unaryMethod('Check', HEALTH_SERVICE), Watch: streamMethod('Watch', HEALTH_SERVICE) },
    { Check: check, Watch: watch },
  );

  return {
    setServing(serving) {
      const next = encode(serving ? ServingStatus.SERVING : ServingStatus.NOT_SERVING);
      if (next.equals(current)) return;
      current = next;
      void watchers.send({ bytes: current, held: null }, never);
    },
    close(endStatus) {
      watchers.end(endStatus);
      unknownWatchers.end(endStatus);
    },
  };
}

function isKnown(request: Buffer): boolean {
  try {
    const { service } = HealthCheckRequest.decode(request);
    return service === '' || service === WORKLOAD_API_SERVICE;
  } catch {
    return false;
  }
}

function encode(servingStatus: ServingStatus): Buffer {
  return Buffer.from(HealthCheckResponse.encode({ status: servingStatus }).finish());
}
