import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { TestContext } from 'node:test';
import { until } from './identity-plane.ts';

/** What {@link RunningPeer} is given. */
export interface PeerOptions {
  readonly program: string;
  readonly args: readonly string[];
  /** Beside those of the test. */
  readonly env?: Readonly<Record<string, string>>;
  /** Absent = whoever runs the test. */
  readonly user?: { readonly uid: number; readonly gid: number };
  /** It is handed this port of loopback, listened on, as systemd does (sd_listen_fds(3)). */
  readonly listenPort?: number;
  readonly isReady: () => boolean | Promise<boolean>;
  /** How long it may take until it is; 30 s where absent. */
  readonly readyTimeoutMs?: number;
  /** How it is told to end. */
  readonly endSignal?: NodeJS.Signals;
}

/** A real server, with all that it has printed. */
export class RunningPeer {
  output = '';
  readonly #process: ChildProcess;
  readonly #endSignal: NodeJS.Signals;

  /** Starts it and waits until it is ready; it ends with the test at the latest. */
  static async start(t: Pick<TestContext, 'after'>, options: PeerOptions): Promise<RunningPeer> {
    const {
      program,
      args,
      env = {},
      user = {},
      listenPort,
      isReady,
      readyTimeoutMs,
      endSignal = 'SIGTERM',
    } = options;
    const listening = listenPort === undefined ? null : await listeningSocket(listenPort);
    // The id in LISTEN_PID is that of the program itself, which is known only once it is about to run.
    const shell = listening === null ? [] : ['/bin/sh', '-c', 'LISTEN_PID=$$ exec "$0" "$@"'];
    const [command = program, ...rest] = [...shell, program, ...args];
    const child = spawn(command, rest, {
      stdio: ['ignore', 'pipe', 'pipe', ...(listening === null ? [] : [listening.fd])],
      env: { ...process.env, ...(listening === null ? {} : { LISTEN_FDS: '1' }), ...env },
      ...user,
    });
    listening?.close();
    const peer = new RunningPeer(child, endSignal);
    t.after(() => peer.end());
    const isUp = async (): Promise<boolean> => {
      if (peer.hasEnded) throw new Error(`${program} has ended: ${peer.output}`);
      return await isReady();
    };
    await until(`${program} is ready`, isUp, readyTimeoutMs);
    return peer;
  }

  private constructor(child: ChildProcess, endSignal: NodeJS.Signals) {
    this.#process = child;
    this.#endSignal = endSignal;
    for (const stream of [child.stdout, child.stderr])
      stream?.on('data', (chunk: Buffer) => (this.output += chunk.toString('utf8')));
    child.on('error', (error) => (this.output += String(error)));
  }

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  get hasEnded(): boolean {
    const { pid, exitCode, signalCode } = this.#process;
    return pid === undefined || exitCode !== null || signalCode !== null;
  }

  /** Stops the process in its tracks (it keeps its sockets, and answers nothing), or lets it go on. */
  freeze(frozen: boolean): void {
    this.#process.kill(frozen ? 'SIGSTOP' : 'SIGCONT');
  }

  /** Ends it, and waits until it has. Harmless when repeated. */
  async end(): Promise<void> {
    if (this.hasEnded) return;
    const exit = once(this.#process, 'exit');
    this.#process.kill(this.#endSignal);
    await exit;
  }
}

async function listeningSocket(port: number): Promise<{ readonly fd: number; readonly close: () => void }> {
  const server = createServer();
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  // Node has no public way to the descriptor.
  const { fd } = (server as unknown as { readonly _handle: { readonly fd: number } })._handle;
  return { fd, close: () => void server.close() };
}
