import type { GrpcStatus } from '../../host/grpc-status.ts';
import type { MetricsRegistry } from '../../host/metrics.ts';
import type { ConnectionBound } from './tls-listener.ts';

/** The methods that the CA serves: the only values of the label `method`. */
export const API_METHODS = [
  'kedge.v1.Identity/IssueX509Svid',
  'kedge.v1.Identity/Watch',
  'kedge.v1.Admin/GetStatus',
  'kedge.v1.Admin/GetBundle',
  'kedge.v1.Admin/RewrapKeys',
  'kedge.v1.Downstream/Sync',
  'kedge.v1.Downstream/MintIssuer',
  'kedge.v1.Admin/GetRotation',
  'kedge.v1.Admin/ChangeRotation',
  'grpc.health.v1.Health/Check',
  'grpc.health.v1.Health/Watch',
] as const;
export type ApiMethod = (typeof API_METHODS)[number];

/** What the API counts. */
export interface ApiMetrics {
  /** A call, or a stream, is over. */
  callEnded(method: ApiMethod, status: GrpcStatus): void;
  /** A connection was dropped when it arrived. */
  connectionRefused(bound: ConnectionBound): void;
  /** The serving certificate was replaced; milliseconds since the Unix epoch. */
  servingCertificate(notAfterMs: number): void;
}

/** What the gauges are read from at each scrape. */
export interface ApiGauges {
  readonly connections: () => number;
  readonly watchStreams: () => number;
}

/** Registers the metrics of the API. */
export function registerApiMetrics(registry: MetricsRegistry): ApiMetrics {
  const calls = registry.counter({
    name: 'kedge_grpc_calls_total',
    help: 'gRPC calls and streams that ended, by method and gRPC status.',
    labels: ['method', 'status'],
  });
  const ok = Object.fromEntries(
    API_METHODS.map((method) => [method, calls.adder({ method, status: 'OK' })]),
  ) as Record<ApiMethod, () => void>;
  const refusedConnections = registry.counter({
    name: 'kedge_grpc_connections_refused_total',
    help: 'Client connections dropped when they arrived, by the bound that they were over: total, address.',
    labels: ['bound'],
  });
  const notAfter = registry.gauge({
    name: 'kedge_serving_certificate_expiry_timestamp_seconds',
    help: "When the CA's own serving certificate expires, seconds since the Unix epoch.",
    labels: [],
  });
  return {
    callEnded(method, status) {
      if (status === 'OK') ok[method]();
      else calls.add({ method, status });
    },
    connectionRefused: (bound) => refusedConnections.add({ bound }),
    servingCertificate: (notAfterMs) => notAfter.set({}, notAfterMs / 1000),
  };
}

/** Registers the gauges of the API, once what they read exists. */
export function registerApiGauges(registry: MetricsRegistry, gauges: ApiGauges): void {
  registry.gaugeFrom(
    { name: 'kedge_grpc_connections', help: 'Client connections to the gRPC port.' },
    gauges.connections,
  );
  registry.gaugeFrom(
    { name: 'kedge_watch_streams', help: 'Watch streams that are open.' },
    gauges.watchStreams,
  );
}
