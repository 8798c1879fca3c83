import { Server, type ServerOptions } from '@grpc/grpc-js';
import { rawMethodDefinition } from '../../host/grpc-service.ts';
import { LIMITS } from '../../pki/limits.ts';
import { API_METHODS, type ApiMethod } from './api-metrics.ts';
import type { HealthService } from './health-service.ts';
import {
  type Admit,
  callInterceptor,
  type CallOptions,
  type CallRoutes,
  withoutToken,
} from './unary-call.ts';
import type { UnaryMethod } from './unary-method.ts';
import type { WatchService } from './watch-service.ts';

/**
 * The outer bound on a message, bytes. Ours (`LIMITS.agentMessageBytes`) is well below, so that what is somewhat too
 * large is refused in our terms, and only what is far too large by grpc-js while it comes in.
 */
const OUTER_MESSAGE_BYTES = 2 * LIMITS.agentMessageBytes;

/** Calls at once on one connection: an agent has two, one of them its Watch stream. */
const CONCURRENT_STREAMS = 16;

/**
 * What one connection may make the process hold, MiB: streams, headers, and above all answers that are not read; a
 * bundle of the largest size fits.
 */
const SESSION_MEMORY_MIB = 16;

const OPTIONS: ServerOptions = {
  'grpc.enable_channelz': 0,
  'grpc.max_receive_message_length': OUTER_MESSAGE_BYTES,
  'grpc.max_send_message_length': LIMITS.caMessageBytes,
  'grpc.max_concurrent_streams': CONCURRENT_STREAMS,
  'grpc-node.max_session_memory': SESSION_MEMORY_MIB,
  'grpc.keepalive_time_ms': 30_000,
  'grpc.keepalive_timeout_ms': 10_000,
  'grpc.max_connection_idle_ms': 300_000,
};

/** What the agents' server is made of. */
export interface AgentServerOptions {
  readonly calls: CallOptions;
  readonly issue: Admit;
  readonly watch: WatchService;
  readonly health: HealthService;
}

/**
 * The server for agents: Identity and Health. No reflection: the proto files are published.
 *
 * What a peer without a good token can make the CA hold, beside its TLS connection: on each connection the headers of
 * {@link CONCURRENT_STREAMS} calls, 16 KiB each, and 64 KiB of messages that nobody reads (the initial flow-control
 * window of HTTP/2, RFC 9113 section 6.9.2); over all connections 64 half-sent health checks of
 * {@link OUTER_MESSAGE_BYTES}, and none for longer than 10 seconds.
 */
export function agentServer({ calls, issue, watch, health }: AgentServerOptions): Server {
  const routes: CallRoutes = {
    unary: new Map([
      ['kedge.v1.Identity/IssueX509Svid', issue],
      ['grpc.health.v1.Health/Check', withoutToken(health.check)],
    ]),
    // A Watch stream of Identity is read by nobody before its token was accepted: see WatchStream.begin.
    openStreams: new Set(['grpc.health.v1.Health/Watch']),
  };
  const server = new Server({ ...OPTIONS, interceptors: [callInterceptor(routes, calls)] });
  server.addService(definitions('kedge.v1.Identity'), {
    Watch: (call: Parameters<WatchService['open']>[0]) => watch.open(call),
  });
  server.addService(definitions('grpc.health.v1.Health'), {
    Watch: (call: Parameters<HealthService['watch']>[0]) => health.watch(call),
  });
  return server;
}

/** The methods of {@link adminServer}. */
export interface AdminMethods {
  readonly status: UnaryMethod;
  readonly bundle: UnaryMethod;
  readonly rewrap: UnaryMethod;
  readonly rotation: UnaryMethod;
  readonly changeRotation: UnaryMethod;
}

/** The server for operators: Admin. */
export function adminServer(calls: CallOptions, methods: AdminMethods): Server {
  const routes: CallRoutes = {
    unary: new Map([
      ['kedge.v1.Admin/GetStatus', withoutToken(methods.status)],
      ['kedge.v1.Admin/GetBundle', withoutToken(methods.bundle)],
      ['kedge.v1.Admin/RewrapKeys', withoutToken(methods.rewrap)],
      ['kedge.v1.Admin/GetRotation', withoutToken(methods.rotation)],
      ['kedge.v1.Admin/ChangeRotation', withoutToken(methods.changeRotation)],
    ]),
    openStreams: new Set(),
  };
  const server = new Server({ ...OPTIONS, interceptors: [callInterceptor(routes, calls)] });
  server.addService(definitions('kedge.v1.Admin'), {});
  return server;
}

const KINDS: Readonly<
  Record<ApiMethod, { readonly requestStream: boolean; readonly responseStream: boolean }>
> = {
  'kedge.v1.Identity/IssueX509Svid': { requestStream: false, responseStream: false },
  'kedge.v1.Identity/Watch': { requestStream: true, responseStream: true },
  'kedge.v1.Admin/GetStatus': { requestStream: false, responseStream: false },
  'kedge.v1.Admin/GetBundle': { requestStream: false, responseStream: false },
  'kedge.v1.Admin/RewrapKeys': { requestStream: false, responseStream: false },
  'kedge.v1.Downstream/Sync': { requestStream: false, responseStream: false },
  'kedge.v1.Downstream/MintIssuer': { requestStream: false, responseStream: false },
  'kedge.v1.Admin/GetRotation': { requestStream: false, responseStream: false },
  'kedge.v1.Admin/ChangeRotation': { requestStream: false, responseStream: false },
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
