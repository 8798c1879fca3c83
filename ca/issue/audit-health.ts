import type { Clock } from '../../host/clock.ts';
import { errorFields, type Log } from '../../host/log.ts';
import type { KedgeError } from '../../pki/kedge-error.ts';
import { auditEntry, type AuditEntry, isoTime } from './audit-record.ts';
import type { AuditTail } from './audit-tail.ts';

/** A commit that takes longer is taken for a disk that hangs, milliseconds. */
export const STALL_MS = 10_000;

/** After a failure the log tries by itself this often, milliseconds: a CA that is not ready gets no requests. */
const RETRY_MS = 1_000;

/** What an {@link AuditHealth} is made of. */
export interface AuditHealthOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** What a crash left at the end of the log. */
  readonly torn: Pick<AuditTail, 'tornBytes' | 'zeroBytes'>;
  /** Commits nothing but what {@link AuditHealth.preamble} has to say, unless a commit is under way. */
  readonly retry: () => void;
  /** Ends the retries. */
  readonly signal: AbortSignal;
}

interface Failure {
  readonly sinceMs: number;
  readonly reason: string;
}

/** How the audit log fares: what it has to say about itself when it goes on, and when it tries again by itself. */
export class AuditHealth {
  readonly #options: AuditHealthOptions;
  /** Null once it is told. */
  #torn: AuditHealthOptions['torn'] | null;
  #failure: Failure | null = null;
  /** When the commit under way began, on the monotonic clock. */
  #commitSinceMs: number | null = null;
  /** Records that were dropped since the last commit. */
  #lost = 0;
  #isRetrying = false;

  constructor(options: AuditHealthOptions) {
    this.#options = options;
    this.#torn = options.torn.tornBytes > 0 ? options.torn : null;
  }

  /** False from a failed commit until one succeeds again, and while one takes longer than {@link STALL_MS}. */
  get available(): boolean {
    const sinceMs = this.#commitSinceMs;
    const isStalled = sinceMs !== null && this.#options.clock.monotonic() - sinceMs > STALL_MS;
    return this.#failure === null && !isStalled;
  }

  /** Entries that the next commit must begin with. */
  preamble(): readonly AuditEntry[] {
    const nowMs = this.#options.clock.now();
    const entries: AuditEntry[] = [];
    if (this.#torn !== null) {
      const { tornBytes, zeroBytes } = this.#torn;
      const fields = { reason: 'torn line', torn_bytes: tornBytes, zero_bytes: zeroBytes };
      entries.push(auditEntry('audit.recovered', nowMs, fields));
    }
    if (this.#failure !== null || this.#lost > 0) {
      const { reason = 'overload', sinceMs = nowMs } = this.#failure ?? {};
      const since = isoTime(sinceMs);
      entries.push(auditEntry('audit.recovered', nowMs, { reason, since, refused_records: this.#lost }));
    }
    return entries;
  }

  /** A commit begins, with the preamble as it is now. Gives how many dropped records that accounts for. */
  began(): number {
    this.#commitSinceMs = this.#options.clock.monotonic();
    return this.#lost;
  }

  /** The commit succeeded. Gives how long it took, milliseconds. */
  committed(accounted: number): number {
    const { clock, log } = this.#options;
    if (this.#failure !== null) log.info('audit.recovered', { refusedRecords: accounted });
    const tookMs = clock.monotonic() - (this.#commitSinceMs ?? clock.monotonic());
    this.#commitSinceMs = null;
    this.#torn = null;
    this.#failure = null;
    this.#lost -= accounted;
    return tookMs;
  }

  /** The commit failed, and so many records with it. */
  failed(refusal: KedgeError, records: number): void {
    const { clock, log } = this.#options;
    this.#commitSinceMs = null;
    this.#lost += records;
    if (this.#failure === null) {
      this.#failure = { sinceMs: clock.now(), reason: refusal.message };
      log.error('audit.unavailable', { error: errorFields(refusal) });
    }
    if (!this.#isRetrying) void this.#retryUntilItWorks();
  }

  /** A record was dropped for want of room. */
  dropped(): void {
    this.#lost += 1;
  }

  async #retryUntilItWorks(): Promise<void> {
    const { clock, retry, signal } = this.#options;
    this.#isRetrying = true;
    while (this.#failure !== null && !signal.aborted) {
      try {
        await clock.sleep(RETRY_MS, signal);
      } catch (error) {
        if (!signal.aborted) throw error;
      }
      if (this.#failure !== null && !signal.aborted) retry();
    }
    this.#isRetrying = false;
  }
}
