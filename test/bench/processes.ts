import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** The root of the project. */
export const ROOT = join(import.meta.dirname, '../..');

/** Builds dist/ from the sources as they are. */
export function buildBundles(): void {
  const build = spawnSync(process.execPath, [join(ROOT, 'scripts/build.ts')], {
    cwd: ROOT,
    encoding: 'utf8',
  });
  if (build.status !== 0) throw new Error(`the build failed: ${build.stderr}`);
}

/** Where a process of the benchmark runs: the measured one and the load each have a core of their own. */
export type Core = 'server' | 'load';

const CORES: Readonly<Record<Core, string>> = { server: '0', load: '1' };

/** True where processes can be bound to a core; without it the scheduler decides, and the table says so. */
export const canPin = spawnSync('taskset', ['-c', '0', 'true']).status === 0;

/** Command and arguments that run `argv` on a core. */
export function pinned(
  core: Core,
  argv: readonly string[],
): readonly [command: string, args: readonly string[]] {
  const [command = '', ...args] = argv;
  return canPin ? ['taskset', ['-c', CORES[core], ...argv]] : [command, args];
}

/** A child that speaks in JSON lines on its standard output. */
export class JsonChild {
  readonly process: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  #errors = '';

  /** `args` follow the Node of this process. */
  constructor(core: Core, args: readonly string[]) {
    const [command, rest] = pinned(core, [process.execPath, ...args]);
    this.process = spawn(command, rest, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
    this.process.stderr?.on('data', (chunk: Buffer) => {
      this.#errors = (this.#errors + chunk.toString()).slice(-4_000);
    });
    const { stdout } = this.process;
    if (stdout === null) throw new TypeError('the child has no standard output');
    this.#lines = createInterface({ input: stdout })[Symbol.asyncIterator]();
  }

  get pid(): number {
    if (this.process.pid === undefined) throw new Error('the child did not start');
    return this.process.pid;
  }

  /** The next line that is JSON. */
  async next<T>(): Promise<T> {
    for (;;) {
      const { done, value } = await this.#lines.next();
      if (done === true) throw new Error(`a process of the benchmark ended too early: ${this.#errors}`);
      if (value.startsWith('{')) return JSON.parse(value) as T;
    }
  }

  /** Ends it and waits. */
  async stop(): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const ended = new Promise((resolve) => this.process.once('exit', resolve));
    this.process.kill('SIGTERM');
    await ended;
  }
}

const TICKS_PER_SECOND = 100;

/** User and system CPU time of a process with all its threads, microseconds (proc(5), fields 14 and 15). */
export function cpuMicroseconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return ((Number(fields[11]) + Number(fields[12])) * 1e6) / TICKS_PER_SECOND;
}
