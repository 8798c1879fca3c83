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

const SERVING = encode(ServingStatus.SERVING);
const NOT_SERVING = encode(ServingStatus.NOT_SERVING);

/** The health of the Workload API, and of the agent around it. */
export interface HealthService {
  /** Whether the Workload API serves an identity now. */
  setServing(serving: boolean): void;
  /** Tells those who watch when the agent has become ready, or is not any more. */
  refresh(): void;
  close(status: EndStatus): void;
}

/**
 * Adds gRPC health (Check and Watch) to the endpoint: `SpiffeWorkloadAPI` is SERVING exactly while that API serves an
 * identity, and the empty name, which stands for all of the server, while the agent `isReady` besides. No security header
 * is asked for.
 */
export function addHealthService(
  endpoint: WorkloadEndpoint,
  clock: Clock,
  isReady: () => boolean,
): HealthService {
  const drop = (stream: ByteStream): void => endpoint.drop(stream);
  const never = new AbortController().signal;
  let isServing = false;
  const healthOf = (name: string, isHealthy: () => boolean): ServiceHealth => {
    const watchers = new NewestBroadcast({ name, clock, drop });
    let current = NOT_SERVING;
    void watchers.send({ bytes: current, held: null }, never);
    const refresh = (): Buffer => {
      const next = isHealthy() ? SERVING : NOT_SERVING;
      if (next !== current) {
        current = next;
        void watchers.send({ bytes: current, held: null }, never);
      }
      return current;
    };
    return { watchers, refresh };
  };
  const services = new Map([
    ['', healthOf('health', () => isServing && isReady())],
    [WORKLOAD_API_SERVICE, healthOf('health-workload-api', () => isServing)],
  ]);
  const unknownWatchers = new NewestBroadcast({ name: 'health-unknown', clock, drop });
  void unknownWatchers.send({ bytes: encode(ServingStatus.SERVICE_UNKNOWN), held: null }, never);
  const asked = (request: Buffer): ServiceHealth | undefined => services.get(serviceOf(request) ?? 'unknown');
  const refreshAll = (): void => services.forEach(({ refresh }) => void refresh());

  const check: handleUnaryCall<Buffer, Buffer> = (call, callback) => {
    const service = asked(call.request);
    if (service !== undefined) callback(null, service.refresh());
    else callback({ code: status.NOT_FOUND, details: 'unknown service' });
  };
  const watch: handleServerStreamingCall<Buffer, Buffer> = (stream) => {
    try {
      endpoint.admit(stream);
    } catch (error) {
      endStream(stream, endpoint.refusalOf(error));
      return;
    }
    const service = asked(stream.request);
    service?.refresh();
    (service?.watchers ?? unknownWatchers).add(stream);
  };
  endpoint.addService(
    { Check: unaryMethod('Check', HEALTH_SERVICE), Watch: streamMethod('Watch', HEALTH_SERVICE) },
    { Check: check, Watch: watch },
  );

  return {
    setServing(serving) {
      isServing = serving;
      refreshAll();
    },
    refresh: refreshAll,
    close(endStatus) {
      for (const { watchers } of services.values()) watchers.end(endStatus);
      unknownWatchers.end(endStatus);
    },
  };
}

/** One name that is asked for. */
interface ServiceHealth {
  readonly watchers: NewestBroadcast;
  /** The answer as of now; who watches is told where it has changed. */
  readonly refresh: () => Buffer;
}

function serviceOf(request: Buffer): string | null {
  try {
    return HealthCheckRequest.decode(request).service;
  } catch {
    return null;
  }
}

function encode(servingStatus: ServingStatus): Buffer {
  return Buffer.from(HealthCheckResponse.encode({ status: servingStatus }).finish());
}
