import { Server } from '@grpc/grpc-js';
import { rawMethodDefinition } from '../../host/grpc-service.ts';
import type { Clock } from '../../host/clock.ts';
import type { ConnectionBound, ServingCertificate } from '../api/tls-listener.ts';
import { TlsListener } from '../api/tls-listener.ts';
import { type Admit, callInterceptor, type CallOptions } from '../api/unary-call.ts';
import type { ListenAddress } from '../config-settings.ts';
import type { DownstreamService } from './downstream-service.ts';
import { nestedCaller } from './nested-caller.ts';
import type { NestedCas } from './nested-cas.ts';
import type { TrustState } from '../authority/trust-state.ts';

/** What a {@link DownstreamServer} is made of. */
export interface DownstreamServerOptions {
  readonly address: ListenAddress;
  readonly calls: Omit<CallOptions, 'disconnect'>;
  readonly service: DownstreamService;
  readonly nested: NestedCas;
  readonly state: () => TrustState;
  readonly certificate: ServingCertificate;
  readonly onRefused: (bound: ConnectionBound) => void;
  readonly clock: Clock;
}

/** Nested CAs are few; each has one connection at a time. */
const CONNECTIONS = 256;
const CONNECTIONS_PER_ADDRESS = 32;
const METHODS = ['Sync', 'MintIssuer'] as const;

/** Where nested CAs connect: a listener of its own, which asks its clients for their certificate. */
export class DownstreamServer {
  readonly #options: DownstreamServerOptions;
  readonly #listener: TlsListener;

  constructor(options: DownstreamServerOptions) {
    this.#options = options;
    const { calls, service, certificate, onRefused } = options;
    const routes = {
      unary: new Map([
        ['kedge.v1.Downstream/Sync', this.#admit((caller, request) => service.sync(caller, request))],
        [
          'kedge.v1.Downstream/MintIssuer',
          this.#admit((caller, request, signal) => service.mintIssuer(caller, request, signal)),
        ],
      ] as const),
      openStreams: new Set<never>(),
    };
    const disconnect = (peer: string): void => this.#listener.disconnect(peer);
    const server = new Server({
      'grpc.enable_channelz': 0,
      'grpc.max_receive_message_length': 128 * 1024,
      'grpc.max_concurrent_streams': 4,
      interceptors: [callInterceptor(routes, { ...calls, disconnect })],
    });
    server.addService(
      Object.fromEntries(
        METHODS.map((name) => [
          name,
          rawMethodDefinition({
            path: `/kedge.v1.Downstream/${name}`,
            requestStream: false,
            responseStream: false,
          }),
        ]),
      ),
      {},
    );
    this.#listener = new TlsListener({
      server,
      maxConnections: CONNECTIONS,
      maxConnectionsPerAddress: CONNECTIONS_PER_ADDRESS,
      onRefused,
      certificate,
      clientCertificates: true,
    });
  }

  /** Binds; gives the port. Throws `address_unavailable`. */
  listen(): Promise<number> {
    const { host, port } = this.#options.address;
    return this.#listener.listen(host, port);
  }

  /** Connections from now on see this certificate. */
  use(certificate: ServingCertificate): void {
    this.#listener.use(certificate);
  }

  close(): void {
    this.#listener.close();
  }

  #admit(
    handle: (caller: string, request: Buffer, signal: AbortSignal) => Uint8Array | Promise<Uint8Array>,
  ): Admit {
    const { nested, state, clock } = this.#options;
    return (call) => {
      const certificate = this.#listener.clientCertificateOf(call.peer);
      const caller = nestedCaller(certificate, { nested, state: state(), nowMs: clock.now() });
      return { holder: caller, handle: (request) => handle(caller, request, call.signal) };
    };
  }
}
