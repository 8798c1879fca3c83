import type { ChildProcess } from 'node:child_process';
import type { Clock } from '../../host/clock.ts';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { readSmallFile } from '../../host/small-file.ts';
import type { ConsumerStatus } from './feed.ts';

/** Runs a program, without a shell; its exit 0 says that the proxy has loaded the files. */
export interface CommandHook {
  readonly type: 'command';
  /** Program and arguments. */
  readonly argv: readonly [string, ...string[]];
  /** Longest that it may run, milliseconds; then it is killed with all its process group. */
  readonly timeoutMs: number;
}

/** Sends a signal; nothing says what the proxy makes of it. */
export interface SignalHook {
  readonly type: 'signal';
  /** Holds the process id, alone on its first line; read anew each time. */
  readonly pidFile: string;
  readonly signal: NodeJS.Signals;
}

/** What tells the proxy that its files have changed. */
export type Hook = CommandHook | SignalHook;

/** Bytes of a hook's output that are kept for the log; the rest is read and dropped. */
export const HOOK_OUTPUT_BYTES = 4096;
/** How long the last output of a failed hook is waited for, milliseconds. */
const OUTPUT_GRACE_MS = 200;
/** Most that a pid file may hold: PostgreSQL's has seven lines behind the process id, paths among them. */
const PID_FILE_BYTES = 16_384;

/** The grade that a hook gives: a command's exit 0 is the proxy's word, a signal is not. */
export function gradeOfHook(hook: Hook | undefined): ConsumerStatus['best'] {
  return hook?.type === 'command' ? 'loaded' : 'delivered';
}

/**
 * Runs the hook. Throws `hook_failed`; then nothing of the hook's process group runs any more.
 *
 * A command gets an environment of `PATH` and `environment` alone, `/` as its folder and no input.
 */
export async function runHook(
  hook: Hook,
  environment: Readonly<Record<string, string>>,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  if (hook.type === 'signal') await sendSignal(hook.pidFile, hook.signal);
  else await runCommand(hook, environment, clock, signal);
}

async function sendSignal(pidFile: string, name: NodeJS.Signals): Promise<void> {
  let text: string;
  try {
    text = Buffer.from(await readSmallFile(pidFile, PID_FILE_BYTES, 'pid file')).toString('latin1');
  } catch (cause) {
    throw new KedgeError('hook_failed', `the pid file ${quote(pidFile)} cannot be read`, {
      cause,
      hint: 'the proxy may not have started yet; the signal is sent again',
    });
  }
  const pid = /^[ \t]*([1-9][0-9]{0,9})[ \t\r]*(?:\n|$)/.exec(text)?.[1];
  // 1 is the pod's own init: a truncated pid file must not stop the pod. Nor may a stale one stop the agent.
  if (pid === undefined || Number(pid) < 2 || Number(pid) === process.pid) {
    throw new KedgeError('hook_failed', `the pid file ${quote(pidFile)} does not name a process to signal`, {
      hint: 'its first line must be the process id of the server, and nothing else',
    });
  }
  try {
    process.kill(Number(pid), name);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new KedgeError('hook_failed', `process ${pid} cannot be sent ${name}: ${code ?? 'unknown error'}`, {
      cause,
      hint:
        code === 'ESRCH'
          ? 'the pid file is stale'
          : 'the agent must run as the same user, or be allowed to kill',
    });
  }
}

async function runCommand(
  { argv, timeoutMs }: CommandHook,
  environment: Readonly<Record<string, string>>,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  // Loaded only where there is a hook: most agents have none.
  const { spawn } = await import('node:child_process');
  const [program, ...args] = argv;
  await new Promise<void>((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: '/',
      env: { PATH: process.env['PATH'] ?? '/usr/local/bin:/usr/bin:/bin', ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
      // A process group of its own, so that what it forks can be killed with it.
      detached: true,
    });
    const output = keepStart(child);
    let interrupted: string | null = null;
    const interrupt = (why: string): void => {
      interrupted ??= why;
      killGroup(child);
    };
    const onAbort = (): void => interrupt('was interrupted');
    const timer = new AbortController();
    void clock.sleep(timeoutMs, timer.signal).then(
      () => interrupt(`did not end within ${timeoutMs} ms`),
      () => {},
    );
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    const settle = (): void => {
      timer.abort();
      signal.removeEventListener('abort', onAbort);
      // What the command left running in the background may hold the pipes open: it is not waited for.
      child.stdout.destroy();
      child.stderr.destroy();
    };
    child.once('error', (error: NodeJS.ErrnoException) => {
      settle();
      reject(failed(program, `cannot be started: ${error.code ?? 'unknown error'}`, '', error));
    });
    child.once('exit', (code, killedBy) => {
      if (interrupted === null && code === 0) {
        settle();
        resolve();
        return;
      }
      const exit = code === null ? `was killed by ${killedBy}` : `exited with ${code}`;
      killGroup(child);
      // What it said last may still be in the pipes.
      const read = new Promise((done) => child.once('close', done));
      const grace = new AbortController();
      void Promise.race([read, clock.sleep(OUTPUT_GRACE_MS, grace.signal).catch(() => {})]).then(() => {
        grace.abort();
        settle();
        reject(failed(program, interrupted ?? exit, output(), undefined));
      });
    });
  });
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    // The group is gone already.
  }
}

/** Reads all output, keeps the start of it. */
function keepStart(child: ChildProcess): () => string {
  const kept: Buffer[] = [];
  let length = 0;
  const take = (chunk: Buffer): void => {
    if (length >= HOOK_OUTPUT_BYTES) return;
    const part = chunk.subarray(0, HOOK_OUTPUT_BYTES - length);
    length += part.length;
    kept.push(Buffer.from(part));
  };
  child.stdout?.on('data', take);
  child.stderr?.on('data', take);
  return () => Buffer.concat(kept).toString('utf8').trim();
}

function failed(program: string, why: string, output: string, cause: unknown): KedgeError {
  const said = output === '' ? '' : `; it said ${quote(output, 400)}`;
  return new KedgeError('hook_failed', `the hook ${quote(program)} ${why}${said}`, {
    hint: 'the files are in place; the hook is run again with back-off',
    ...(cause === undefined ? {} : { cause }),
  });
}
