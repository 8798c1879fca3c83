import { type ConnectionInjector, type Server, ServerCredentials } from '@grpc/grpc-js';
import { constants } from 'node:crypto';
import type { Socket } from 'node:net';
import { createServer, type SecureContextOptions, type Server as TlsServer, type TLSSocket } from 'node:tls';
import { errnoOf } from '../../host/errno.ts';
import { KedgeError, quote } from '../../pki/kedge-error.ts';

/** A certificate chain and its key as TLS takes them. */
export interface ServingCertificate {
  /** PEM, leaf first. */
  readonly chainPem: string;
  /** PKCS#8, PEM. */
  readonly keyPem: string;
}

/** Which bound a connection was over: the one on all of them, or the one on those from its address. */
export type ConnectionBound = 'total' | 'address';

/** What a {@link TlsListener} is made of. */
export interface TlsListenerOptions {
  /** Takes the connections; its services are the caller's. */
  readonly server: Server;
  /** Connections at once; more are dropped when they arrive. */
  readonly maxConnections: number;
  /** Connections at once from one IP address, those whose handshake is not done included. */
  readonly maxConnectionsPerAddress: number;
  /** Called for each connection that is dropped when it arrives, with the bound that it is over. */
  readonly onRefused: (bound: ConnectionBound) => void;
  /** The certificate of the first connections. */
  readonly certificate: ServingCertificate;
  /** Asks clients for a certificate; whose it is, and whether it is good, is for the services. Default false. */
  readonly clientCertificates?: boolean;
}

/** A client that does not finish its TLS handshake in so many milliseconds is dropped. */
const HANDSHAKE_TIMEOUT_MS = 10_000;

/**
 * The TLS side of a gRPC server: accepts connections and hands them to grpc-js.
 *
 * TLS is ours, not grpc-js's, because its `createSsl` cannot change a certificate, its certificate providers are
 * experimental, and neither bounds connections, handshakes or protocol versions. A new certificate is a new TLS
 * context for the connections to come; those that are open keep theirs, and their streams.
 *
 * No session is resumed: every connection is shown the certificate of the moment, and a pod connects but once.
 */
export class TlsListener {
  readonly #tls: TlsServer;
  readonly #injector: ConnectionInjector;
  readonly #sockets = new Map<string, TLSSocket>();
  readonly #options: TlsListenerOptions;
  /** How many connections each address has, handshakes included. */
  readonly #byAddress = new Map<string, number>();
  #stopped = false;

  constructor(options: TlsListenerOptions) {
    this.#options = options;
    // Plain, because what it is handed is decrypted already.
    this.#injector = options.server.createConnectionInjector(ServerCredentials.createInsecure());
    this.#tls = createServer({
      ...contextOf(options.certificate),
      ALPNProtocols: ['h2'],
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
      requestCert: options.clientCertificates ?? false,
      // Its anchors change under way, and it must be an SVID: the services look at it themselves.
      rejectUnauthorized: false,
    });
    this.#tls.maxConnections = options.maxConnections;
    this.#tls.on('drop', () => options.onRefused('total'));
    // Before the listener that begins the handshake, which costs a signature.
    this.#tls.prependListener('connection', (socket: Socket) => this.#count(socket));
    this.#tls.on('secureConnection', (socket) => this.#onConnection(socket));
    // Clients that break off their handshake are theirs to explain.
    this.#tls.on('tlsClientError', () => {});
  }

  /** How many clients are connected. */
  get connections(): number {
    return this.#sockets.size;
  }

  /** Binds; gives the port. Throws `address_unavailable`. */
  listen(host: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#tls.once('error', (cause) => reject(unavailable(host, port, cause)));
      this.#tls.listen({ host, port }, () => {
        this.#tls.removeAllListeners('error');
        const address = this.#tls.address();
        resolve(typeof address === 'object' && address !== null ? address.port : port);
      });
    });
  }

  /** Connections from now on see this certificate. */
  use(certificate: ServingCertificate): void {
    this.#tls.setSecureContext(contextOf(certificate));
  }

  /** Cuts the connection from a peer, as grpc-js names it: `address:port`. */
  disconnect(peer: string): void {
    this.#sockets.get(peer)?.destroy();
  }

  /** The certificate that the client at a peer, `address:port`, has shown it has the key of, DER; null = none. */
  clientCertificateOf(peer: string): Uint8Array | null {
    const raw = this.#sockets.get(peer)?.getPeerX509Certificate()?.raw;
    return raw === undefined ? null : new Uint8Array(raw);
  }

  /** Takes no more connections; those that are open stay. Harmless when repeated. */
  stopListening(): void {
    this.#stopped = true;
    this.#tls.close();
  }

  /** Tells clients to go away (GOAWAY); resolves when each has its answers and the last one is gone. */
  async drained(): Promise<void> {
    this.#injector.destroy();
    // Not grpc-js's `tryShutdown`: on Node 24 it reports the end while answers are still on their way.
    await Promise.all(
      [...this.#sockets.values()].map((socket) => new Promise((resolve) => socket.once('close', resolve))),
    );
  }

  /** Ends listening, and cuts what is still connected. */
  close(): void {
    this.stopListening();
    this.#injector.destroy();
    for (const socket of this.#sockets.values()) socket.destroy();
  }

  #count(socket: Socket): void {
    const address = socket.remoteAddress;
    // It has gone already.
    if (address === undefined) return;
    const count = this.#byAddress.get(address) ?? 0;
    if (count >= this.#options.maxConnectionsPerAddress) {
      this.#options.onRefused('address');
      socket.destroy();
      return;
    }
    this.#byAddress.set(address, count + 1);
    socket.once('close', () => {
      const left = (this.#byAddress.get(address) ?? 1) - 1;
      if (left === 0) this.#byAddress.delete(address);
      else this.#byAddress.set(address, left);
    });
  }

  #onConnection(socket: TLSSocket): void {
    // Errors end in 'close'; without a listener they would end the process (nodejs/node#35824).
    socket.on('error', () => {});
    // Its handshake was under way when listening ended.
    if (this.#stopped) {
      socket.destroy();
      return;
    }
    const peer = `${socket.remoteAddress}:${socket.remotePort}`;
    this.#sockets.set(peer, socket);
    socket.once('close', () => {
      if (this.#sockets.get(peer) === socket) this.#sockets.delete(peer);
    });
    this.#injector.injectConnection(socket);
  }
}

function contextOf({ chainPem, keyPem }: ServingCertificate): SecureContextOptions {
  return { cert: chainPem, key: keyPem, minVersion: 'TLSv1.2', secureOptions: constants.SSL_OP_NO_TICKET };
}

function unavailable(host: string, port: number, cause: unknown): KedgeError {
  return new KedgeError(
    'address_unavailable',
    `cannot listen on ${quote(host)} port ${port}: ${errnoOf(cause) ?? 'unknown'}`,
    { hint: 'another process may have the port: choose another one, or stop it', cause },
  );
}
