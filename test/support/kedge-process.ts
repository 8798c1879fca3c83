import assert from 'node:assert/strict';
import { type ChildProcess, spawn, type SpawnOptions, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';

/** The root of the repository. */
export const ROOT = join(import.meta.dirname, '../..');

/** The launcher that an operator runs. */
export const KEDGE = join(ROOT, 'bin/kedge.mjs');

/** How a process ended. */
export interface Ended {
  /** Null where a signal killed it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** What {@link runKedge} takes beside the arguments. */
export interface RunOptions {
  /** Another program than the launcher of this checkout. */
  readonly program?: string;
  /** Another Node than the one that runs the tests. */
  readonly node?: string;
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** What is on standard input; nothing where absent. */
  readonly stdin?: string | Uint8Array;
}

/** Runs `kedge` as an operator does, in a process of its own, to its end. */
export async function runKedge(argv: readonly string[], options: RunOptions = {}): Promise<Ended> {
  const { program = KEDGE, node = process.execPath, cwd = ROOT, env, stdin } = options;
  const spawnOptions: SpawnOptions = { cwd, env: { PATH: process.env['PATH'], ...env }, stdio: 'pipe' };
  const child = spawn(node, [program, ...argv], spawnOptions);
  const { stdin: input, stdout, stderr } = child;
  if (input === null || stdout === null || stderr === null) throw new TypeError('a child without pipes');
  // A child that ends without reading its input is none of the test's concern.
  input.on('error', () => {});
  input.end(stdin ?? '');
  const [out, err, [code, signal]] = await Promise.all([
    text(stdout),
    text(stderr),
    once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>,
  ]);
  return { code, signal, stdout: out, stderr: err };
}

/** A Node of this machine that is too old for Kedge; undefined where there is none. */
export function olderNode(): string | undefined {
  const candidates = (process.env['PATH'] ?? '').split(delimiter).map((folder) => join(folder, 'node'));
  return candidates
    .filter((path) => existsSync(path))
    .find((path) => {
      const version = spawnSync(path, ['--version'], { encoding: 'utf8' }).stdout;
      return Number(/^v(\d+)/.exec(version)?.[1] ?? 99) < 24;
    });
}

const PATIENCE_MS = 60_000;

/** A `kedge` that runs until it is told to end, with its log. */
export class RunningKedge {
  readonly process: ChildProcess;
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  log = '';

  constructor(program: string, argv: readonly string[]) {
    const child = spawn(process.execPath, [program, ...argv], {
      cwd: ROOT,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    child.stderr.on('data', (chunk) => (this.log += String(chunk)));
    this.process = child;
    this.ended = once(child, 'close').then(([code, signal]) => ({
      code: code as number | null,
      signal: signal as NodeJS.Signals | null,
    }));
  }

  /** The fields of the first log line of that event. */
  async event(name: string): Promise<Record<string, string>> {
    for (const endMs = performance.now() + PATIENCE_MS; ; await delay(20)) {
      const line = this.log
        .split('\n')
        .find((text) => text.includes(`"event":"${name}"`) && text.endsWith('}'));
      if (line !== undefined) return JSON.parse(line) as Record<string, string>;
      assert.equal(this.process.exitCode, null, this.log);
      assert.ok(performance.now() < endMs, `there is no ${name}:\n${this.log}`);
    }
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    this.process.kill(signal);
    assert.deepEqual(await this.ended, { code: 0, signal: null }, this.log);
  }
}
