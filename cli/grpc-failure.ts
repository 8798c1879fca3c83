import { type GrpcFailure, errorOfGrpc } from '../host/grpc-errors.ts';
import { GRPC_STATUS } from '../host/grpc-status.ts';
import { KedgeError, quote } from '../pki/kedge-error.ts';

/** A server that a command asks, for its refusals. */
export interface AskedServer {
  /** `the agent`. */
  readonly who: string;
  /** The gRPC target that was asked. */
  readonly target: string;
  /** The code when nobody answers there. */
  readonly unreachable: 'agent_unreachable' | 'ca_unreachable';
  /** What to look at then. */
  readonly hint: string;
}

/** The Workload API of an agent, as a command asks it. */
export function agentAt(target: string): AskedServer {
  const hint = 'is the agent running, and is this its Workload API socket';
  return { who: 'the agent', target, unreachable: 'agent_unreachable', hint };
}

/** The admin socket of a CA, as a command asks it. */
export function caAt(target: string): AskedServer {
  const hint = 'is the CA running, and is this its admin socket';
  return { who: 'the CA', target, unreachable: 'ca_unreachable', hint };
}

/**
 * A failed call as a KedgeError: the code and the words of the other side where it gave them, else what its status
 * means here. The gRPC error stays as the cause.
 */
export function grpcFailure(failure: GrpcFailure, server: AskedServer): KedgeError {
  const { who, target, unreachable, hint } = server;
  const error = errorOfGrpc(failure, { unreachable, invalid: 'agent_answer_invalid' });
  if (error.code === unreachable) {
    const details = quote(reasonOf(failure.details), 200);
    return new KedgeError(unreachable, `${who} is not available at ${target}: ${details}`, {
      hint,
      cause: failure,
    });
  }
  // SPIFFE_Workload_API.md section 5.2.1: this status says that the caller has no identity.
  if (failure.code === GRPC_STATUS.PERMISSION_DENIED && unreachable === 'agent_unreachable') {
    return new KedgeError(
      'identity_unavailable',
      `${who} gives no identity: ${quote(failure.details, 200)}`,
      {
        hint: 'look at the log of the agent for the answer of the CA',
        cause: failure,
      },
    );
  }
  return error;
}

/** What grpc-js says around the one thing that matters: `connect ENOENT /run/x.sock`. */
function reasonOf(details: string): string {
  return /Last error: (?:Error: )?(.*?)\. Resolution note:/.exec(details)?.[1] ?? details;
}
