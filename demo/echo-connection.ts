import { connect as connectPlain, type Socket } from 'node:net';
import { connect, type DetailedPeerCertificate } from 'node:tls';
import type { X509Identity } from '../cli/x509-context.ts';
import type { SpiffeId } from '../pki/spiffe-id.ts';
import { secureContextOptions, verifyServer } from './workload-tls.ts';

const TIMEOUT_MS = 5_000;

/** What one connection is made of. */
export interface EchoConnectionOptions {
  /** On 127.0.0.1. */
  readonly port: number;
  /** Who must answer. */
  readonly serverId: SpiffeId;
  /** Who we are, and whom we trust. */
  readonly own: X509Identity;
}

/** One connection to the echo server, mTLS or through a proxy that speaks mTLS. Requests on it go one after another. */
export class EchoConnection {
  readonly #socket: Socket;
  #received = '';
  #waiting: PromiseWithResolvers<void> | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => {
      this.#received += text;
      if (this.#received.includes('\n')) this.#waiting?.resolve();
    });
    socket.on('error', (error) => this.#waiting?.reject(error));
    socket.on('close', () => this.#waiting?.reject(new Error('the echo server closed the connection')));
  }

  /** On a socket that is connected. */
  static on(socket: Socket): EchoConnection {
    return new EchoConnection(socket);
  }

  /** Resolves once the handshake is done and the server is proven to be `serverId`; rejects with what was wrong. */
  static open(options: EchoConnectionOptions): Promise<EchoConnection> {
    const { port, serverId, own } = options;
    const { promise, resolve, reject } = Promise.withResolvers<EchoConnection>();
    const socket = connect({
      ...secureContextOptions(own),
      host: '127.0.0.1',
      port,
      rejectUnauthorized: true,
      // An SVID names a workload, not a host: its SPIFFE ID is what is checked.
      checkServerIdentity: (_host, peer) => refusal(peer as DetailedPeerCertificate, own, serverId),
    });
    settle(socket, 'secureConnect', { resolve, reject });
    return promise;
  }

  /** Opens one in plain text to our own proxy, which does the rest. Its Unix socket is `path`. */
  static openThroughProxy(path: string): Promise<EchoConnection> {
    const { promise, resolve, reject } = Promise.withResolvers<EchoConnection>();
    settle(connectPlain({ path }), 'connect', { resolve, reject });
    return promise;
  }

  /** Sends one line and waits for the same line. */
  async echo(line: string): Promise<void> {
    this.#received = '';
    this.#waiting = Promise.withResolvers<void>();
    if (this.#socket.destroyed) throw new Error('the echo server closed the connection');
    this.#socket.write(`${line}\n`);
    await this.#waiting.promise;
    this.#waiting = undefined;
    if (this.#received !== `${line}\n`) throw new Error('the echo is not what was sent');
  }

  /** Ends the connection; nothing may be asked on it afterwards. */
  close(): void {
    this.#socket.end();
  }
}

function settle(
  socket: Socket,
  event: 'connect' | 'secureConnect',
  { resolve, reject }: Pick<PromiseWithResolvers<EchoConnection>, 'resolve' | 'reject'>,
): void {
  socket.setTimeout(TIMEOUT_MS, () => socket.destroy(new Error(`no answer in ${TIMEOUT_MS} ms`)));
  socket.once('error', reject);
  socket.once(event, () => {
    socket.off('error', reject);
    resolve(EchoConnection.on(socket));
  });
}

function refusal(peer: DetailedPeerCertificate, own: X509Identity, serverId: SpiffeId): Error | undefined {
  try {
    verifyServer(peer, own, serverId, Date.now());
    return undefined;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}
