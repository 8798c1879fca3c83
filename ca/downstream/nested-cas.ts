import type { Clock } from '../../host/clock.ts';
import type { Coverage } from '../authority/coverage.ts';
import type { TrustState } from '../authority/trust-state.ts';
import { HOLDS_NOTHING, type NestedReport, nestedInstance } from './nested-report.ts';

/** What a nested CA said, and when: monotonic clock, milliseconds. */
interface Heard {
  readonly report: NestedReport;
  readonly atMs: number;
}

/**
 * How long a report tells what a fleet holds, milliseconds: a nested CA speaks at least twice in that time, and perhaps
 * to another replica meanwhile. What it said before may be from before a rotation that has turned since.
 */
export const REPORT_LIFETIME_MS = 60_000;

/**
 * The nested CAs that may stand under this one, and what each has said last. Kept in memory: after a restart, and in
 * every other replica, a CA that has not spoken keeps the gates of a rotation shut, as an instance that holds nothing;
 * an operator can excuse it by its SPIFFE ID.
 */
export class NestedCas {
  readonly #allowed: readonly string[];
  readonly #clock: Clock;
  readonly #heard = new Map<string, Heard>();

  /** `allowed`: the SPIFFE IDs of those that may ask. */
  constructor(allowed: readonly string[], clock: Clock) {
    this.#allowed = allowed;
    this.#clock = clock;
  }

  /** Whether a CA of this SPIFFE ID may ask. */
  mayAsk(spiffeId: string): boolean {
    return this.#allowed.includes(spiffeId);
  }

  /** What a nested CA that may ask says now. */
  heard(spiffeId: string, report: NestedReport): void {
    this.#heard.set(spiffeId, { report, atMs: this.#clock.monotonic() });
  }

  /**
   * The coverage with the nested CAs in it, each as an instance, so that no step of a rotation leaves a fleet below
   * behind. One that has gone silent holds nothing, and counts until the last SVID that it spoke of has ended.
   */
  in(coverage: Coverage, state: TrustState | null): Coverage {
    if (this.#allowed.length === 0 || state === null) return coverage;
    const nested = this.#allowed.flatMap((spiffeId) => {
      const heard = this.#heard.get(spiffeId);
      if (heard === undefined) return [nestedInstance(spiffeId, HOLDS_NOTHING, state)];
      const { report, atMs } = heard;
      if (report.issuersEndMs <= this.#clock.now()) return [];
      const isFresh = this.#clock.monotonic() - atMs <= REPORT_LIFETIME_MS;
      return [nestedInstance(spiffeId, isFresh ? report : { ...report, complete: false }, state)];
    });
    return { ...coverage, instances: [...coverage.instances, ...nested] };
  }
}
