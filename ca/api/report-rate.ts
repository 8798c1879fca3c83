import type { Clock } from '../../host/clock.ts';
import { KedgeError } from '../../pki/kedge-error.ts';

/** Reports that may come at once, and how long one more takes to be allowed, milliseconds. */
export const REPORT_BURST = 20;
export const REPORT_INTERVAL_MS = 1_000;

/** How often one agent may report. */
export class ReportRate {
  readonly #clock: Clock;
  #left = REPORT_BURST;
  #countedAtMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#countedAtMs = clock.monotonic();
  }

  /** Counts a report. Throws `report_rate_exceeded`. */
  take(): void {
    const gained = Math.floor((this.#clock.monotonic() - this.#countedAtMs) / REPORT_INTERVAL_MS);
    if (gained > 0) {
      this.#left = Math.min(REPORT_BURST, this.#left + gained);
      this.#countedAtMs += gained * REPORT_INTERVAL_MS;
    }
    if (this.#left === 0) {
      throw new KedgeError(
        'report_rate_exceeded',
        `the agent sent more than ${REPORT_BURST} reports at once`,
        {
          hint: 'report when what is held changes, not more often than once a second',
          retryAfterMs: REPORT_BURST * REPORT_INTERVAL_MS,
        },
      );
    }
    this.#left -= 1;
  }
}
