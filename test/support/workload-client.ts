/** A SPIFFE Workload API client made from the published proto, that shows a test everything it gets. */
import {
  Client,
  type ClientReadableStream,
  credentials,
  Metadata,
  type MetadataValue,
  type ServiceError,
} from '@grpc/grpc-js';
import { HealthCheckRequest, HealthCheckResponse } from '../../proto/gen/grpc/health/v1/health.ts';
import {
  X509BundlesRequest,
  X509BundlesResponse,
  X509SVIDRequest,
  X509SVIDResponse,
} from '../../proto/gen/spiffe/workload.ts';

interface Codec<T> {
  encode(message: T): { finish(): Uint8Array };
  decode(bytes: Uint8Array): T;
}

export function headers(...values: readonly MetadataValue[]): Metadata {
  const metadata = new Metadata();
  for (const value of values) metadata.add('workload.spiffe.io', value);
  return metadata;
}

/** One stream of responses: `next` gives the next message, or throws the status that ended the stream. */
export class ResponseStream<T> {
  readonly call: ClientReadableStream<T>;
  readonly received: T[] = [];
  #waiting: (() => void)[] = [];
  #failure: ServiceError | null = null;
  #isOver = false;
  #taken = 0;

  constructor(call: ClientReadableStream<T>) {
    this.call = call;
    call.on('data', (message: T) => {
      this.received.push(message);
      this.#wake();
    });
    call.on('error', (error: ServiceError) => {
      this.#failure = error;
      this.#wake();
    });
    call.on('end', () => {
      this.#isOver = true;
      this.#wake();
    });
  }

  async next(): Promise<T> {
    for (;;) {
      const message = this.received[this.#taken];
      if (message !== undefined) {
        this.#taken += 1;
        return message;
      }
      if (this.#failure !== null) throw this.#failure;
      if (this.#isOver) throw new Error('the stream ended');
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  /** The status that ends the stream; messages before it are skipped. */
  async failure(): Promise<ServiceError> {
    for (;;) {
      try {
        await this.next();
      } catch (error) {
        return error as ServiceError;
      }
    }
  }

  cancel(): void {
    this.call.cancel();
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const wake of waiting) wake();
  }
}

export class WorkloadClient {
  readonly #client: Client;

  constructor(socketPath: string) {
    this.#client = new Client(`unix:${socketPath}`, credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1,
      'grpc.initial_reconnect_backoff_ms': 100,
    });
  }

  fetchX509Svid(metadata = headers('true')): ResponseStream<X509SVIDResponse> {
    return this.#stream('FetchX509SVID', X509SVIDRequest, X509SVIDResponse, {}, metadata);
  }

  fetchX509Bundles(metadata = headers('true')): ResponseStream<X509BundlesResponse> {
    return this.#stream('FetchX509Bundles', X509BundlesRequest, X509BundlesResponse, {}, metadata);
  }

  /** Any method of the service, with an empty request: the error that it ends with. */
  async failureOf(method: string, metadata = headers('true'), isStream = false): Promise<ServiceError> {
    const path = `/SpiffeWorkloadAPI/${method}`;
    const raw = (bytes: Buffer): Buffer => bytes;
    if (isStream) {
      return await new ResponseStream(
        this.#client.makeServerStreamRequest(path, raw, raw, Buffer.alloc(0), metadata),
      ).failure();
    }
    return await new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(path, raw, raw, Buffer.alloc(0), metadata, (error) =>
        error === null ? reject(new Error(`${method} was answered`)) : resolve(error),
      );
    });
  }

  health(service = ''): Promise<HealthCheckResponse> {
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        '/grpc.health.v1.Health/Check',
        serialize(HealthCheckRequest),
        (bytes) => HealthCheckResponse.decode(bytes),
        { service },
        (error, response) => (response === undefined ? reject(error as Error) : resolve(response)),
      );
    });
  }

  watchHealth(service = ''): ResponseStream<HealthCheckResponse> {
    return new ResponseStream(
      this.#client.makeServerStreamRequest(
        '/grpc.health.v1.Health/Watch',
        serialize(HealthCheckRequest),
        (bytes) => HealthCheckResponse.decode(bytes),
        { service },
      ),
    );
  }

  close(): void {
    this.#client.close();
  }

  #stream<Request, Response>(
    method: string,
    request: Codec<Request>,
    response: Codec<Response>,
    argument: Request,
    metadata: Metadata,
  ): ResponseStream<Response> {
    return new ResponseStream(
      this.#client.makeServerStreamRequest(
        `/SpiffeWorkloadAPI/${method}`,
        serialize(request),
        (bytes) => response.decode(bytes),
        argument,
        metadata,
      ),
    );
  }
}

function serialize<T>(codec: Codec<T>): (message: T) => Buffer {
  return (message) => Buffer.from(codec.encode(message).finish());
}
