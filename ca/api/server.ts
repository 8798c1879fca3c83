import { Server, type ServerOptions } from '@grpc/grpc-js';
import { rawMethodDefinition } from '../../host/grpc-service.ts';
import { LIMITS } from '../../pki/limits.ts';
import { API_METHODS, type ApiMethod } from './api-metrics.ts';
import type { HealthService } from './health-service.ts';
import { type HandlerContext, type UnaryMethod, unaryHandler } from './unary-handler.ts';
import type { WatchService } from './watch-service.ts';

/**
 * The outer bound on a message, bytes. Ours (`LIMITS.agentMessageBytes`) is well below, so that what is somewhat too
 * large is refused in our terms, and only what is far too large by grpc-js while it comes in.
 */
const OUTER_MESSAGE_BYTES = 2 * LIMITS.agentMessageBytes;

const OPTIONS: ServerOptions = {
  'grpc.enable_channelz': 0,
  'grpc.max_receive_message_length': OUTER_MESSAGE_BYTES,
  'grpc.max_send_message_length': LIMITS.caMessageBytes,
  'grpc.max_concurrent_streams': 100,
  'grpc.keepalive_time_ms': 30_000,
  'grpc.keepalive_timeout_ms': 10_000,
  'grpc.max_connection_idle_ms': 300_000,
};

/** What the agents' server is made of. */
export interface AgentServerOptions {
  readonly context: HandlerContext;
  readonly issue: UnaryMethod;
  readonly watch: WatchService;
  readonly health: HealthService;
}

/** The server for agents: Identity and Health. No reflection: the proto files are published. */
export function agentServer({ context, issue, watch, health }: AgentServerOptions): Server {
  const server = new Server(OPTIONS);
  server.addService(definitions('kedge.v1.Identity'), {
    IssueX509Svid: unaryHandler('kedge.v1.Identity/IssueX509Svid', context, issue),
    Watch: (call: Parameters<WatchService['open']>[0]) => watch.open(call),
  });
  server.addService(definitions('grpc.health.v1.Health'), {
    Check: unaryHandler('grpc.health.v1.Health/Check', context, health.check),
    Watch: (call: Parameters<HealthService['watch']>[0]) => health.watch(call),
  });
  return server;
}

/** The server for operators: Admin. */
export function adminServer(context: HandlerContext, status: UnaryMethod, bundle: UnaryMethod): Server {
  const server = new Server(OPTIONS);
  server.addService(definitions('kedge.v1.Admin'), {
    GetStatus: unaryHandler('kedge.v1.Admin/GetStatus', context, status),
    GetBundle: unaryHandler('kedge.v1.Admin/GetBundle', context, bundle),
  });
  return server;
}

const KINDS: Readonly<
  Record<ApiMethod, { readonly requestStream: boolean; readonly responseStream: boolean }>
> = {
  'kedge.v1.Identity/IssueX509Svid': { requestStream: false, responseStream: false },
  'kedge.v1.Identity/Watch': { requestStream: true, responseStream: true },
  'kedge.v1.Admin/GetStatus': { requestStream: false, responseStream: false },
  'kedge.v1.Admin/GetBundle': { requestStream: false, responseStream: false },
  'grpc.health.v1.Health/Check': { requestStream: false, responseStream: false },
  'grpc.health.v1.Health/Watch': { requestStream: false, responseStream: true },
};

/** The methods of one service, by name. */
function definitions(service: string) {
  return Object.fromEntries(
    API_METHODS.filter((method) => method.startsWith(`${service}/`)).map((method) => [
      method.slice(service.length + 1),
      rawMethodDefinition({ path: `/${method}`, ...KINDS[method] }),
    ]),
  );
}
