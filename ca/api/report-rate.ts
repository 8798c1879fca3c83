import type { Clock } from '../../host/clock.ts';
import { KedgeError } from '../../pki/kedge-error.ts';
import type { WorkloadInstance } from '../attest/attestor.ts';

/**
 * Reports of one instance that may come at once, and how long one more takes to be allowed, milliseconds. More than an
 * agent sends: see its `report-pace.ts`.
 */
export const REPORT_BURST = 20;
export const REPORT_INTERVAL_MS = 1_000;

/** How often each instance may report, over all its streams: another stream gives it no more. */
export class ReportRates {
  readonly #clock: Clock;
  /** By cluster and pod UID: when all that it may send at once will be there again, on the monotonic clock. */
  readonly #fullAtMs = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Instances that have reported of late. */
  get size(): number {
    return this.#fullAtMs.size;
  }

  /** Counts a report. Throws `report_rate_exceeded`. */
  take({ cluster, podUid }: Pick<WorkloadInstance, 'cluster' | 'podUid'>): void {
    const key = `${cluster}/${podUid}`;
    const nowMs = this.#clock.monotonic();
    const fullAtMs = Math.max(nowMs, this.#fullAtMs.get(key) ?? nowMs) + REPORT_INTERVAL_MS;
    if (fullAtMs - nowMs > REPORT_BURST * REPORT_INTERVAL_MS) {
      throw new KedgeError(
        'report_rate_exceeded',
        `the agent sent more than ${REPORT_BURST} reports at once`,
        {
          hint: 'report when what is held changes, not more often than once a second',
          retryAfterMs: REPORT_BURST * REPORT_INTERVAL_MS,
        },
      );
    }
    this.#fullAtMs.set(key, fullAtMs);
  }

  /** Forgets those who may send all at once again. Call it now and then. */
  prune(): void {
    const nowMs = this.#clock.monotonic();
    for (const [key, fullAtMs] of this.#fullAtMs) if (fullAtMs <= nowMs) this.#fullAtMs.delete(key);
  }
}
