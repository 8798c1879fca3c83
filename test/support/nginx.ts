/**
 * A real nginx for tests: the one on PATH, or Debian's that `npm run peers` unpacks. It runs as a daemon, as an operator
 * runs it, so that its binary can be replaced under way.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { findPeer } from '../../scripts/peer-folder.ts';
import { until } from './identity-plane.ts';

const program = findPeer('nginx') ?? '';

/** For `skip` of a suite: false, or why there is no nginx. */
export const nginxSkip =
  program === '' ? 'no nginx on this machine: npm run peers gets it from Debian' : false;

/** What a {@link RunningNginx} is made of. */
export interface NginxOptions {
  /** A folder of its own, for its configuration, logs and pid file. Made where missing. */
  readonly folder: string;
  /** What stands in the block `http`. */
  readonly http: string;
}

/** An nginx that is configured; it runs from {@link RunningNginx.start} on, and ends with the test at the latest. */
export class RunningNginx {
  readonly #folder: string;
  /** Master processes that may run. */
  readonly #pids = new Set<number>();

  constructor(t: Pick<TestContext, 'after'>, { folder, http }: NginxOptions) {
    this.#folder = folder;
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'nginx.conf'), configuration(folder, http));
    t.after(() => this.stop());
  }

  /** For `--hook` of an agent: reloads it. Has nothing to do while it does not run, and fails while it is replaced. */
  get reloadHook(): string {
    const command = this.#command.map((word) => `'${word}'`).join(' ');
    const [pid, oldPid] = [this.#pidFile, this.#oldPidFile];
    const script = `if test -e '${pid}' || test -e '${oldPid}'; then exec ${command} -s reload; fi`;
    return JSON.stringify(['/bin/sh', '-c', script]);
  }

  /** Resolves when it serves. Rejects with its own words when it does not start. */
  async start(): Promise<void> {
    const [file = '', ...args] = this.#command;
    const launcher = spawn(file, args, { stdio: 'ignore' });
    const [code] = (await once(launcher, 'exit')) as [number | null];
    if (code !== 0) throw new Error(`nginx exited with ${code}: ${this.errorLog().join('\n')}`);
    await until('nginx runs', () => this.#pidIn(this.#pidFile) !== null);
    this.#pids.add(this.#pidIn(this.#pidFile) ?? 0);
  }

  /** Another process takes over its sockets while it serves, and it ends once its requests are answered. */
  async replace(): Promise<void> {
    const old = this.#pidIn(this.#pidFile);
    if (old === null) throw new Error('nginx does not run');
    process.kill(old, 'SIGUSR2');
    await until(`nginx runs twice: ${this.errorLog().join('\n')}`, () => {
      const pid = this.#pidIn(this.#pidFile);
      if (pid === null || pid === old || !existsSync(this.#oldPidFile)) return false;
      this.#pids.add(pid);
      return true;
    });
    await this.#end(old, 'SIGQUIT');
  }

  /** Ends it; connections that are open are cut. Harmless when it does not run, and when its folder is gone. */
  async stop(): Promise<void> {
    // Not SIGKILL: its workers would stay.
    for (const pid of this.#pids) await this.#end(pid, 'SIGTERM');
  }

  /** One line for each request that it has answered. */
  accessLog(): readonly string[] {
    return this.#lines('access.log');
  }

  errorLog(): readonly string[] {
    return this.#lines('error.log');
  }

  get #command(): readonly string[] {
    return [program, '-p', this.#folder, '-c', join(this.#folder, 'nginx.conf')];
  }

  get #pidFile(): string {
    return join(this.#folder, 'nginx.pid');
  }

  get #oldPidFile(): string {
    return `${this.#pidFile}.oldbin`;
  }

  async #end(pid: number, signal: NodeJS.Signals): Promise<void> {
    if (isAlive(pid)) process.kill(pid, signal);
    await until('nginx has ended', () => !isAlive(pid));
    this.#pids.delete(pid);
  }

  #pidIn(file: string): number | null {
    const pid = existsSync(file) ? Number(readFileSync(file, 'utf8')) : 0;
    return pid > 1 ? pid : null;
  }

  #lines(name: string): readonly string[] {
    const path = join(this.#folder, name);
    return existsSync(path) ? readFileSync(path, 'utf8').split('\n').filter(Boolean) : [];
  }
}

/** Whether a process runs that is nobody's child here: one that ended may stay a zombie (proc(5), stat). */
function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3) !== 'Z';
  } catch {
    return false;
  }
}

/** Lines of an nginx's error log that tell of an error. */
export function nginxErrors(errorLog: readonly string[]): readonly string[] {
  return errorLog.filter((line) => /\[(error|crit|alert|emerg)\]/.test(line));
}

function configuration(folder: string, http: string): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `${name}_temp_path ${folder}/${name};`)
    .join(' ');
  return `
daemon on;
worker_processes 2;
pid ${folder}/nginx.pid;
error_log ${folder}/error.log notice;
events { worker_connections 256; }
http {
  access_log ${folder}/access.log;
  ${temporary}
  ${http}
}
`;
}
