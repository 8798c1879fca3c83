import type { Clock } from '../../host/clock.ts';
import { errorFields, type Log } from '../../host/log.ts';
import { isKedgeError } from '../../pki/kedge-error.ts';
import type { SpiffeId } from '../../pki/spiffe-id.ts';
import type { Peer, WorkloadInstance } from '../attest/attestor.ts';
import type { AuditLog } from './audit-log.ts';
import { type AuditApi, type RefusedEvent, refusedEntry } from './audit-record.ts';
import { SuppressedRefusals } from './audit-suppressed.ts';
import type { IssuanceMetrics } from './issuance-metrics.ts';
import { RefusalBudget } from './refusal-budget.ts';

/** A refused call: all that is known of it at that point. */
export interface Refusal {
  /** What was refused. Default `svid.refused`. */
  readonly event?: RefusedEvent;
  readonly api: AuditApi;
  readonly error: unknown;
  readonly instance?: WorkloadInstance | undefined;
  readonly spiffeId?: SpiffeId | undefined;
  readonly peer?: Peer;
}

/** What a {@link RefusalLog} is made of. */
export interface RefusalLogOptions {
  readonly audit: AuditLog;
  readonly metrics: IssuanceMetrics;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Lines of the audit log for refusals that carry no attested identity: anyone on the network can cause them, so what
 * they can write is bounded to about 40 MB a day, at 400 bytes a line.
 */
export const UNATTESTED = {
  perKey: { burst: 10, intervalMs: 60_000 },
  overall: { burst: 100, intervalMs: 1_000 },
  maxKeys: 4_096,
} as const;

/** The same for attested workload instances, and for the CA itself: room for each, whatever the others do. */
export const ATTESTED = {
  perKey: { burst: 20, intervalMs: 10_000 },
  overall: { burst: 1_000, intervalMs: 50 },
  maxKeys: 16_384,
} as const;

/** How long refusals beyond the bounds are gathered for one summary, milliseconds. */
export const SUMMARY_INTERVAL_MS = 60_000;

/**
 * Counts refusals, and puts them on the audit log without waiting for the disk.
 *
 * Each gets a line of its own, within the bounds above. What is beyond them is told by one line
 * `refusals.suppressed` at the end of each interval: how many, with which codes, by whom. A summary that cannot be
 * written stays part of the next one, so that none is lost while the process runs, and the last one is written when
 * it ends. The metrics count every one.
 */
export class RefusalLog {
  readonly #options: RefusalLogOptions;
  readonly #unattested: RefusalBudget;
  readonly #attested: RefusalBudget;
  readonly #stop = new AbortController();
  #suppressed = new SuppressedRefusals();
  /** Null while nothing is to be summed up. */
  #summarising: Promise<void> | null = null;

  constructor(options: RefusalLogOptions) {
    this.#options = options;
    const { clock } = options;
    this.#unattested = new RefusalBudget({ ...UNATTESTED, clock });
    this.#attested = new RefusalBudget({ ...ATTESTED, clock });
  }

  /** Takes one refusal. An error that is not ours is recorded as `internal`, without its message. */
  record(refusal: Refusal): void {
    const { audit, clock, metrics } = this.#options;
    const { event = 'svid.refused', api, error, instance, spiffeId, peer } = refusal;
    const [code, message] = isKedgeError(error)
      ? ([error.code, error.message] as const)
      : (['internal', 'a mistake in Kedge; the log has the details'] as const);
    metrics.refused(event, code);
    const timeMs = clock.now();
    const peerAddress = peer?.address ?? null;
    if (this.#mayHaveLine(instance, peerAddress)) {
      const id = spiffeId?.toString() ?? null;
      audit.note(
        refusedEntry({
          event,
          timeMs,
          api,
          code,
          message,
          spiffeId: id,
          instance: instance ?? null,
          peerAddress,
        }),
      );
      return;
    }
    metrics.refusalSuppressed();
    this.#suppressed.add({ timeMs, event, code, peerAddress, podUid: instance?.podUid ?? null });
    this.#summarising ??= this.#summarise();
  }

  /** Writes the summary of what is not told yet. Before the audit log is closed; harmless when repeated. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#summarising;
  }

  #mayHaveLine(instance: WorkloadInstance | undefined, peerAddress: string | null): boolean {
    if (instance !== undefined) return this.#attested.take(`${instance.cluster}/${instance.podUid}`);
    // Without a peer it is the CA itself that was refused its own SVID.
    return peerAddress === null ? this.#attested.take('') : this.#unattested.take(peerAddress);
  }

  async #summarise(): Promise<void> {
    const { clock, log } = this.#options;
    const { signal } = this.#stop;
    for (;;) {
      // Only the end makes this reject: then what there is goes out at once.
      await clock.sleep(SUMMARY_INTERVAL_MS, signal).catch(() => undefined);
      const failure = await this.#writeSummary();
      if (failure !== null && signal.aborted) {
        log.warn('audit.summary_lost', { refused: this.#suppressed.count, error: errorFields(failure) });
        break;
      }
      if (this.#suppressed.count === 0) break;
    }
    this.#summarising = null;
  }

  /** Gives the failure; what could not be written waits for the next summary. */
  async #writeSummary(): Promise<unknown> {
    const { audit, clock } = this.#options;
    const told = this.#suppressed;
    this.#suppressed = new SuppressedRefusals();
    try {
      await audit.append([told.entry(clock.now())]);
      return null;
    } catch (error) {
      told.merge(this.#suppressed);
      this.#suppressed = told;
      return error;
    }
  }
}
