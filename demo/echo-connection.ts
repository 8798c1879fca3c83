import { connect, type DetailedPeerCertificate, type TLSSocket } from 'node:tls';
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

/** One mTLS connection to the echo server. Requests on it go one after another. */
export class EchoConnection {
  readonly #socket: TLSSocket;
  #received = '';
  #waiting: PromiseWithResolvers<void> | undefined;

  private constructor(socket: TLSSocket) {
    this.#socket = socket;
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => {
      this.#received += text;
      if (this.#received.includes('\n')) this.#waiting?.resolve();
    });
    socket.on('error', (error) => this.#waiting?.reject(error));
    socket.on('close', () => this.#waiting?.reject(new Error('the echo server closed the connection')));
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
    socket.setTimeout(TIMEOUT_MS, () => socket.destroy(new Error(`no answer in ${TIMEOUT_MS} ms`)));
    socket.once('error', reject);
    socket.once('secureConnect', () => {
      socket.off('error', reject);
      resolve(new EchoConnection(socket));
    });
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

function refusal(peer: DetailedPeerCertificate, own: X509Identity, serverId: SpiffeId): Error | undefined {
  try {
    verifyServer(peer, own, serverId, Date.now());
    return undefined;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}
