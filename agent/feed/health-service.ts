import { type handleServerStreamingCall, type handleUnaryCall, type Server, status } from '@grpc/grpc-js';
import {
  HealthCheckRequest,
  HealthCheckResponse,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from '../../proto/gen/grpc/health/v1/health.ts';
import {
  type EndStatus,
  endStream,
  NewestBroadcast,
  type NewestBroadcastOptions,
} from './newest-broadcast.ts';
import { statusOf, streamMethod, unaryMethod, WORKLOAD_API_SERVICE } from './workload-api-methods.ts';

/** The service name of the gRPC health checking protocol. */
export const HEALTH_SERVICE = 'grpc.health.v1.Health';

/** The health of the Workload API: SERVING exactly while an identity is served. */
export interface HealthService {
  /** Health streams open. */
  readonly streams: number;
  setServing(serving: boolean): void;
  close(status: EndStatus): void;
}

/** What {@link addHealthService} needs. */
export interface HealthServiceOptions extends NewestBroadcastOptions {
  /** Throws when no further stream may be opened. */
  readonly mayAdd: () => void;
}

/** Adds gRPC health (Check and Watch, for `` and `SpiffeWorkloadAPI`) to a server. No security header is asked for. */
export function addHealthService(server: Server, options: HealthServiceOptions): HealthService {
  const watchers = new NewestBroadcast(options);
  const unknownWatchers = new NewestBroadcast(options);
  const never = new AbortController().signal;
  let current = encode(ServingStatus.NOT_SERVING);
  void watchers.send(current, never);
  void unknownWatchers.send(encode(ServingStatus.SERVICE_UNKNOWN), never);

  const check: handleUnaryCall<Buffer, Buffer> = (call, callback) => {
    if (isKnown(call.request)) callback(null, current);
    else callback({ code: status.NOT_FOUND, details: 'unknown service' });
  };
  const watch: handleServerStreamingCall<Buffer, Buffer> = (stream) => {
    try {
      options.mayAdd();
    } catch (error) {
      endStream(stream, statusOf(error));
      return;
    }
    (isKnown(stream.request) ? watchers : unknownWatchers).add(stream);
  };
  server.addService(
    { Check: unaryMethod('Check', HEALTH_SERVICE), Watch: streamMethod('Watch', HEALTH_SERVICE) },
    { Check: check, Watch: watch },
  );

  return {
    get streams() {
      return watchers.size + unknownWatchers.size;
    },
    setServing(serving) {
      const next = encode(serving ? ServingStatus.SERVING : ServingStatus.NOT_SERVING);
      if (next.equals(current)) return;
      current = next;
      void watchers.send(current, never);
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
