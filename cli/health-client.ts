import { Client, credentials, type ServiceError } from '@grpc/grpc-js';
import { LIMITS } from '../pki/limits.ts';
import {
  HealthCheckRequest,
  HealthCheckResponse,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from '../proto/gen/grpc/health/v1/health.ts';
import { agentAt, grpcFailure } from './grpc-failure.ts';

const METHOD = '/grpc.health.v1.Health/Check';

/**
 * Whether the agent behind a gRPC target serves an identity now, by the gRPC health checking protocol.
 *
 * Errors: `agent_unreachable`, `deadline_exceeded`.
 */
export async function isServing(target: string, timeoutMs: number): Promise<boolean> {
  const client = new Client(target, credentials.createInsecure(), {
    'grpc.max_receive_message_length': LIMITS.agentMessageBytes,
    'grpc.use_local_subchannel_pool': 1,
  });
  const { promise, resolve, reject } = Promise.withResolvers<boolean>();
  try {
    client.makeUnaryRequest(
      METHOD,
      (request: HealthCheckRequest) => Buffer.from(HealthCheckRequest.encode(request).finish()),
      (bytes: Buffer) => HealthCheckResponse.decode(bytes),
      { service: '' },
      { deadline: Date.now() + timeoutMs },
      (error: ServiceError | null, response?: HealthCheckResponse) => {
        if (error !== null) reject(grpcFailure(error, agentAt(target)));
        else resolve(response?.status === ServingStatus.SERVING);
      },
    );
    return await promise;
  } finally {
    client.close();
  }
}
