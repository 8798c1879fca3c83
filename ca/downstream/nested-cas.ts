import type { Clock } from '../../host/clock.ts';
import type { Coverage } from '../authority/coverage.ts';
import type { TrustState } from '../authority/trust-state.ts';
import { type NestedReport, nestedInstance } from './nested-report.ts';

/**
 * The nested CAs that may stand under this one, and what each has said last. Kept in memory: after a restart, and in
 * every other replica, a CA that has not spoken keeps the gates of a rotation shut.
 */
export class NestedCas {
  readonly #allowed: readonly string[];
  readonly #clock: Clock;
  readonly #reports = new Map<string, NestedReport>();

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
    this.#reports.set(spiffeId, report);
  }

  /**
   * The coverage with the nested CAs in it, each as an instance, so that no step of a rotation leaves a fleet below
   * behind. One that has gone silent counts with what it said last, until its last SVID has ended.
   */
  in(coverage: Coverage, state: TrustState | null): Coverage {
    if (this.#allowed.length === 0 || state === null) return coverage;
    const nowMs = this.#clock.now();
    const silent = this.#allowed.filter((spiffeId) => !this.#reports.has(spiffeId));
    const nested = this.#allowed.flatMap((spiffeId) => {
      const report = this.#reports.get(spiffeId);
      return report === undefined || report.issuersEndMs <= nowMs
        ? []
        : [nestedInstance(spiffeId, report, state)];
    });
    const instances = [...coverage.instances, ...nested];
    if (silent.length === 0) return { ...coverage, instances };
    const unknown = `the nested CA ${silent[0]} has not reported to this replica`;
    return { instances, complete: false, unknown: coverage.complete ? unknown : coverage.unknown };
  }
}
