import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const ROOT = join(import.meta.dirname, '..');
/** How long a child may drain before it is killed. */
const DRAIN_MS = 8_000;
/** Lines of a child's log that are kept for the story of its death. */
const KEPT_LINES = 15;

/** A child of the demo that ended though nobody told it to. */
export class ChildDied extends Error {
  /** Newest last. */
  readonly lines: readonly string[];

  constructor(name: string, how: string, lines: readonly string[]) {
    super(`${name} ${how}`);
    this.name = 'ChildDied';
    this.lines = lines;
  }
}

/** What one child is made of. */
export interface ChildOptions {
  /** For people: `the CA`. */
  readonly name: string;
  /** A program of this repository, then its arguments. */
  readonly argv: readonly [program: string, ...args: string[]];
  readonly env?: Readonly<Record<string, string>>;
  /** Takes each line that the child writes. */
  readonly onLine?: (line: string) => void;
  /** Takes each message that the child sends. */
  readonly onMessage?: (message: unknown) => void;
}

/** The processes of the demo: started, watched, and ended together in reverse order. */
export class Children {
  readonly #running: {
    readonly name: string;
    readonly process: ChildProcess;
    readonly ended: Promise<void>;
  }[] = [];
  readonly #died = Promise.withResolvers<never>();
  #stopping = false;

  constructor() {
    // Whoever waits sees the rejection; nobody waiting yet is no mistake.
    this.#died.promise.catch(() => {});
  }

  /** Rejects with {@link ChildDied} when a child ends by itself. Never resolves. */
  get died(): Promise<never> {
    return this.#died.promise;
  }

  start(options: ChildOptions): ChildProcess {
    const [program, ...args] = options.argv;
    const preload = join(import.meta.dirname, 'exit-with-demo.ts');
    const child = spawn(process.execPath, ['--import', preload, join(ROOT, program), ...args], {
      cwd: ROOT,
      env: { ...process.env, ...options.env },
      // Ctrl-C reaches the whole foreground process group; a group of its own lets the demo end them in order.
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    const lines: string[] = [];
    for (const stream of [child.stdout, child.stderr]) {
      if (stream === null) continue;
      createInterface({ input: stream }).on('line', (line) => {
        lines.push(line);
        if (lines.length > KEPT_LINES) lines.shift();
        options.onLine?.(line);
      });
    }
    child.on('message', (message) => options.onMessage?.(message));
    child.on('error', (error) =>
      this.#died.reject(new ChildDied(options.name, `cannot start: ${error.message}`, [])),
    );
    // 'close' comes after the last line was read, 'exit' may come before.
    const ended = once(child, 'close').then(
      () => {
        if (this.#stopping) return;
        const how =
          child.signalCode === null
            ? `ended with code ${child.exitCode}`
            : `was killed by ${child.signalCode}`;
        this.#died.reject(new ChildDied(options.name, how, lines));
      },
      () => {},
    );
    this.#running.push({ name: options.name, process: child, ended });
    return child;
  }

  /** Ends every child, newest first, each drained before the next is told; gives the names of those that had to be killed. */
  async stop(): Promise<string[]> {
    this.#stopping = true;
    const killed: string[] = [];
    for (const child of this.#running.toReversed()) {
      if (child.process.exitCode === null && child.process.signalCode === null) child.process.kill('SIGTERM');
      const timer = setTimeout(() => {
        killed.push(child.name);
        killGroup(child.process);
      }, DRAIN_MS);
      await child.ended;
      clearTimeout(timer);
    }
    return killed;
  }

  /** Kills what still runs, without waiting: the last resort of a second Ctrl-C. */
  kill(): void {
    for (const child of this.#running) killGroup(child.process);
  }
}

/** Kills a child with all that it has started: it leads a process group of its own. */
function killGroup({ pid, exitCode, signalCode }: ChildProcess): void {
  if (pid === undefined || exitCode !== null || signalCode !== null) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It has just ended by itself.
  }
}
