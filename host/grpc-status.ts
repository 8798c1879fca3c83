import type { GrpcStatusName } from '../pki/error-table.ts';

/** The gRPC status codes that Kedge sends or reads, by name (gRPC core, statuscodes.md). */
export const GRPC_STATUS = {
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const satisfies Record<GrpcStatusName, number> & Record<string, number>;

/** Name of a gRPC status code, also of those that the error table never uses. */
export type GrpcStatus = keyof typeof GRPC_STATUS;

const NAMES: ReadonlyMap<number, GrpcStatus> = new Map(
  Object.entries(GRPC_STATUS).map(([name, code]) => [code, name as GrpcStatus]),
);

/** The name of a numeric status; `UNKNOWN` for a number that is none. */
export function grpcStatusName(code: number): GrpcStatus {
  return NAMES.get(code) ?? 'UNKNOWN';
}
