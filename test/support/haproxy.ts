/**
 * A real HAProxy for tests: the one on PATH, or Debian's that `npm run peers` unpacks. It runs in the foreground as one
 * process, logs to us, and takes commands on a Unix socket.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { systemClock } from '../../host/clock.ts';
import { askHaproxy } from '../../agent/feed/haproxy-connection.ts';
import { HAPROXY_FILE_NAMES } from '../../agent/feed/haproxy-feed.ts';
import { type HaproxyVersion, parseHaproxyVersion } from '../../agent/feed/haproxy-version.ts';
import { findPeer, peerEnvironment } from '../../scripts/peer-folder.ts';
import { until } from './identity-plane.ts';

/** A file of tests may choose another before it loads this. */
const program = process.env['KEDGE_TEST_HAPROXY'] ?? findPeer('haproxy');

/** For `skip` of a suite: false, or why there is no HAProxy. */
export const haproxySkip =
  program === null ? 'no HAProxy on this machine: npm run peers gets it from Debian' : false;

/** The version of the HAProxy that tests run, [0, 0, 0] where there is none. */
export const haproxyVersion: HaproxyVersion = versionOf(program);

/** What {@link RunningHaproxy.start} takes. */
export interface HaproxyOptions {
  /** A folder of its own, for the configuration and the socket. Made where missing. */
  readonly folder: string;
  /** `frontend`, `backend` and other sections. */
  readonly sections: string;
  /** More lines of the section `global`. */
  readonly global?: string;
  /** Level of the stats socket; `admin` where absent. */
  readonly level?: 'admin' | 'operator';
}

/** A HAProxy that runs until it is stopped; at the latest it ends with the test. */
export class RunningHaproxy {
  readonly socketPath: string;
  readonly #folder: string;
  #process: ChildProcess | null = null;
  #output = '';
  /** By processes that were replaced. */
  #droppedBefore = 0;

  /** Writes the configuration and starts. Rejects with HAProxy's own words when it does not come up. */
  static async start(t: Pick<TestContext, 'after'>, options: HaproxyOptions): Promise<RunningHaproxy> {
    const haproxy = new RunningHaproxy(options);
    t.after(() => haproxy.stop('SIGKILL'));
    await haproxy.restart();
    return haproxy;
  }

  private constructor({ folder, sections, global = '', level = 'admin' }: HaproxyOptions) {
    mkdirSync(folder, { recursive: true });
    this.#folder = folder;
    this.socketPath = socketPathOf(folder);
    writeFileSync(join(folder, 'haproxy.cfg'), configuration(this.socketPath, level, global, sections));
  }

  /** All that it has logged: one line for each request, and what it has to say at the start. */
  get log(): string {
    return this.#output;
  }

  /**
   * Log lines that it could not write since nobody read fast enough, replaced processes included: it waits for no
   * reader (`DroppedLogs` of `show info`).
   */
  async droppedLogLines(): Promise<number> {
    const dropped = /^DroppedLogs: (\d+)$/m.exec(await this.ask('show info'))?.[1];
    if (dropped === undefined) throw new Error('HAProxy does not say how many log lines it dropped');
    return this.#droppedBefore + Number(dropped);
  }

  get pid(): number {
    return this.#process?.pid ?? 0;
  }

  /** Starts it after it was stopped; stops it first where it runs. */
  async restart(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await this.stop(signal);
    await this.#spawn([]);
  }

  /** Another process takes over its sockets while it serves, and it ends once its requests are answered. */
  async replace(): Promise<void> {
    const old = this.#process;
    if (old === null) throw new Error('HAProxy does not run');
    const exited = once(old, 'exit');
    this.#droppedBefore = await this.droppedLogLines();
    await this.#spawn(['-x', this.socketPath, '-sf', String(old.pid)]);
    await exited;
  }

  async #spawn(argv: readonly string[]): Promise<void> {
    const child = spawn(program ?? '', ['-db', '-f', join(this.#folder, 'haproxy.cfg'), ...argv], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...peerEnvironment('haproxy') },
    });
    this.#process = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => (this.#output += chunk.toString()));
    }
    await until('HAProxy answers', async () => {
      if (child.exitCode !== null) throw new Error(`HAProxy exited with ${child.exitCode}:\n${this.#output}`);
      return (await this.ask('show info').catch(() => '')).includes(`Pid: ${child.pid}\n`);
    });
  }

  /** Ends it; connections that are open are cut. Harmless when it does not run. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const child = this.#process;
    this.#process = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill(signal);
    // A stopped process takes no other signal.
    if (signal === 'SIGKILL') child.kill('SIGCONT');
    await exited;
  }

  /** Stops the process in its tracks (it keeps its sockets, and answers nothing), or lets it go on. */
  freeze(frozen: boolean): void {
    this.#process?.kill(frozen ? 'SIGSTOP' : 'SIGCONT');
  }

  /** The answer to one command, without its line end. */
  async ask(command: string): Promise<string> {
    const options = { address: { path: this.socketPath }, timeoutMs: 5_000, clock: systemClock };
    return await askHaproxy(`${command}\n`, options, new AbortController().signal);
  }

  /** The transactions that are open: none, unless somebody is at work. */
  async openTransactions(): Promise<string[]> {
    const lists = await Promise.all(
      ['cert', 'ca-file', 'crl-file'].map((kind) => this.ask(`show ssl ${kind}`)),
    );
    return lists.flatMap((list) => list.split('\n').filter((line) => line.startsWith('*')));
  }
}

/** Where a HAProxy of that folder takes commands. */
export function socketPathOf(folder: string): string {
  return join(folder, 'admin.sock');
}

/** What follows the address of a `bind` line for mTLS on the files of a HAProxy feed. */
export function bindOptions(files: string, crls = false): string {
  const { crtList, authorities, crls: crlFile } = HAPROXY_FILE_NAMES;
  // 3 is X509_V_ERR_UNABLE_TO_GET_CRL: an issuer without a CRL has revoked nothing.
  const crl = crls ? ` crl-file ${files}/${crlFile} ca-ignore-err 3 crt-ignore-err 3` : '';
  return `ssl crt-list ${files}/${crtList} ca-file ${files}/${authorities} verify required no-tls-tickets${crl}`;
}

/** What follows the address of a `server` line for mTLS on the files of a HAProxy feed. */
export function serverOptions(files: string): string {
  const { certificate, authorities } = HAPROXY_FILE_NAMES;
  const [major, minor] = haproxyVersion;
  // From 3.3 on HAProxy sends the Host header as SNI and wants the name in the certificate: an SVID has none.
  const noSni = major > 3 || (major === 3 && minor >= 3) ? ' no-sni-auto' : '';
  return `ssl crt ${files}/${certificate} ca-file ${files}/${authorities} verify required${noSni}`;
}

function configuration(socket: string, level: string, global: string, sections: string): string {
  return `
global
  stats socket ${socket} mode 600 level ${level} expose-fd listeners
  stats timeout 10s
  hard-stop-after 30s
  tune.ssl.cachesize 0
  log stdout format raw local0
  ${global}
defaults
  mode http
  log global
  option httplog
  timeout connect 30s
  timeout client 60s
  timeout server 60s
${sections}
`;
}

function versionOf(path: string | null): HaproxyVersion {
  if (path === null) return [0, 0, 0];
  const env = { ...process.env, ...peerEnvironment('haproxy') };
  const { stdout } = spawnSync(path, ['-v'], { encoding: 'utf8', env });
  return parseHaproxyVersion(/ version (\S+)/.exec(stdout)?.[1] ?? '') ?? [0, 0, 0];
}
