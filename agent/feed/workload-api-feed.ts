import type { Socket } from 'node:net';
import { type handleServerStreamingCall, Server, ServerCredentials } from '@grpc/grpc-js';
import type { Clock } from '../../host/clock.ts';
import { KedgeError } from '../../pki/kedge-error.ts';
import type { IdentitySnapshot } from '../snapshot.ts';
import type { Evidence, Feed } from './feed.ts';
import { addHealthService, type HealthService } from './health-service.ts';
import { type ByteStream, endStream, NewestBroadcast } from './newest-broadcast.ts';
import { type ClaimedSocket, claimSocket } from './socket.ts';
import { encodeMessages } from './workload-api-messages.ts';
import {
  checkSecurityHeader,
  streamMethod,
  statusOf,
  UNIMPLEMENTED_METHODS,
} from './workload-api-methods.ts';

/** Requests of the Workload API are empty or a few strings; more is refused. */
const MAX_REQUEST_BYTES = 64 * 1024;

/** Streams of one connection beyond those that may stay open: calls that are refused, health checks. */
const SPARE_STREAMS = 16;

/** What a {@link WorkloadApiFeed} is made of. */
export interface WorkloadApiFeedOptions {
  /** Absolute path of the Unix socket. */
  readonly socketPath: string;
  /** Permission bits of the socket. */
  readonly socketMode: number;
  /** Streams served at once, over all connections; also the bound on connections. */
  readonly maxStreams: number;
  readonly clock: Clock;
}

/**
 * The SPIFFE Workload API (X.509 part) on a Unix socket, and gRPC health beside it.
 *
 * Every stream gets the newest snapshot at once and again at each change; see `docs/conformance.md` for each rule
 * of the standard and its test. Before the first snapshot streams are refused with UNAVAILABLE, after a withdrawal
 * with PERMISSION_DENIED `no identity issued`, which also ends those that are open.
 */
export class WorkloadApiFeed implements Feed {
  readonly name = 'workload-api';
  readonly #options: WorkloadApiFeedOptions;
  readonly #server: Server;
  readonly #svids: NewestBroadcast;
  readonly #bundles: NewestBroadcast;
  readonly #health: HealthService;
  /** Connections by the name that their streams give as peer. */
  readonly #connections = new Map<string, Socket>();
  #connectionCount = 0;
  #phase: 'starting' | 'serving' | 'withdrawn' | 'closed' = 'starting';
  #socket: ClaimedSocket | null = null;

  /** Claims the socket and serves on it. Throws `socket_in_use` or `socket_path_invalid`. */
  static async open(options: WorkloadApiFeedOptions): Promise<WorkloadApiFeed> {
    const feed = new WorkloadApiFeed(options);
    await feed.#listen();
    return feed;
  }

  private constructor(options: WorkloadApiFeedOptions) {
    this.#options = options;
    this.#server = new Server({
      'grpc.max_receive_message_length': MAX_REQUEST_BYTES,
      // More than may be open: a stream too many must be refused, not queued by the client's HTTP/2.
      'grpc.max_concurrent_streams': options.maxStreams + SPARE_STREAMS,
      'grpc.enable_channelz': 0,
    });
    const broadcast = { clock: options.clock, drop: (stream: ByteStream) => this.#drop(stream) };
    this.#svids = new NewestBroadcast(broadcast);
    this.#bundles = new NewestBroadcast(broadcast);
    this.#health = addHealthService(this.#server, {
      ...broadcast,
      mayAdd: () => this.#mayAdd(),
    });
    this.#server.addService(
      {
        FetchX509SVID: streamMethod('FetchX509SVID'),
        FetchX509Bundles: streamMethod('FetchX509Bundles'),
        ...UNIMPLEMENTED_METHODS.definitions,
      },
      {
        FetchX509SVID: this.#serve(this.#svids),
        FetchX509Bundles: this.#serve(this.#bundles),
        ...UNIMPLEMENTED_METHODS.handlers,
      },
    );
  }

  /** Streams open at this moment. */
  get streams(): number {
    return this.#svids.size + this.#bundles.size + this.#health.streams;
  }

  async publish(snapshot: IdentitySnapshot, signal: AbortSignal): Promise<Evidence> {
    if (this.#phase === 'closed') throw new KedgeError('feed_failed', 'the Workload API is closed');
    signal.throwIfAborted();
    const messages = encodeMessages(snapshot);
    this.#phase = 'serving';
    this.#health.setServing(true);
    await Promise.all([
      this.#svids.send(messages.x509Svid, signal),
      this.#bundles.send(messages.x509Bundles, signal),
    ]);
    signal.throwIfAborted();
    return 'delivered';
  }

  withdraw(): Promise<void> {
    if (this.#phase !== 'closed') this.#phase = 'withdrawn';
    this.#health.setServing(false);
    this.#end(statusOf(noIdentity()));
    return Promise.resolve();
  }

  async close(): Promise<void> {
    if (this.#phase === 'closed') return;
    this.#phase = 'closed';
    await this.#socket?.close();
    this.#health.setServing(false);
    this.#end(statusOf(closing()));
    this.#health.close(statusOf(closing()));
    // One turn for the statuses to be written, then whoever holds on is cut.
    await new Promise((resolve) => setImmediate(resolve));
    this.#server.forceShutdown();
    for (const connection of this.#connections.values()) connection.destroy();
  }

  async #listen(): Promise<void> {
    const { socketPath: path, socketMode: mode, maxStreams: maxConnections } = this.#options;
    const injector = this.#server.createConnectionInjector(ServerCredentials.createInsecure());
    this.#socket = await claimSocket({
      path,
      mode,
      maxConnections,
      onConnection: (connection) => {
        this.#track(connection);
        injector.injectConnection(connection);
      },
    });
  }

  /** Names a connection, so that a stream's `getPeer()` leads back to it. */
  #track(connection: Socket): void {
    this.#connectionCount += 1;
    const name = `connection-${this.#connectionCount}`;
    Object.defineProperty(connection, 'remoteAddress', { value: name });
    this.#connections.set(name, connection);
    connection.once('close', () => this.#connections.delete(name));
    connection.on('error', () => connection.destroy());
  }

  #drop(stream: ByteStream): void {
    this.#connections.get(stream.getPeer())?.destroy();
  }

  #serve(broadcast: NewestBroadcast): handleServerStreamingCall<Buffer, Buffer> {
    return (stream) => {
      try {
        checkSecurityHeader(stream.metadata);
        this.#checkPhase();
        this.#mayAdd();
      } catch (error) {
        endStream(stream, statusOf(error));
        return;
      }
      broadcast.add(stream);
    };
  }

  #checkPhase(): void {
    switch (this.#phase) {
      case 'serving':
        return;
      case 'starting':
        throw new KedgeError('identity_starting', 'the agent has no SVID yet', { retryAfterMs: 1_000 });
      case 'withdrawn':
        throw noIdentity();
      case 'closed':
        throw closing();
    }
    this.#phase satisfies never;
  }

  #mayAdd(): void {
    const { maxStreams } = this.#options;
    if (this.streams < maxStreams) return;
    throw new KedgeError('too_many_streams', `the agent serves ${maxStreams} streams already`, {
      hint: 'keep one stream per workload open, or raise workloadApiMaxStreams',
    });
  }

  #end(status: ReturnType<typeof statusOf>): void {
    this.#svids.end(status);
    this.#bundles.end(status);
  }
}

function noIdentity(): KedgeError {
  return new KedgeError('identity_unavailable', 'no identity issued');
}

function closing(): KedgeError {
  return new KedgeError('shutting_down', 'the agent is closing');
}
