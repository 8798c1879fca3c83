import { type ConnectionInjector, type Server, ServerCredentials } from '@grpc/grpc-js';
import { chmod, lstat, unlink } from 'node:fs/promises';
import { connect, createServer, type Server as NetServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { errnoOf } from '../../host/errno.ts';
import { KedgeError, quote } from '../../pki/kedge-error.ts';

/** Longest path of a Unix socket, bytes: `sun_path` without its terminator (unix(7)). */
const PATH_BYTES = 107;
/** A socket whose owner does not answer in so many milliseconds is taken for a live one that is busy. */
const PROBE_TIMEOUT_MS = 1_000;
/** Operators at once. */
const MAX_CONNECTIONS = 32;

/**
 * Serves `server` on a Unix socket (0600) in the CA's data folder, which is private (0700) and held by this process
 * alone.
 *
 * What is at the path already is looked at, never followed: another file than a socket is refused
 * (`socket_path_invalid`), a socket that answers too (`socket_in_use`), one that nobody serves is replaced.
 */
export class AdminSocket {
  readonly path: string;
  readonly #listener: NetServer;
  readonly #injector: ConnectionInjector;
  readonly #sockets: Set<Socket>;

  private constructor(path: string, listener: NetServer, injector: ConnectionInjector, sockets: Set<Socket>) {
    this.path = path;
    this.#listener = listener;
    this.#injector = injector;
    this.#sockets = sockets;
  }

  /** Serves on `admin.sock` in `folder`. */
  static async open(folder: string, server: Server): Promise<AdminSocket> {
    const path = join(folder, 'admin.sock');
    const bytes = Buffer.byteLength(path);
    if (bytes > PATH_BYTES) {
      throw new KedgeError(
        'socket_path_invalid',
        `the socket path ${quote(path)} has ${bytes} bytes, ${PATH_BYTES} are allowed`,
        {
          hint: 'give the CA a data folder with a shorter path',
        },
      );
    }
    await removeStale(path);
    const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
    const sockets = new Set<Socket>();
    const listener = createServer((socket) => {
      socket.on('error', () => {});
      sockets.add(socket);
      socket.once('close', () => sockets.delete(socket));
      injector.injectConnection(socket);
    });
    listener.maxConnections = MAX_CONNECTIONS;
    try {
      await new Promise<void>((resolve, reject) => {
        listener.once('error', reject);
        listener.listen({ path }, resolve);
      });
      await chmod(path, 0o600);
    } catch (cause) {
      listener.close();
      throw errnoOf(cause) === 'EADDRINUSE' ? inUse(path) : unusable(path, cause);
    }
    return new AdminSocket(path, listener, injector, sockets);
  }

  /** Stops listening, removes the socket and cuts who is connected. */
  close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#listener.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    this.#injector.destroy();
    return closed;
  }
}

async function removeStale(path: string): Promise<void> {
  const found = await lstat(path).catch((cause: unknown) => {
    if (errnoOf(cause) === 'ENOENT') return null;
    throw unusable(path, cause);
  });
  if (found === null) return;
  if (!found.isSocket()) {
    throw new KedgeError('socket_path_invalid', `there is something else than a socket at ${quote(path)}`, {
      hint: 'look at it, and move it away',
    });
  }
  if (await isLive(path)) throw inUse(path);
  await unlink(path).catch((cause: unknown) => {
    throw unusable(path, cause);
  });
}

function isLive(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    const done = (live: boolean): void => {
      socket.destroy();
      resolve(live);
    };
    socket.setTimeout(PROBE_TIMEOUT_MS, () => done(true));
    socket.once('connect', () => done(true));
    socket.once('error', (cause) => {
      const code = errnoOf(cause);
      if (code === 'ECONNREFUSED' || code === 'ENOENT') done(false);
      else if (code === 'EAGAIN') done(true);
      else reject(unusable(path, cause));
    });
  });
}

function inUse(path: string): KedgeError {
  return new KedgeError('socket_in_use', `another process serves the socket ${quote(path)}`, {
    hint: 'stop it, or give this CA a data folder of its own',
  });
}

function unusable(path: string, cause: unknown): KedgeError {
  return new KedgeError(
    'socket_path_invalid',
    `the socket ${quote(path)} cannot be made: ${errnoOf(cause) ?? 'unknown'}`,
    {
      hint: 'the data folder must be writable by the user that runs the CA',
      cause,
    },
  );
}
