import type { ServerWritableStream } from '@grpc/grpc-js';
import { refusalOf } from '../../host/grpc-errors.ts';
import { decodeMessage } from '../../host/grpc-service.ts';
import { serviceError } from '../../host/grpc-service-error.ts';
import { type GrpcStatus, grpcStatusName } from '../../host/grpc-status.ts';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import {
  HealthCheckRequest,
  HealthCheckResponse,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from '../../proto/gen/grpc/health/v1/health.ts';
import { checkSizes, type HandlerContext, type UnaryMethod } from './unary-method.ts';

type WatchCall = ServerWritableStream<Buffer, Uint8Array>;

/** The services whose health can be asked for; the empty name is the server as a whole. */
const SERVICES: readonly string[] = ['', 'kedge.v1.Identity'];

/** Health streams at once: they carry no token, so that anyone can open one. */
const MAX_STREAMS = 64;
/** What a client beyond that is told to wait, milliseconds. */
const RETRY_AFTER_MS = 10_000;

/** `grpc.health.v1.Health`, without a token, as load balancers ask it (gRPC Health Checking Protocol). */
export class HealthService {
  readonly #context: HandlerContext;
  /** Open streams, and the status that each was sent last. */
  readonly #streams = new Map<WatchCall, ServingStatus>();
  #serving = false;

  constructor(context: HandlerContext) {
    this.#context = context;
  }

  /** Sets the answer of every service, and tells those who watch where it changed. Called each second. */
  set(serving: boolean): void {
    this.#serving = serving;
    for (const [call, sent] of this.#streams) this.#tell(call, sent);
  }

  /** `Check`. */
  readonly check: UnaryMethod = (bytes) => {
    const { service } = decodeMessage(HealthCheckRequest, bytes);
    if (!SERVICES.includes(service)) {
      throw new KedgeError('health_service_unknown', `there is no service ${quote(service)}`, {
        hint: "ask for 'kedge.v1.Identity', or for '' as the server",
      });
    }
    return HealthCheckResponse.encode({ status: this.#status(service) }).finish();
  };

  /** `Watch`: the status now and at each change; of an unknown service SERVICE_UNKNOWN, as the protocol says. */
  watch(call: WatchCall): void {
    const end = (status: GrpcStatus): void => {
      if (this.#streams.delete(call)) this.#context.metrics.callEnded('grpc.health.v1.Health/Watch', status);
    };
    call.on('cancelled', () => end('CANCELLED'));
    call.on('close', () => end('CANCELLED'));
    try {
      checkSizes(call.request, call.metadata);
      const { service } = decodeMessage(HealthCheckRequest, call.request);
      if (this.#streams.size >= MAX_STREAMS) {
        throw new KedgeError('too_many_streams', `the CA serves ${MAX_STREAMS} health streams, its limit`, {
          hint: 'ask with Check',
          retryAfterMs: RETRY_AFTER_MS,
        });
      }
      if (SERVICES.includes(service)) {
        this.#streams.set(call, ServingStatus.UNKNOWN);
        this.#tell(call, ServingStatus.UNKNOWN);
      } else {
        this.#streams.set(call, ServingStatus.SERVICE_UNKNOWN);
        call.write(HealthCheckResponse.encode({ status: ServingStatus.SERVICE_UNKNOWN }).finish());
      }
    } catch (error) {
      const refusal = refusalOf(error, this.#context);
      this.#context.metrics.callEnded('grpc.health.v1.Health/Watch', grpcStatusName(refusal.status));
      call.emit('error', serviceError(refusal));
    }
  }

  /** Ends every stream. */
  close(): void {
    this.set(false);
    for (const call of this.#streams.keys()) call.end();
  }

  #tell(call: WatchCall, sent: ServingStatus): void {
    if (sent === ServingStatus.SERVICE_UNKNOWN) return;
    const status = this.#status('');
    // A client that does not read is told at one of the next times: `set` is called again and again.
    if (status === sent || call.writableLength > 0) return;
    this.#streams.set(call, status);
    call.write(HealthCheckResponse.encode({ status }).finish());
  }

  #status(service: string): ServingStatus {
    if (!SERVICES.includes(service)) return ServingStatus.SERVICE_UNKNOWN;
    return this.#serving ? ServingStatus.SERVING : ServingStatus.NOT_SERVING;
  }
}
