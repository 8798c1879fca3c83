import { randomBytes } from 'node:crypto';
import { chmod, link, lstat, rename, unlink } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { dirname, isAbsolute, join } from 'node:path';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { makeFolder } from '../folder.ts';

/** The longest path that a Unix socket address holds on Linux, in bytes (`sun_path` less its terminator). */
export const SOCKET_PATH_BYTES = 107;
/** How long a connection to an existing socket may take before the socket counts as live, in milliseconds. */
const PROBE_TIMEOUT_MS = 1_000;

/** Connections that may wait to be accepted: of clients that come back all at once. The kernel has its own bound. */
const BACKLOG = 4_096;

/** What {@link claimSocket} makes. */
export interface SocketOptions {
  /** Absolute path of the socket. */
  readonly path: string;
  /** Permission bits of the socket; who may connect is who may write. */
  readonly mode: number;
  /** Takes each connection. */
  readonly onConnection: (socket: Socket) => void;
}

/** A Unix socket that this process serves. */
export interface ClaimedSocket {
  readonly path: string;
  /** Stops listening and removes the socket, unless another process has taken its place. Connections live on. */
  close(): Promise<void>;
}

/**
 * Serves a Unix socket at `path`.
 *
 * 1. What is there already is looked at: another file than a socket is refused (`socket_path_invalid`), a socket
 *    that answers too (`socket_in_use`), one that nobody listens on is stale and moved away.
 * 2. The new socket is bound under another name in the same folder, gets its mode, and is then linked to `path`:
 *    it never exists there with wider permissions, and of two agents that start at once only one succeeds.
 *
 * A missing parent folder is created with mode 0755 (existing ones are left as they are).
 */
export async function claimSocket(options: SocketOptions): Promise<ClaimedSocket> {
  const { path, mode } = options;
  const folder = dirname(path);
  const ownPath = join(folder, `.k${randomBytes(4).toString('hex')}`);
  checkPath(path, ownPath);
  await guarded(path, () => makeFolder(folder, 0o755));
  await removeStale(path);
  const server = createServer(options.onConnection);
  await guarded(path, () => listen(server, ownPath));
  try {
    await guarded(path, () => chmod(ownPath, mode));
    await guarded(path, () => link(ownPath, path), 'EEXIST');
    const { ino } = await guarded(path, () => lstat(path));
    await guarded(path, () => unlink(ownPath));
    return { path, close: () => closeSocket(server, path, ino) };
  } catch (error) {
    await new Promise((resolve) => server.close(resolve));
    throw error;
  }
}

function checkPath(path: string, ownPath: string): void {
  if (!isAbsolute(path) || path.includes('\0')) {
    throw new KedgeError('socket_path_invalid', `the socket path ${quote(path)} is not absolute`, {
      hint: 'give an absolute path, such as /run/kedge/agent.sock',
    });
  }
  const bytes = Math.max(Buffer.byteLength(path), Buffer.byteLength(ownPath));
  if (bytes > SOCKET_PATH_BYTES) {
    throw new KedgeError(
      'socket_path_invalid',
      `the socket path ${quote(path)} needs ${bytes} bytes, ${SOCKET_PATH_BYTES} are allowed`,
      { hint: 'choose a shorter folder: the kernel bounds socket addresses' },
    );
  }
}

async function removeStale(path: string): Promise<void> {
  const found = await lstat(path).catch(() => null);
  if (found === null) return;
  if (!found.isSocket()) {
    throw new KedgeError('socket_path_invalid', `there is something else than a socket at ${quote(path)}`, {
      hint: 'remove it, or choose another path',
    });
  }
  if (await isLive(path)) throw inUse(path);
  // Two agents may find the same stale socket: what is moved away must be the one that was looked at.
  const grave = join(dirname(path), `.k${randomBytes(4).toString('hex')}`);
  await guarded(path, () => rename(path, grave));
  const moved = await guarded(path, () => lstat(grave));
  if (moved.ino !== found.ino) {
    await link(grave, path).catch(() => {});
    await unlink(grave).catch(() => {});
    throw inUse(path);
  }
  await guarded(path, () => unlink(grave));
}

function isLive(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    const done = (live: boolean): void => {
      socket.destroy();
      resolve(live);
    };
    // A socket whose owner is too busy to accept is not stale.
    socket.setTimeout(PROBE_TIMEOUT_MS, () => done(true));
    socket.once('connect', () => done(true));
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') done(false);
      else if (error.code === 'EAGAIN') done(true);
      else reject(unusable(path, error));
    });
  });
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ path, backlog: BACKLOG }, () => {
      server.removeListener('error', reject);
      resolve();
    });
  });
}

async function closeSocket(server: Server, path: string, ino: number): Promise<void> {
  const found = await lstat(path).catch(() => null);
  if (found?.ino === ino) await unlink(path).catch(() => {});
  // Not awaited until its last connection ends: those are the business of whoever took them.
  server.close();
}

async function guarded<T>(path: string, action: () => Promise<T>, takenCode?: string): Promise<T> {
  try {
    return await action();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw code !== undefined && code === takenCode ? inUse(path) : unusable(path, error);
  }
}

function inUse(path: string): KedgeError {
  return new KedgeError('socket_in_use', `another process serves the socket ${quote(path)}`, {
    hint: 'stop the other agent, or choose another path',
  });
}

function unusable(path: string, cause: unknown): KedgeError {
  const code = (cause as NodeJS.ErrnoException).code ?? 'unknown error';
  return new KedgeError('socket_path_invalid', `the socket ${quote(path)} cannot be made: ${code}`, {
    cause,
    hint: 'the folder must exist or be creatable, and be writable by this user',
  });
}
