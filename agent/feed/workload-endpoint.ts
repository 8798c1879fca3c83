import type { Socket } from 'node:net';
import {
  Server,
  ServerCredentials,
  type ServiceDefinition,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import type { Clock } from '../../host/clock.ts';
import { type RefusalContext, refusalOf } from '../../host/grpc-errors.ts';
import { serviceError } from '../../host/grpc-service-error.ts';
import { grpcStatusName } from '../../host/grpc-status.ts';
import type { ErrorCode } from '../../pki/error-table.ts';
import { KedgeError } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import { EndpointCalls } from './endpoint-calls.ts';
import type { EndStatus } from './newest-broadcast.ts';
import { type ClaimedSocket, claimSocket } from './socket.ts';

/** Streams of one connection beyond those that may stay open: calls that are refused, health checks. */
const SPARE_STREAMS = 16;

/** What a {@link WorkloadEndpoint} is made of. */
export interface WorkloadEndpointOptions extends RefusalContext {
  /** Absolute paths of the Unix sockets; each serves the same. */
  readonly socketPaths: readonly string[];
  /** Permission bits of the sockets. */
  readonly socketMode: number;
  /** Streams served at once, over all services and connections; also the bound on connections. */
  readonly maxStreams: number;
  readonly clock: Clock;
  /** Told of each call that is refused; `internal` stands for what is not for the caller's eyes. */
  readonly onRefusal: (code: ErrorCode) => void;
}

interface Connection {
  readonly socket: Socket;
  /** Open on it at this moment. */
  calls: number;
}

/** A stream of a service on the endpoint, whatever its messages. */
export interface EndpointStream {
  /** Names the connection, see {@link WorkloadEndpoint.drop}. */
  getPeer(): string;
  once(event: 'cancelled' | 'finish' | 'error', listener: () => void): unknown;
}

/**
 * The gRPC server on the agent's Unix sockets (SPIFFE_Workload_Endpoint.md section 3): the Workload API and what is
 * served beside it. Services are added first, then it listens.
 *
 * It bounds what all services together may hold: connections, streams, the bytes of a request.
 */
export class WorkloadEndpoint {
  readonly #options: WorkloadEndpointOptions;
  readonly #server: Server;
  /** By the name that their streams give as peer. Those without a call come first: that which has had none for longest. */
  readonly #idle = new Map<string, Connection>();
  readonly #busy = new Map<string, Connection>();
  #connectionCount = 0;
  #streams = 0;
  #sockets: ClaimedSocket[] = [];
  #closed = false;

  constructor(options: WorkloadEndpointOptions) {
    this.#options = options;
    const calls = new EndpointCalls({
      clock: options.clock,
      onBegin: (peer) => this.#count(peer, 1),
      onEnd: (peer) => this.#count(peer, -1),
      cut: (peer) => this.#cut(peer),
    });
    this.#server = new Server({
      interceptors: [calls.interceptor],
      // Of all requests those of an Envoy are the largest.
      'grpc.max_receive_message_length': LIMITS.sdsRequestBytes,
      // More than may be open: a stream too many must be refused, not queued by the client's HTTP/2.
      'grpc.max_concurrent_streams': options.maxStreams + SPARE_STREAMS,
      'grpc.enable_channelz': 0,
    });
  }

  /** Adds a service, before {@link WorkloadEndpoint.listen}. */
  addService(definitions: ServiceDefinition, handlers: UntypedServiceImplementation): void {
    this.#server.addService(definitions, handlers);
  }

  /** Streams that are open at this moment, over all services. */
  get streams(): number {
    return this.#streams;
  }

  /** Counts a stream for as long as it is open. Throws `too_many_streams`; then it is for the caller to end. */
  admit(stream: EndpointStream): void {
    const { maxStreams } = this.#options;
    if (this.#streams >= maxStreams) {
      throw new KedgeError('too_many_streams', `the agent serves ${maxStreams} streams already`, {
        hint: 'keep one stream per workload open, or raise maxStreams',
      });
    }
    this.#streams += 1;
    let open = true;
    const leave = (): void => {
      if (open) this.#streams -= 1;
      open = false;
    };
    for (const event of ['cancelled', 'finish', 'error'] as const) stream.once(event, leave);
  }

  /**
   * The status of a call that is refused for `error`, counted. Of an error that is not for the caller's eyes it holds an
   * incident id alone; what it was is in the log under that id.
   */
  refusalOf(error: unknown): EndStatus {
    const refusal = refusalOf(error, this.#options);
    this.#options.onRefusal(refusal.code);
    const { details, metadata } = serviceError(refusal);
    return { code: status[grpcStatusName(refusal.status)], details, metadata };
  }

  /** Cuts the connection of a stream whose reader has stalled: what is in flight never reaches it. */
  drop(stream: EndpointStream): void {
    this.#cut(stream.getPeer());
  }

  /** Claims the sockets and serves on them: all, or none. Throws `socket_in_use` or `socket_path_invalid`. */
  async listen(): Promise<void> {
    const { socketPaths, socketMode: mode } = this.#options;
    const injector = this.#server.createConnectionInjector(ServerCredentials.createInsecure());
    const onConnection = (socket: Socket): void => {
      if (this.#makeRoom()) injector.injectConnection(this.#track(socket));
      else socket.destroy();
    };
    try {
      for (const path of socketPaths) {
        this.#sockets.push(await claimSocket({ path, mode, onConnection }));
      }
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  /** Removes the sockets and cuts every connection. Who serves streams ends them with a status before. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await Promise.all(this.#sockets.map((socket) => socket.close()));
    // One turn for the statuses to be written, then whoever holds on is cut.
    await new Promise((resolve) => setImmediate(resolve));
    this.#server.forceShutdown();
    for (const { socket } of [...this.#idle.values(), ...this.#busy.values()]) socket.destroy();
  }

  /**
   * Whether one more connection may be had. At the bound the one goes that has had no call for longest: an honest
   * client calls as soon as it is connected, so who connects and stays silent crowds out nobody but others who do.
   */
  #makeRoom(): boolean {
    if (this.#idle.size + this.#busy.size < this.#options.maxStreams) return true;
    const [oldest] = this.#idle.keys();
    if (oldest === undefined) return false;
    this.#cut(oldest);
    return true;
  }

  /** Names a connection, so that a stream's `getPeer()` leads back to it. */
  #track(socket: Socket): Socket {
    this.#connectionCount += 1;
    const name = `connection-${this.#connectionCount}`;
    Object.defineProperty(socket, 'remoteAddress', { value: name });
    this.#idle.set(name, { socket, calls: 0 });
    socket.once('close', () => this.#forget(name));
    socket.on('error', () => socket.destroy());
    return socket;
  }

  #count(name: string, change: 1 | -1): void {
    const connection = this.#idle.get(name) ?? this.#busy.get(name);
    if (connection === undefined) return;
    connection.calls += change;
    this.#forget(name);
    (connection.calls > 0 ? this.#busy : this.#idle).set(name, connection);
  }

  #cut(name: string): void {
    (this.#idle.get(name) ?? this.#busy.get(name))?.socket.destroy();
    this.#forget(name);
  }

  #forget(name: string): void {
    this.#idle.delete(name);
    this.#busy.delete(name);
  }
}
