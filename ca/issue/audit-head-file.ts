import type { AuditFolder, AuditWriter } from './audit-folder.ts';
import { type AuditHead, formatHeadFile, HEAD_FILE } from './audit-line.ts';

/**
 * The side file `audit.head`: the newest committed line, rewritten after each commit, never synced.
 *
 * It shows that lines were taken off the end of the log. It may lag behind the log, after a crash or a failed
 * write, but is never ahead of it. Best effort: its errors are dropped, the next head tries again.
 */
export class AuditHeadFile {
  readonly #folder: AuditFolder;
  #writer: AuditWriter | null = null;
  #next: AuditHead | null = null;
  #writing: Promise<void> | null = null;

  constructor(folder: AuditFolder) {
    this.#folder = folder;
  }

  /** Writes `head`, or a newer one if that comes before this one's turn. */
  update(head: AuditHead): void {
    this.#next = head;
    this.#writing ??= this.#writeAll();
  }

  /** Writes what is left to write, then closes the file. */
  async close(): Promise<void> {
    await this.#writing;
    const writer = this.#writer;
    this.#writer = null;
    await writer?.close().catch(() => undefined);
  }

  async #writeAll(): Promise<void> {
    while (this.#next !== null) {
      const head = this.#next;
      this.#next = null;
      try {
        await this.#write(Buffer.from(formatHeadFile(head), 'latin1'));
      } catch {
        const writer = this.#writer;
        this.#writer = null;
        await writer?.close().catch(() => undefined);
      }
    }
    this.#writing = null;
  }

  /** Always the same length, so that it is overwritten in place. */
  async #write(bytes: Uint8Array): Promise<void> {
    if (this.#writer === null) {
      this.#writer = await this.#folder.openForWriting(HEAD_FILE);
      await this.#writer.truncate(bytes.length);
    }
    await this.#writer.write(bytes, 0);
  }
}
