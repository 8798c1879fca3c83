import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Clock } from './clock.ts';

/** V8's `gc` extension; a V8 without it gives none, and the heap stays as it is. */
type GarbageCollection = (options: Readonly<Record<string, string>>) => void;

/** The start is over by then, milliseconds. */
const FIRST_MS = 2_000;
/** One collection takes some 20 ms: three hundredths of a percent of the time. */
const EVERY_MS = 60_000;
const MEMORY_BEFORE_SPEED = [
  // No function of such a program runs often enough to be worth its machine code. An agent that rotates every second
  // grows by 10 MB less: the code itself, what its making needs, and the pages of V8's compilers.
  ...['--no-sparkplug', '--no-maglev', '--no-opt'],
  // The young generation stays at the megabyte that it starts with: a hundred streams that open at once would double it
  // twice, for good if nothing happens after, which is a third of what they cost.
  '--semi-space-growth-factor=1',
];

/**
 * Has V8 spare memory from here on, at the price of speed.
 *
 * Called when the modules are loaded and not before: Node's own come out of a code cache that V8 refuses under other
 * flags, which makes a start longer by 25 ms.
 */
export function spareMemory(): void {
  for (const flag of MEMORY_BEFORE_SPEED) setFlagsFromString(flag);
}

/**
 * Trims the heap once the process is at rest, and now and then after, until `signal` is aborted, or a trim fails: the heap
 * stays as it is then. Never rejects.
 *
 * For a program that runs beside every workload and mostly waits. V8 frees little of a process that hardly allocates:
 * what the start needed once (compiled code above all) would stay for good.
 */
export async function trimHeapAtRest(
  clock: Clock,
  signal: AbortSignal,
  trim: () => void = trimHeap,
): Promise<void> {
  try {
    for (let waitMs = FIRST_MS; ; waitMs = EVERY_MS) {
      await clock.sleep(waitMs, signal);
      trim();
    }
  } catch {
    // Told to end, or a V8 that cannot do it: no reason to end the program.
  }
}

/**
 * Collects all garbage, gives free pages back, and drops the compiled form of functions that do not run at this
 * moment; V8 compiles one again when it is called. Takes 4 MB off an agent of 69 MB.
 *
 * Node has no call for it: the function is only there in a context that is made after the flag was set. The context
 * is made anew each time, because to keep it would cost half a megabyte.
 */
export function trimHeap(): void {
  setFlagsFromString('--expose-gc');
  setFlagsFromString('--stress-flush-code');
  try {
    const collect = runInNewContext('globalThis.gc') as GarbageCollection | undefined;
    collect?.({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  } finally {
    setFlagsFromString('--no-stress-flush-code');
    setFlagsFromString('--no-expose-gc');
  }
}
