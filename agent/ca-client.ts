import { createSecureContext, setDefaultCACertificates } from 'node:tls';
import { Client, type ClientDuplexStream, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import type { Clock } from '../host/clock.ts';
import { errorOfGrpc } from '../host/grpc-errors.ts';
import { equalBytes } from '../pki/bytes.ts';
import { KedgeError } from '../pki/kedge-error.ts';
import { LIMITS } from '../pki/limits.ts';
import { encodePem } from '../pki/pem.ts';
import type { TrustDomain } from '../pki/spiffe-id.ts';
import {
  IssueX509SvidRequest,
  IssueX509SvidResponse,
  WatchRequest,
  WatchResponse,
} from '../proto/gen/kedge/v1/identity.ts';
import { CaTrust, caIdentityCheck, type TrustKeeper, type TrustMemory } from './ca-trust.ts';
import { type Instant, instantOf } from './deadline.ts';
import type { BundleSnapshot } from './snapshot.ts';

/** What a {@link CaClient} is made of. */
export interface CaClientOptions {
  /** `host:port`. */
  readonly address: string;
  readonly trustDomain: TrustDomain;
  /** Reads the anchors of the bootstrap bundle file; called when there is nothing newer, or what there is fails. */
  readonly readBootstrap: () => Promise<readonly Uint8Array[]>;
  readonly clock: Clock;
  /** What is asked for with each CSR; the CA's policy bounds it. Default: nothing. */
  readonly wish?: SvidWish;
}

/** What a workload asks of its SVID beside its identity. */
export interface SvidWish {
  /** Seconds; 0 = as long as the policy grants. */
  readonly ttlSeconds: number;
  readonly dnsNames: readonly string[];
}

const NO_WISH: SvidWish = { ttlSeconds: 0, dnsNames: [] };

/** An answer to a request for an SVID, not checked yet. */
export interface IssueAnswer {
  readonly response: IssueX509SvidResponse;
  readonly sent: Instant;
  readonly received: Instant;
}

/** One Watch stream. */
export interface WatchStream {
  readonly call: ClientDuplexStream<WatchRequest, WatchResponse>;
  /** True while new calls use the connection of this stream. */
  isCurrent(): boolean;
  /** The failure that ended the stream, in Kedge's terms. */
  errorOf(failure: ServiceError): KedgeError;
}

interface Connection {
  readonly client: Client;
  readonly authorities: readonly Uint8Array[];
  /** Why the server was refused; null = it was not. */
  refusal: KedgeError | null;
}

/** A connection is probed when it was silent so long, and given up when a probe stays without answer. */
const KEEPALIVE = { 'grpc.keepalive_time_ms': 30_000, 'grpc.keepalive_timeout_ms': 10_000 };

/**
 * The agent's side of `kedge.v1.Identity`.
 *
 * One channel at a time, checked with exactly the anchors that {@link CaTrust} gives: when they change, new calls go
 * over a new channel and the calls on the old one run to their end there. A channel that fails to connect is thrown
 * away, so that back-off is the caller's alone and the address is resolved anew.
 */
export class CaClient implements TrustKeeper {
  readonly #options: CaClientOptions;
  readonly #trust: CaTrust;
  #connection: Promise<Connection> | null = null;
  #current: Connection | null = null;
  #crls: readonly Uint8Array[] = [];

  constructor(options: CaClientOptions) {
    this.#options = options;
    this.#trust = new CaTrust({ readBootstrap: options.readBootstrap });
  }

  /** Begins to connect, so that the first call finds the connection under way. Failures show at that call. */
  warmUp(): void {
    this.#connect().then(
      ({ client }) => client.getChannel().getConnectivityState(true),
      () => {},
    );
  }

  /** The newest bundle of the CA: what connections from now on are checked with. */
  trust(bundle: BundleSnapshot): void {
    this.#trust.accept(bundle);
    this.#follow(bundle);
  }

  /** Takes up what was known before a restart. */
  restoreTrust(memory: TrustMemory): void {
    this.#trust.restore(memory);
    this.#follow(memory.bundle);
  }

  /** What is to be kept over a restart; null while there was no bundle. */
  get trustMemory(): TrustMemory | null {
    return this.#trust.memory;
  }

  /**
   * One exchange of a CSR for an SVID; `signal` ends it. Throws the refusal of the CA, `ca_unreachable`,
   * `ca_identity_mismatch`, `cancelled`, ...
   */
  async issueX509Svid(csr: Uint8Array, token: string, signal: AbortSignal): Promise<IssueAnswer> {
    const { clock, wish = NO_WISH } = this.#options;
    const connection = await this.#connect();
    const sent = instantOf(clock);
    const { promise, resolve, reject } = Promise.withResolvers<IssueAnswer>();
    const call = connection.client.makeUnaryRequest(
      '/kedge.v1.Identity/IssueX509Svid',
      (request: IssueX509SvidRequest) => Buffer.from(IssueX509SvidRequest.encode(request).finish()),
      (bytes) => IssueX509SvidResponse.decode(bytes),
      { csr, ttlSeconds: wish.ttlSeconds, dnsNames: [...wish.dnsNames] },
      bearer(token),
      (failure, response) => {
        if (failure === null && response !== undefined) {
          resolve({ response, sent, received: instantOf(clock) });
        } else reject(this.#errorOf(connection, failure));
      },
    );
    const cancel = (): void => call.cancel();
    signal.addEventListener('abort', cancel, { once: true });
    if (signal.aborted) cancel();
    try {
      return await promise;
    } finally {
      signal.removeEventListener('abort', cancel);
    }
  }

  /** Opens a Watch stream. The caller ends it. */
  async openWatch(token: string): Promise<WatchStream> {
    const connection = await this.#connect();
    const call = connection.client.makeBidiStreamRequest(
      '/kedge.v1.Identity/Watch',
      (request: WatchRequest) => Buffer.from(WatchRequest.encode(request).finish()),
      (bytes) => WatchResponse.decode(bytes),
      bearer(token),
    );
    return {
      call,
      isCurrent: () => this.#current === connection,
      errorOf: (failure) => this.#errorOf(connection, failure),
    };
  }

  close(): void {
    this.#abandon();
  }

  #connect(): Promise<Connection> {
    if (this.#connection === null) {
      const opening = this.#open();
      this.#connection = opening;
      opening.catch(() => {
        if (this.#connection === opening) this.#connection = null;
      });
    }
    return this.#connection;
  }

  #follow({ crls, x509Authorities }: BundleSnapshot): void {
    this.#crls = crls;
    const { authorities } = this.#current ?? {};
    if (authorities !== undefined && !equalSets(authorities, x509Authorities)) this.#abandon();
  }

  /** Sets the current connection in the turn in which its anchors are chosen: a bundle that comes later finds it. */
  #open(): Promise<Connection> {
    return this.#trust.withAnchors((authorities) => (this.#current = this.#makeConnection(authorities)));
  }

  #makeConnection(authorities: readonly Uint8Array[]): Connection {
    const { address, trustDomain, clock } = this.#options;
    const ca = authorities.map((der) => encodePem('CERTIFICATE', der));
    // Node reads its public roots for any context, whatever that trusts, unless something is in their place: 2 MB.
    if (ca.length > 0) setDefaultCACertificates(ca);
    const connection: Connection = {
      authorities,
      refusal: null,
      client: new Client(
        `dns:///${address}`,
        credentials.createFromSecureContext(createSecureContext({ ca, minVersion: 'TLSv1.3' }), {
          checkServerIdentity: caIdentityCheck({
            trustDomain,
            authorities,
            crls: () => this.#crls,
            now: () => clock.now(),
            onRefusal: (error) => {
              connection.refusal = error;
            },
          }),
        }),
        {
          ...KEEPALIVE,
          'grpc.max_receive_message_length': LIMITS.caMessageBytes,
          // The name is only said, never checked: what counts is the SPIFFE ID. It is no address, as TLS demands.
          'grpc.ssl_target_name_override': trustDomain.name,
          // The token must not travel through a proxy that some environment variable names.
          'grpc.enable_http_proxy': 0,
          'grpc.enable_retries': 0,
          'grpc.enable_channelz': 0,
          'grpc.service_config_disable_resolution': 1,
          'grpc.use_local_subchannel_pool': 1,
        },
      ),
    };
    return connection;
  }

  #errorOf(connection: Connection, failure: ServiceError | null): KedgeError {
    if (failure === null) return new KedgeError('ca_answer_invalid', 'the CA answered with nothing');
    const error = errorOfGrpc(failure, { unreachable: 'ca_unreachable', invalid: 'ca_answer_invalid' });
    if (error.code !== 'ca_unreachable') return error;
    const isCurrent = this.#current === connection;
    if (isCurrent) this.#abandon();
    const { refusal } = connection;
    // OpenSSL refuses a chain before the identity is looked at; grpc-js hands on no more than its words.
    if (refusal === null && !/certificate/i.test(failure.details)) return error;
    if (isCurrent) this.#trust.reject();
    return (
      refusal ??
      new KedgeError('ca_identity_mismatch', `the certificate of the CA does not verify: ${error.message}`, {
        cause: failure,
        hint: 'check that the bootstrap bundle is the one of this CA, and compare the clocks',
      })
    );
  }

  #abandon(): void {
    this.#current?.client.close();
    this.#current = null;
    this.#connection = null;
  }
}

function bearer(token: string): Metadata {
  const metadata = new Metadata();
  metadata.set('authorization', `Bearer ${token}`);
  return metadata;
}

function equalSets(a: readonly Uint8Array[], b: readonly Uint8Array[]): boolean {
  return a.length === b.length && a.every((x) => b.some((y) => equalBytes(x, y)));
}
