import type { Clock } from '../../host/clock.ts';
import type { Log } from '../../host/log.ts';
import { KedgeError } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import { AuditAppender } from './audit-appender.ts';
import type { AuditFolder } from './audit-folder.ts';
import { AuditHealth } from './audit-health.ts';
import { AuditHeadFile } from './audit-head-file.ts';
import { type AuditHead, formatLine } from './audit-line.ts';
import { auditEntry, type AuditEntry } from './audit-record.ts';
import { type AuditTail, readAuditTail } from './audit-tail.ts';
import { unavailable } from './audit-unavailable.ts';

/** When a segment has this many bytes, the log goes on in the next one. */
export const SEGMENT_BYTES = 256 * 1024 * 1024;

/** How many records wait at most, unless configured. */
export const MAX_PENDING_RECORDS = 16_384;

/** What {@link AuditLog.open} needs. */
export interface AuditLogOptions {
  readonly folder: AuditFolder;
  readonly clock: Clock;
  readonly log: Log;
  /** Default {@link SEGMENT_BYTES}. */
  readonly segmentBytes?: number;
  /** Records that may wait for a commit; more are refused. Default {@link MAX_PENDING_RECORDS}. */
  readonly maxPendingRecords?: number;
  /** Called after each commit, for the metrics. */
  readonly onCommit?: (commit: { readonly records: number; readonly durationMs: number }) => void;
  /** Given each line that has become durable, newline included, before anybody is told so. Must not throw. */
  readonly onLines?: (lines: Uint8Array) => void;
}

/** Not exported, so that only this file can make a receipt. */
const RECEIPT: unique symbol = Symbol('receipt');

/** Proof that one entry is durably on the log. Only {@link AuditLog.append} makes one. */
export class AuditReceipt {
  readonly #entry: AuditEntry;
  readonly head: AuditHead;

  constructor(guard: typeof RECEIPT, entry: AuditEntry, head: AuditHead) {
    if (guard !== RECEIPT) throw new TypeError('only the audit log makes receipts');
    this.#entry = entry;
    this.head = head;
  }

  /** True when this is the receipt of that very entry. */
  covers(entry: AuditEntry): boolean {
    return this.#entry === entry;
  }
}

interface Waiting {
  readonly entries: readonly AuditEntry[];
  readonly resolve: (receipts: readonly AuditReceipt[]) => void;
  readonly reject: (error: KedgeError) => void;
}

/**
 * The audit log: JSON lines, append-only, each with the digest of the line before it.
 *
 * Durability: a receipt exists only for what survives a crash of the machine. What was refused with
 * `audit_unavailable` may still be on the log after a crash: the log never says less than what was released.
 *
 * Group commit: one write and one fdatasync cover everything that waits; what comes meanwhile waits for the next.
 *
 * After a failed commit everything is refused with `audit_unavailable`. Each commit tries anew, once a second without
 * being asked, and the first one that succeeds begins with a record `audit.recovered`: a full disk heals by itself as
 * soon as there is room.
 *
 * Concurrency: any number of callers; one process per folder (`ca/store/data-folder-lock.ts` sees to it).
 */
export class AuditLog {
  readonly #options: AuditLogOptions;
  readonly #maxPending: number;
  readonly #appender: AuditAppender;
  readonly #headFile: AuditHeadFile;
  readonly #health: AuditHealth;
  readonly #stop = new AbortController();
  #waiting: Waiting[] = [];
  #waitingRecords = 0;
  #committing: Promise<void> | null = null;

  private constructor(options: AuditLogOptions, tail: AuditTail) {
    this.#options = options;
    this.#maxPending = options.maxPendingRecords ?? MAX_PENDING_RECORDS;
    this.#appender = new AuditAppender({
      folder: options.folder,
      tail,
      segmentBytes: options.segmentBytes ?? SEGMENT_BYTES,
    });
    this.#headFile = new AuditHeadFile(options.folder);
    this.#health = new AuditHealth({
      clock: options.clock,
      log: options.log,
      torn: tail,
      retry: () => {
        if (this.#committing === null) this.#enqueue({ entries: [], resolve: ignore, reject: ignore });
      },
      signal: this.#stop.signal,
    });
  }

  /**
   * Finds the end of the log; reads no history and writes nothing yet. The first commit cuts off what a crash left
   * of a line, and begins with the records `audit.recovered`, which says so, and `audit.opened`. Throws `audit_malformed`, `audit_chain_broken`, `audit_unavailable`.
   */
  static async open(options: AuditLogOptions): Promise<AuditLog> {
    let tail: AuditTail;
    try {
      tail = await readAuditTail(options.folder);
    } catch (error) {
      throw error instanceof KedgeError ? error : unavailable(error);
    }
    const { segment, tornBytes, zeroBytes } = tail;
    if (tornBytes > 0) options.log.warn('audit.torn_line', { segment, tornBytes, zeroBytes });
    const log = new AuditLog(options, tail);
    log.note(auditEntry('audit.opened', options.clock.now()));
    return log;
  }

  /** The newest committed line. Its `seq` is the number of records. */
  get head(): AuditHead {
    return this.#appender.head;
  }

  /** False from a failed commit until one succeeds again, while one hangs, and once the log is closed. */
  get available(): boolean {
    return this.#health.available && !this.#stop.signal.aborted;
  }

  /**
   * Puts `entries` on the log, next to one another, and resolves with their receipts, in order, once they are
   * durable: all or none. Rejects with `audit_unavailable`, and with `internal` for an entry over the limit.
   */
  append(entries: readonly AuditEntry[]): Promise<readonly AuditReceipt[]> {
    return new Promise((resolve, reject) => {
      const refusal = this.#refusal(entries, this.#maxPending);
      if (refusal !== null) {
        reject(refusal);
        return;
      }
      this.#enqueue({ entries, resolve, reject });
    });
  }

  /**
   * Puts an entry on the log in its order, without telling when, or that it failed. What cannot be written is
   * counted in the next `audit.recovered`. Takes at most half of the room, so that refusals never crowd out SVIDs.
   */
  note(entry: AuditEntry): void {
    if (this.#refusal([entry], this.#maxPending / 2) !== null) {
      this.#health.dropped();
      return;
    }
    this.#enqueue({ entries: [entry], resolve: ignore, reject: ignore });
  }

  /** Commits what waits, then closes the files. Later calls are refused. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#committing;
    await this.#headFile.close();
    await this.#appender.close();
  }

  #refusal(entries: readonly AuditEntry[], room: number): KedgeError | null {
    if (this.#stop.signal.aborted) return new KedgeError('shutting_down', 'the audit log is closed');
    if (entries.some((entry) => entry.json.length > LIMITS.auditLineBytes - ENVELOPE_BYTES)) {
      return new KedgeError('internal', 'an audit entry is over its size limit');
    }
    if (this.#waitingRecords + entries.length <= room) return null;
    return new KedgeError(
      'audit_unavailable',
      `${this.#waitingRecords} records wait for the audit log already`,
      {
        hint: 'the disk under the data folder does not keep up',
        retryAfterMs: 1_000,
      },
    );
  }

  #enqueue(waiting: Waiting): void {
    this.#waiting.push(waiting);
    this.#waitingRecords += waiting.entries.length;
    this.#committing ??= this.#commitAll();
  }

  async #commitAll(): Promise<void> {
    // Whatever else this turn of the event loop brings joins the first commit.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const batch = this.#waiting;
      this.#waiting = [];
      this.#waitingRecords = 0;
      await this.#commit(batch);
    }
    this.#committing = null;
  }

  /** Only a committed line moves the head, only then the receipts go out. */
  async #commit(batch: readonly Waiting[]): Promise<void> {
    const { lines, head, outcomes } = this.#render(batch);
    const accounted = this.#health.began();
    const records = head.seq - this.head.seq;
    try {
      await this.#appender.commit(lines, head);
    } catch (error) {
      const refusal = unavailable(error);
      this.#health.failed(refusal, batch.flatMap(({ entries }) => entries).length);
      for (const { reject } of batch) reject(refusal);
      return;
    }
    const durationMs = this.#health.committed(accounted);
    this.#headFile.update(head);
    this.#options.onLines?.(lines);
    for (const { waiting, receipts } of outcomes) waiting.resolve(receipts);
    this.#options.onCommit?.({ records, durationMs });
  }

  #render(batch: readonly Waiting[]): Rendered {
    let { head } = this;
    let text = '';
    const put = (entry: AuditEntry): AuditReceipt => {
      const line = formatLine(head, entry);
      head = line.head;
      text += `${line.text}\n`;
      return new AuditReceipt(RECEIPT, entry, head);
    };
    for (const entry of this.#health.preamble()) put(entry);
    const outcomes = batch.map((waiting) => ({ waiting, receipts: waiting.entries.map(put) }));
    return { lines: Buffer.from(text, 'latin1'), head, outcomes };
  }
}

/** Room for the members that `formatLine` puts before an entry's own. */
const ENVELOPE_BYTES = 512;

interface Rendered {
  readonly lines: Uint8Array;
  readonly head: AuditHead;
  readonly outcomes: readonly { readonly waiting: Waiting; readonly receipts: readonly AuditReceipt[] }[];
}

function ignore(): void {}
