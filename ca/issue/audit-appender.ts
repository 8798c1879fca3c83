import { KedgeError } from '../../pki/kedge-error.ts';
import type { AuditFolder, AuditWriter } from './audit-folder.ts';
import { type AuditHead, segmentName } from './audit-line.ts';
import { type AuditTail, readAuditTail } from './audit-tail.ts';

/** What an {@link AuditAppender} is made of. */
export interface AuditAppenderOptions {
  readonly folder: AuditFolder;
  /** Where the log ends. */
  readonly tail: AuditTail;
  /** When a segment has this many bytes, the log goes on in the next one. */
  readonly segmentBytes: number;
}

/**
 * The end of the audit log's files: puts lines there durably, all or none.
 *
 * After a failed write or sync nothing is known about the end of the file. The next commit therefore first opens it
 * anew, cuts it back to the last committed line, syncs that, and reads it back.
 *
 * Concurrency: one call at a time; one process per folder.
 */
export class AuditAppender {
  readonly #folder: AuditFolder;
  readonly #segmentBytes: number;
  #head: AuditHead;
  #segment: string;
  #offset: number;
  /** Null until the first commit, and after each failure. */
  #writer: AuditWriter | null = null;
  #mistrusted = false;

  constructor(options: AuditAppenderOptions) {
    this.#folder = options.folder;
    this.#segmentBytes = options.segmentBytes;
    this.#head = options.tail.head;
    this.#segment = options.tail.segment;
    this.#offset = options.tail.offset;
  }

  /** The last committed line. */
  get head(): AuditHead {
    return this.#head;
  }

  /**
   * Commits whole lines, the last of which is `head`. The order, and what a crash after each step leaves:
   *
   *  1. the file is open and ends with the last committed line          (as before)
   *  2. a full segment is closed, the next one made, its name synced    (an empty segment: opens as before)
   *  3. all lines are written                                           (none, some, or a part of one: cut off)
   *  4. fdatasync                                                       (all lines)
   *
   * Rejects with the system's error, or `audit_chain_broken` when the file is not as this appender left it. Then
   * the lines are not committed, and the next call begins with the repair.
   */
  async commit(lines: Uint8Array, head: AuditHead): Promise<void> {
    try {
      if (this.#offset > 0 && this.#offset + lines.length > this.#segmentBytes) await this.#leaveSegment();
      const writer = this.#writer ?? (await this.#openWriter());
      await writer.write(lines, this.#offset);
      await writer.datasync();
    } catch (error) {
      this.#mistrusted = true;
      await this.close();
      throw error;
    }
    this.#offset += lines.length;
    this.#head = head;
  }

  /** Closes the file. A later commit opens it again. */
  async close(): Promise<void> {
    const writer = this.#writer;
    this.#writer = null;
    // Everything committed is synced: there is nothing that a failing close could lose.
    await writer?.close().catch(() => undefined);
  }

  /**
   * The log is in the new segment from here on, whatever fails: once the new one exists, a line in the old one would
   * stand before and after it at once.
   */
  async #leaveSegment(): Promise<void> {
    // What a failed commit left behind must not stay at the end of a segment that nobody opens again.
    if (this.#writer === null) await this.#openWriter();
    await this.close();
    this.#segment = segmentName(this.#head.seq + 1);
    this.#offset = 0;
  }

  async #openWriter(): Promise<AuditWriter> {
    const writer = await this.#folder.openForWriting(this.#segment);
    try {
      const size = await writer.size();
      if (size < this.#offset) throw new KedgeError('audit_chain_broken', `${this.#segment} was cut short`);
      if (size > this.#offset) {
        await writer.truncate(this.#offset);
        await writer.datasync();
      }
      if (this.#offset === 0) await this.#folder.sync();
      if (this.#mistrusted) await this.#readBack();
    } catch (error) {
      await writer.close().catch(() => undefined);
      throw error;
    }
    this.#mistrusted = false;
    this.#writer = writer;
    return writer;
  }

  async #readBack(): Promise<void> {
    const { head } = await readAuditTail(this.#folder);
    if (head.seq === this.#head.seq && head.hash === this.#head.hash) return;
    throw new KedgeError('audit_chain_broken', `${this.#segment} does not end with line ${this.#head.seq}`);
  }
}
