import { backoffMs } from '../host/backoff.ts';
import type { Clock } from '../host/clock.ts';
import { errorFields, type Log } from '../host/log.ts';
import type { Random } from '../host/random.ts';
import { Wakeup } from '../host/wakeup.ts';
import { type CanaryObservation, type CanaryResult, judgeCanary } from './canary.ts';
import { after, type Deadline, earlier, instantOf, msUntil, sleepUntilDeadline } from './deadline.ts';
import type { IdentitySnapshot, SvidSnapshot } from './snapshot.ts';

/** Ceiling of the first wait after a try that proved nothing, milliseconds; the interval is the last one's. */
const RETRY_BASE_MS = 500;
/** From the start of one try to the start of the next goes at least this, whatever happens, milliseconds. */
export const MIN_TRY_GAP_MS = 1_000;

/**
 * A snapshot that the feeds do not finish with is tried after so long all the same, milliseconds. Before that the proxy
 * has no way to use it, and a try would raise an alarm at every rotation.
 */
export const HOLD_MS = 10_000;
/** A proxy that was told to load a snapshot is given so long to begin with it, milliseconds. */
export const SETTLE_MS = 1_000;

/** What a {@link CanaryRunner} is made of. */
export interface CanaryRunnerOptions {
  /** One try, bounded in time; rejects with the reason of `signal`. */
  readonly dial: (svid: SvidSnapshot, signal: AbortSignal) => Promise<CanaryObservation>;
  /** From one try that proved the newest snapshot to the next, milliseconds. */
  readonly intervalMs: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Called after each change of {@link CanaryRunner.result}. */
  readonly onChange: () => void;
}

/**
 * Tries the proxy when the feeds have brought it news, and again at the interval: one try at a time, never more often
 * than {@link MIN_TRY_GAP_MS}, with back-off while the newest snapshot is not proven. Stands beside the feeds: it reads
 * what they serve and touches nothing of theirs.
 */
export class CanaryRunner {
  readonly #options: CanaryRunnerOptions;
  readonly #wakeup = new Wakeup();
  /** What the proxy should have; null = no identity, nothing is tried. */
  #target: IdentitySnapshot | null = null;
  #result: CanaryResult | null = null;
  #failures = 0;
  #dueAt: Deadline | null = null;
  /** The target was not tried yet, and is not to be before then; null = it was. */
  #heldUntil: Deadline | null = null;
  /** The feeds have finished with the target. */
  #isPublished = false;
  #startedAt: Deadline | null = null;

  constructor(options: CanaryRunnerOptions) {
    this.#options = options;
  }

  /** The newest finished try; null = none, or there is no identity. */
  get result(): CanaryResult | null {
    return this.#result;
  }

  /** Replaces what the proxy should have. */
  offer(target: IdentitySnapshot | null): void {
    if (target === this.#target) return;
    this.#target = target;
    this.#isPublished = false;
    this.#heldUntil = target === null ? null : after(instantOf(this.#options.clock), HOLD_MS);
    if (target === null) this.#result = null;
    this.nudge();
  }

  /** Every feed has finished with this generation: the proxy can have it. Harmless when repeated. */
  published(generation: number): void {
    if (this.#isPublished || this.#target === null || this.#target.generation > generation) return;
    this.#isPublished = true;
    this.#heldUntil = after(instantOf(this.#options.clock), SETTLE_MS);
    this.nudge();
  }

  /** A consumer has moved: the next try is due, and the back-off starts anew. */
  nudge(): void {
    this.#failures = 0;
    this.#dueAt = null;
    this.#wakeup.wake();
  }

  /** Works until `signal` is aborted. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    while (!signal.aborted) {
      const seen = this.#wakeup.generation;
      const now = instantOf(clock);
      const target = this.#target;
      const until = this.#earliest();
      if (target !== null && (until === null || msUntil(until, now) <= 0)) await this.#try(target, signal);
      else {
        const sleep = (end: AbortSignal): Promise<void> =>
          sleepUntilDeadline(clock, target === null ? null : until, end);
        // Only the end of the agent makes this reject; the loop sees it.
        await this.#wakeup.sleep(seen, sleep, signal).catch(() => {});
      }
    }
  }

  /** When the next try may start: when it is due, but not too soon after the last one, nor before the feeds are done. */
  #earliest(): Deadline | null {
    const now = instantOf(this.#options.clock);
    const rested = this.#startedAt === null ? null : after(this.#startedAt, MIN_TRY_GAP_MS);
    return [rested, this.#dueAt, this.#heldUntil].reduce(
      (a, b) => (a !== null && b !== null ? (earlier(a, b, now) === a ? b : a) : (a ?? b)),
      null,
    );
  }

  async #try(target: IdentitySnapshot, signal: AbortSignal): Promise<void> {
    const { dial, clock, random, intervalMs, log } = this.#options;
    const seen = this.#wakeup.generation;
    this.#startedAt = instantOf(clock);
    this.#heldUntil = null;
    let result: CanaryResult | null = null;
    try {
      result = judgeCanary(await dial(target.svid, signal), target, clock.now());
    } catch (error) {
      if (signal.aborted) return;
      log.error('canary.failed', { error: errorFields(error) });
    }
    const isProven = result?.verdict === 'proven';
    this.#failures = isProven ? 0 : this.#failures + 1;
    const waitMs = isProven
      ? intervalMs
      : backoffMs(this.#failures, { baseMs: RETRY_BASE_MS, capMs: intervalMs }, random);
    // What was offered meanwhile is due already.
    if (this.#wakeup.generation === seen) this.#dueAt = after(instantOf(clock), waitMs);
    else this.#failures = 0;
    if (this.#target !== null) this.#take(result);
  }

  #take(result: CanaryResult | null): void {
    const before = this.#result;
    this.#result = result;
    if (result !== null && !isSame(before, result)) {
      const { verdict, answer, detail, errorCode, authorities, tested } = result;
      const serial = Buffer.from(result.serialNumber ?? []).toString('hex');
      const fields = { verdict, answer, detail, errorCode, authorities, serial };
      const { generation, bundleSequence: sequence } = tested;
      this.#options.log[verdict === 'proven' ? 'info' : 'warn']('canary.finished', {
        ...fields,
        generation,
        sequence,
      });
    }
    this.#options.onChange();
  }
}

/** Whether two results say the same of the same snapshot: then the log needs no second line. */
function isSame(a: CanaryResult | null, b: CanaryResult): boolean {
  return (
    a !== null &&
    a.tested.generation === b.tested.generation &&
    a.verdict === b.verdict &&
    a.answer === b.answer &&
    a.errorCode === b.errorCode &&
    a.authorities === b.authorities
  );
}
