import { Client, credentials, type ServiceError } from '@grpc/grpc-js';
import { LIMITS } from '../pki/limits.ts';
import { GetAgentStatusRequest, GetAgentStatusResponse } from '../proto/gen/kedge/v1/agent.ts';
import { agentAt, grpcFailure } from './grpc-failure.ts';

const METHOD = '/kedge.v1.Agent/GetStatus';
/** Feeds with all of their consumers fit. */
const MAX_ANSWER_BYTES = 4 * LIMITS.agentMessageBytes;

/** The status of the agent behind a gRPC target. Errors: `agent_unreachable`, `deadline_exceeded`, `unimplemented`. */
export async function getAgentStatus(target: string, timeoutMs: number): Promise<GetAgentStatusResponse> {
  const client = new Client(target, credentials.createInsecure(), {
    'grpc.max_receive_message_length': MAX_ANSWER_BYTES,
    'grpc.use_local_subchannel_pool': 1,
  });
  const { promise, resolve, reject } = Promise.withResolvers<GetAgentStatusResponse>();
  try {
    client.makeUnaryRequest(
      METHOD,
      (request: GetAgentStatusRequest) => Buffer.from(GetAgentStatusRequest.encode(request).finish()),
      (bytes: Buffer) => GetAgentStatusResponse.decode(bytes),
      {},
      { deadline: Date.now() + timeoutMs },
      (error: ServiceError | null, response?: GetAgentStatusResponse) => {
        if (error !== null) reject(grpcFailure(error, agentAt(target)));
        else if (response !== undefined) resolve(response);
      },
    );
    return await promise;
  } finally {
    client.close();
  }
}
