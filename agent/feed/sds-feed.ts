import type { handleUnaryCall } from '@grpc/grpc-js';
import type { Clock } from '../../host/clock.ts';
import type { Log } from '../../host/log.ts';
import type { Random } from '../../host/random.ts';
import { Wakeup } from '../../host/wakeup.ts';
import { KedgeError } from '../../pki/kedge-error.ts';
import { sleepUntilDeadline } from '../deadline.ts';
import { namedConsumers } from '../evidence.ts';
import type { IdentitySnapshot } from '../snapshot.ts';
import type { ConsumerStatus, Feed } from './feed.ts';
import { endStream, STALL_MS } from './newest-broadcast.ts';
import { OverdueWatch } from './overdue-watch.ts';
import type { SdsNames } from './sds-names.ts';
import { DELTA_PROTOCOL, type SdsProtocol, SOTW_PROTOCOL } from './sds-protocol.ts';
import { readSotwRequest } from './sds-request.ts';
import { hasCompleteCrls, SdsCatalog, type SecretKind } from './sds-resources.ts';
import { encodeFetchResponse } from './sds-response.ts';
import { type SdsCall, SdsStream } from './sds-stream.ts';
import type { StreamState } from './sds-stream-state.ts';
import { duplexMethod, statusOf, unaryMethod } from './workload-api-methods.ts';
import type { WorkloadEndpoint } from './workload-endpoint.ts';

/** The service of `envoy/service/secret/v3/sds.proto`. */
export const SDS_SERVICE = 'envoy.service.secret.v3.SecretDiscoveryService';

/** How SDS is served. */
export interface SdsSettings {
  readonly names: SdsNames;
  /** Validation contexts are plain unless the node metadata of an Envoy says otherwise. */
  readonly isValidatorDisabled: boolean;
}

/** What an {@link SdsFeed} is made of. */
export interface SdsFeedOptions extends SdsSettings {
  /** Where it is served; does not listen yet. */
  readonly endpoint: WorkloadEndpoint;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** See {@link Feed}. */
  readonly onConsumersChange: () => void;
  /** Told of each secret that an Envoy refuses. */
  readonly onNack: (kind: SecretKind) => void;
}

/** What the feed wants of a stream, whichever protocol it speaks. */
type OpenStream = Pick<
  SdsStream<never, StreamState>,
  'hasIdentity' | 'isWriting' | 'status' | 'name' | 'offer' | 'end' | 'cut'
>;

/**
 * Envoy's Secret Discovery Service, version 3: `StreamSecrets`, `DeltaSecrets` and `FetchSecrets`. See
 * `docs/conformance.md` for each rule and its test. No security header is asked for: an Envoy cannot send one.
 *
 * Each stream is a consumer. Before there is an identity streams are held, so that an Envoy that starts first gets its
 * secrets the moment they exist, without a back-off of its own. When the identity expires, the streams that were given
 * it are ended with PERMISSION_DENIED; those that come then are held again.
 */
export class SdsFeed implements Feed {
  readonly name = 'sds';
  readonly #options: SdsFeedOptions;
  readonly #streams = new Set<OpenStream>();
  /** Those with a response that waits for the transport. */
  readonly #writing: OverdueWatch<OpenStream>;
  readonly #wakeup = new Wakeup();
  #phase: 'starting' | 'serving' | 'withdrawn' | 'closed' = 'starting';
  #catalog: SdsCatalog | null = null;
  #streamCount = 0;

  constructor(options: SdsFeedOptions) {
    this.#options = options;
    this.#writing = new OverdueWatch({
      clock: options.clock,
      timeoutMs: STALL_MS,
      onOverdue: (stream) => stream.cut(),
    });
    options.endpoint.addService(
      {
        StreamSecrets: duplexMethod('StreamSecrets', SDS_SERVICE),
        DeltaSecrets: duplexMethod('DeltaSecrets', SDS_SERVICE),
        FetchSecrets: unaryMethod('FetchSecrets', SDS_SERVICE),
      },
      {
        StreamSecrets: (call: SdsCall) => this.#open(call, SOTW_PROTOCOL),
        DeltaSecrets: (call: SdsCall) => this.#open(call, DELTA_PROTOCOL),
        FetchSecrets: this.#fetch,
      },
    );
  }

  async publish(snapshot: IdentitySnapshot, signal: AbortSignal): Promise<void> {
    if (this.#phase === 'closed') throw new KedgeError('feed_failed', 'SDS is closed');
    signal.throwIfAborted();
    const catalog = new SdsCatalog(snapshot, this.#options.names);
    this.#tellOfMissingCrls(snapshot);
    this.#catalog = catalog;
    this.#phase = 'serving';
    for (const stream of this.#streams) stream.offer(catalog);
    await this.#written(catalog, signal);
    signal.throwIfAborted();
  }

  withdraw(): Promise<void> {
    if (this.#phase !== 'closed') this.#phase = 'withdrawn';
    this.#catalog = null;
    this.#cutStalled();
    const status = statusOf(noIdentity());
    for (const stream of this.#streams) if (stream.hasIdentity) stream.end(status);
    return Promise.resolve();
  }

  consumers(): readonly ConsumerStatus[] {
    return namedConsumers(
      [...this.#streams].map((stream) => stream.status).filter((status) => status !== null),
    );
  }

  /** Ends every stream with UNAVAILABLE; the endpoint is closed by whoever opened it. */
  close(): Promise<void> {
    this.#phase = 'closed';
    this.#catalog = null;
    this.#cutStalled();
    for (const stream of this.#streams) stream.end(statusOf(closing()));
    return Promise.resolve();
  }

  #open<Request, State extends StreamState>(call: SdsCall, protocol: SdsProtocol<Request, State>): void {
    const { endpoint, onConsumersChange } = this.#options;
    try {
      if (this.#phase === 'closed') throw closing();
      endpoint.admit(call);
    } catch (error) {
      endStream(call, endpoint.refusalOf(error));
      return;
    }
    const onChange = (): void => {
      this.#wakeup.wake();
      onConsumersChange();
    };
    const stream = new SdsStream(call, protocol, this.#catalog, {
      ...this.#options,
      drop: (dropped) => endpoint.drop(dropped),
      refusalOf: (error) => endpoint.refusalOf(error),
      nameFor: (nodeName) => this.#nameFor(nodeName),
      onChange,
      onWriting: (isWriting) => (isWriting ? this.#writing.add(stream) : this.#writing.delete(stream)),
      onEnd: () => {
        this.#streams.delete(stream);
        this.#writing.delete(stream);
        onChange();
      },
    });
    this.#streams.add(stream);
  }

  readonly #fetch: handleUnaryCall<Buffer, Buffer> = (call, callback) => {
    const { endpoint, isValidatorDisabled } = this.#options;
    try {
      const request = readSotwRequest(call.request, isValidatorDisabled);
      const catalog = this.#requireCatalog();
      callback(null, encodeFetchResponse(request, catalog, isValidatorDisabled ? 'plain' : 'spiffe'));
    } catch (error) {
      callback(endpoint.refusalOf(error));
    }
  };

  #requireCatalog(): SdsCatalog {
    if (this.#catalog !== null) return this.#catalog;
    switch (this.#phase) {
      case 'starting':
        throw new KedgeError('identity_starting', 'the agent has no SVID yet', { retryAfterMs: 1_000 });
      case 'closed':
        throw closing();
      case 'withdrawn':
      case 'serving':
        throw noIdentity();
    }
    this.#phase satisfies never;
  }

  /** What the client calls itself, with a number where several streams are of one Envoy. */
  #nameFor(nodeName: string): string {
    this.#streamCount += 1;
    const base = nodeName === '' ? `stream-${this.#streamCount}` : nodeName;
    const taken = new Set([...this.#streams].map(({ name }) => name));
    let name = base;
    for (let i = 2; taken.has(name); i += 1) name = `${base}#${i}`;
    return name;
  }

  /**
   * Resolves when the transport has taken what waits now, or there is a newer snapshot. A stream that takes nothing is
   * cut after {@link STALL_MS}; whoever comes meanwhile gets the newest, and is not waited for.
   */
  async #written(catalog: SdsCatalog, signal: AbortSignal): Promise<void> {
    const owed = new Set([...this.#streams].filter(({ isWriting }) => isWriting));
    const isDone = (): boolean => {
      if (this.#catalog !== catalog) return true;
      for (const stream of owed) {
        if (this.#writing.has(stream)) return false;
        owed.delete(stream);
      }
      return true;
    };
    for (;;) {
      const seen = this.#wakeup.generation;
      if (isDone()) return;
      await this.#wakeup.sleep(seen, (end) => sleepUntilDeadline(this.#options.clock, null, end), signal);
    }
  }

  #cutStalled(): void {
    for (const stream of this.#streams) if (stream.isWriting) stream.cut();
  }

  /** Envoy's SPIFFE validator takes CRLs only where every authority has one, see `sds-resources.ts`. */
  #tellOfMissingCrls({ bundle, svid }: IdentitySnapshot): void {
    if (bundle.crls.length === 0 || hasCompleteCrls(bundle, svid.chain.slice(1))) return;
    const { trustDomain, sequence } = bundle;
    this.#options.log.warn('sds.crls_incomplete', { trustDomain: trustDomain.name, sequence });
  }
}

function noIdentity(): KedgeError {
  return new KedgeError('identity_unavailable', 'no identity issued');
}

function closing(): KedgeError {
  return new KedgeError('shutting_down', 'the agent is closing');
}
