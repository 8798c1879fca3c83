import { Client, type ClientReadableStream, credentials, Metadata } from '@grpc/grpc-js';
import { backoffMs } from '../host/backoff.ts';
import type { Clock } from '../host/clock.ts';
import { isGrpcFailure } from '../host/grpc-errors.ts';
import { GRPC_STATUS } from '../host/grpc-status.ts';
import type { Random } from '../host/random.ts';
import { isKedgeError, KedgeError } from '../pki/kedge-error.ts';
import { LIMITS } from '../pki/limits.ts';
import { X509SVIDRequest } from '../proto/gen/spiffe/workload.ts';
import { agentAt, grpcFailure } from './grpc-failure.ts';
import { parseX509Context, type X509Context } from './x509-context.ts';

const METHOD = '/SpiffeWorkloadAPI/FetchX509SVID';
const BACKOFF = { baseMs: 500, capMs: 30_000 } as const;
/** The standard has the first message sent at once (section 4.3); who is silent for so long is not well. */
const FIRST_MESSAGE_TIMEOUT_MS = 10_000;
/** These will not get better by asking again. INVALID_ARGUMENT: SPIFFE_Workload_API.md, and go-spiffe. */
const FINAL_STATUSES: readonly number[] = [GRPC_STATUS.INVALID_ARGUMENT, GRPC_STATUS.UNIMPLEMENTED];

/** What {@link WorkloadApiClient} is made of. */
export interface WorkloadApiClientOptions {
  /** A gRPC target, see `cli/endpoint-socket.ts`. */
  readonly target: string;
  readonly clock: Clock;
  readonly random: Random;
  /** How long a new stream may take to give its first message; 10 s where absent. */
  readonly firstMessageTimeoutMs?: number;
  /** Told of each stream that failed and is tried again, and after how long. */
  readonly onRetry?: (error: KedgeError, waitMs: number) => void;
}

/**
 * A client of the SPIFFE Workload API, X.509 part, for programs in TypeScript and for `kedge svid fetch`.
 *
 * Every message is the full state and replaces the one before (section 4.4). The keys in it belong to the caller.
 * Source: SPIFFE_Workload_API.md sections 4 and 5, SPIFFE_Workload_Endpoint.md sections 3 and 6.
 */
export class WorkloadApiClient {
  readonly #options: WorkloadApiClientOptions;

  constructor(options: WorkloadApiClientOptions) {
    this.#options = options;
  }

  /**
   * The X.509 context now, by one stream that is closed after its first message. Nothing is tried again.
   *
   * Errors: `agent_unreachable`, `agent_answer_invalid`, `deadline_exceeded`, what the agent refuses with, and the
   * reason of the signal.
   */
  async fetch(signal: AbortSignal): Promise<X509Context> {
    for await (const context of this.#stream(signal)) return context;
    throw new KedgeError('agent_unreachable', 'the agent closed the stream without an answer');
  }

  /**
   * The X.509 context now and after each change, over as many streams as it takes: a stream that fails is opened
   * again after a wait with full jitter. Throws the reason of the signal, or the agent's answer when it says that
   * asking again is of no use (INVALID_ARGUMENT, UNIMPLEMENTED).
   */
  async *watch(signal: AbortSignal): AsyncGenerator<X509Context, never> {
    const { clock, random, onRetry } = this.#options;
    for (let attempt = 1; ; attempt += 1) {
      let failure = new KedgeError('agent_unreachable', 'the agent closed the stream');
      try {
        for await (const context of this.#stream(signal)) {
          attempt = 0;
          yield context;
        }
      } catch (error) {
        signal.throwIfAborted();
        if (!isKedgeError(error) || isFinal(error)) throw error;
        failure = error;
      }
      const waitMs = backoffMs(Math.max(1, attempt), BACKOFF, random, failure.retryAfterMs);
      onRetry?.(failure, waitMs);
      await clock.sleep(waitMs, signal);
    }
  }

  async *#stream(signal: AbortSignal): AsyncGenerator<X509Context, void> {
    signal.throwIfAborted();
    // A client of its own for each stream: the back-off is then ours alone, not the channel's.
    const client = new Client(this.#options.target, credentials.createInsecure(), {
      'grpc.max_receive_message_length': LIMITS.caMessageBytes,
      'grpc.max_metadata_size': LIMITS.metadataBytes,
      'grpc.use_local_subchannel_pool': 1,
    });
    const metadata = new Metadata();
    metadata.set('workload.spiffe.io', 'true');
    const call: ClientReadableStream<Uint8Array> = client.makeServerStreamRequest(
      METHOD,
      (request: X509SVIDRequest) => Buffer.from(X509SVIDRequest.encode(request).finish()),
      (bytes: Buffer) => bytes,
      {},
      metadata,
    );
    // Cancelling makes the stream emit an error after nobody reads it any more.
    call.on('error', () => {});
    const cancel = (): void => call.cancel();
    signal.addEventListener('abort', cancel, { once: true });
    const { firstMessageTimeoutMs = FIRST_MESSAGE_TIMEOUT_MS, clock } = this.#options;
    const timeout = new AbortController();
    let late = false;
    clock.sleep(firstMessageTimeoutMs, timeout.signal).then(
      () => {
        late = true;
        call.cancel();
      },
      () => {},
    );
    try {
      for await (const bytes of call) {
        timeout.abort();
        yield parseX509Context(bytes as Uint8Array);
      }
    } catch (error) {
      signal.throwIfAborted();
      if (late) {
        throw new KedgeError('deadline_exceeded', `the agent gave no answer in ${firstMessageTimeoutMs} ms`, {
          cause: error,
        });
      }
      throw isGrpcFailure(error) ? grpcFailure(error, agentAt(this.#options.target)) : error;
    } finally {
      timeout.abort();
      signal.removeEventListener('abort', cancel);
      call.cancel();
      client.close();
    }
  }
}

function isFinal({ cause }: KedgeError): boolean {
  return isGrpcFailure(cause) && FINAL_STATUSES.includes(cause.code);
}
