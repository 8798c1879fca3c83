import type { Clock } from '../host/clock.ts';

/**
 * Reports that may be sent at once, and how long one more takes to be allowed, milliseconds. Less than the CA takes of
 * one instance, by as much as an agent that starts again sends anew, or a network holds up and delivers in one piece.
 */
export const REPORT_BURST = 8;
export const REPORT_INTERVAL_MS = 1_250;
/** Of those at once, so many are kept for a change of what is held as a whole: a gate of the rotation waits for it. */
const KEPT_FOR_HELD = 4;

/** What has changed since the newest report: what is held as a whole, or something of a feed or a consumer alone. */
export type ReportChange = 'held' | 'detail';

/**
 * When an agent may report: its consumers come and go as they like, and whoever reports too often loses its stream,
 * and with it the pushes of the CA. One for all streams of an agent.
 */
export class ReportPace {
  readonly #clock: Clock;
  /** What is left, each report at {@link REPORT_INTERVAL_MS}. */
  #creditMs = REPORT_BURST * REPORT_INTERVAL_MS;
  #countedAtMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#countedAtMs = clock.monotonic();
  }

  /** Milliseconds until such a change may be reported; 0 = now. What changes meanwhile goes into the same report. */
  waitMs(change: ReportChange): number {
    this.#count();
    const reports = change === 'held' ? 1 : KEPT_FOR_HELD + 1;
    return Math.max(0, reports * REPORT_INTERVAL_MS - this.#creditMs);
  }

  /** Counts a report that is sent. */
  take(): void {
    this.#count();
    this.#creditMs -= REPORT_INTERVAL_MS;
  }

  #count(): void {
    const nowMs = this.#clock.monotonic();
    this.#creditMs = Math.min(
      REPORT_BURST * REPORT_INTERVAL_MS,
      this.#creditMs + (nowMs - this.#countedAtMs),
    );
    this.#countedAtMs = nowMs;
  }
}
