import type { handleServerStreamingCall } from '@grpc/grpc-js';
import type { Clock } from '../../host/clock.ts';
import { KedgeError } from '../../pki/kedge-error.ts';
import { namedConsumers } from '../evidence.ts';
import { heldSnapshot, type IdentitySnapshot } from '../snapshot.ts';
import type { ConsumerStatus, Feed } from './feed.ts';
import { addHealthService, type HealthService } from './health-service.ts';
import { type ByteStream, type EndStatus, endStream, NewestBroadcast } from './newest-broadcast.ts';
import { encodeMessages } from './workload-api-messages.ts';
import { checkSecurityHeader, streamMethod, statusOf, unimplementedMethods } from './workload-api-methods.ts';
import type { WorkloadEndpoint } from './workload-endpoint.ts';

/** What a {@link WorkloadApiFeed} is made of. */
export interface WorkloadApiFeedOptions {
  /** Where it is served; does not listen yet. */
  readonly endpoint: WorkloadEndpoint;
  readonly clock: Clock;
  /** See {@link Feed}. */
  readonly onConsumersChange: () => void;
  /** Whether the agent is ready, for gRPC health; absent = whenever this feed serves. */
  readonly isReady?: () => boolean;
}

/**
 * The SPIFFE Workload API (X.509 part), and gRPC health beside it.
 *
 * Every stream gets the newest snapshot at once and again at each change; see `docs/conformance.md` for each rule
 * of the standard and its test. Before the first snapshot streams are refused with UNAVAILABLE, after a withdrawal
 * with PERMISSION_DENIED `no identity issued`, which also ends those that are open.
 */
export class WorkloadApiFeed implements Feed {
  readonly name = 'workload-api';
  readonly #endpoint: WorkloadEndpoint;
  readonly #svids: NewestBroadcast;
  readonly #bundles: NewestBroadcast;
  readonly #health: HealthService;
  #phase: 'starting' | 'serving' | 'withdrawn' | 'closed' = 'starting';

  constructor({ endpoint, clock, onConsumersChange, isReady = () => true }: WorkloadApiFeedOptions) {
    this.#endpoint = endpoint;
    const drop = (stream: ByteStream): void => endpoint.drop(stream);
    const broadcast = { clock, drop, onReadersChange: onConsumersChange };
    this.#svids = new NewestBroadcast({ ...broadcast, name: 'FetchX509SVID' });
    this.#bundles = new NewestBroadcast({ ...broadcast, name: 'FetchX509Bundles' });
    this.#health = addHealthService(endpoint, clock, isReady);
    const unimplemented = unimplementedMethods((error) => endpoint.refusalOf(error));
    endpoint.addService(
      {
        FetchX509SVID: streamMethod('FetchX509SVID'),
        FetchX509Bundles: streamMethod('FetchX509Bundles'),
        ...unimplemented.definitions,
      },
      {
        FetchX509SVID: this.#serve(this.#svids),
        FetchX509Bundles: this.#serve(this.#bundles),
        ...unimplemented.handlers,
      },
    );
  }

  /** To be called when what `isReady` says may have changed. */
  refreshHealth(): void {
    this.#health.refresh();
  }

  async publish(snapshot: IdentitySnapshot, signal: AbortSignal): Promise<void> {
    if (this.#phase === 'closed') throw new KedgeError('feed_failed', 'the Workload API is closed');
    signal.throwIfAborted();
    const messages = encodeMessages(snapshot);
    this.#phase = 'serving';
    this.#health.setServing(true);
    const held = heldSnapshot(snapshot);
    await Promise.all([
      this.#svids.send({ bytes: messages.x509Svid, held }, signal),
      this.#bundles.send({ bytes: messages.x509Bundles, held }, signal),
    ]);
    signal.throwIfAborted();
  }

  consumers(): readonly ConsumerStatus[] {
    return namedConsumers([...this.#svids.consumers(), ...this.#bundles.consumers()]);
  }

  withdraw(): Promise<void> {
    if (this.#phase !== 'closed') this.#phase = 'withdrawn';
    this.#health.setServing(false);
    this.#end(statusOf(noIdentity()));
    return Promise.resolve();
  }

  /** Ends every stream with UNAVAILABLE; the endpoint is closed by whoever opened it. */
  close(): Promise<void> {
    if (this.#phase !== 'closed') {
      this.#phase = 'closed';
      this.#health.setServing(false);
      this.#end(statusOf(closing()));
      this.#health.close(statusOf(closing()));
    }
    return Promise.resolve();
  }

  #serve(broadcast: NewestBroadcast): handleServerStreamingCall<Buffer, Buffer> {
    return (stream) => {
      try {
        checkSecurityHeader(stream.metadata);
        this.#checkPhase();
        this.#endpoint.admit(stream);
      } catch (error) {
        endStream(stream, this.#endpoint.refusalOf(error));
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

  #end(status: EndStatus): void {
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
