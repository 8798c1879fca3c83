import type { AuditFolder, AuditReader, AuditWriter } from '../../ca/issue/audit-folder.ts';

/** What can be made to fail. */
export type AuditOperation = 'open' | 'write' | 'datasync' | 'truncate' | 'sync';

/**
 * How it fails: `lost` = nothing took effect; `partial` = half of a write did; `persisted` = all of it did, and the
 * error is reported all the same.
 */
export type FaultKind = 'lost' | 'partial' | 'persisted';

interface Fault {
  readonly operation: AuditOperation;
  readonly kind: FaultKind;
  readonly errno: string;
}

/** A folder in memory that knows what a crash would leave, counts what is done, and fails on demand. */
export class MemoryAuditFolder implements AuditFolder {
  readonly files = new Map<string, Buffer>();
  /** What is on disk: content as of the last sync, by name. Names themselves are always durable here. */
  readonly durable = new Map<string, Buffer>();
  readonly counts: Record<AuditOperation, number> = { open: 0, write: 0, datasync: 0, truncate: 0, sync: 0 };
  bytesRead = 0;
  /** The next calls of each operation that fail, in order. */
  faults: Fault[] = [];
  /** Awaited before each datasync takes effect. */
  gate: Promise<void> = Promise.resolve();

  failNext(operation: AuditOperation, kind: FaultKind = 'lost', errno = 'EIO'): void {
    this.faults.push({ operation, kind, errno });
  }

  /** All lines of all segments, parsed. */
  records(): { seq: number; event: string; [name: string]: unknown }[] {
    return this.lines().map((line) => JSON.parse(line) as { seq: number; event: string });
  }

  lines(): string[] {
    return [...this.files]
      .filter(([name]) => name.endsWith('.jsonl'))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .flatMap(([, content]) =>
        content
          .toString('latin1')
          .split('\n')
          .filter((line) => line !== ''),
      );
  }

  /**
   * What is found after a crash of the machine: what was synced, and of what was not, a prefix; then nothing, or, where
   * the file system had made the file longer already, zeros.
   */
  afterCrash(unsyncedShare: number, rest: 'cut' | 'zeros' = 'cut'): MemoryAuditFolder {
    const next = new MemoryAuditFolder();
    for (const [name, content] of this.files) {
      const durable = this.durable.get(name) ?? Buffer.alloc(0);
      const extra = Math.max(0, content.length - durable.length);
      const kept =
        extra === 0 ? durable : content.subarray(0, durable.length + Math.floor(extra * unsyncedShare));
      const zeros = rest === 'zeros' ? Math.max(0, content.length - kept.length) : 0;
      const found = Buffer.concat([kept, Buffer.alloc(zeros)]);
      next.files.set(name, found);
      next.durable.set(name, Buffer.from(found));
    }
    return next;
  }

  list(): Promise<readonly string[]> {
    return Promise.resolve([...this.files.keys()]);
  }

  openForReading(name: string): Promise<AuditReader | null> {
    if (!this.files.has(name)) return Promise.resolve(null);
    const content = (): Buffer => this.files.get(name) ?? Buffer.alloc(0);
    return Promise.resolve({
      size: () => Promise.resolve(content().length),
      read: (position: number, length: number) => {
        const bytes = content().subarray(position, position + length);
        this.bytesRead += bytes.length;
        return Promise.resolve(bytes);
      },
      close: () => Promise.resolve(),
    });
  }

  async openForWriting(name: string): Promise<AuditWriter> {
    await this.#perform('open', () => {
      if (!this.files.has(name)) this.files.set(name, Buffer.alloc(0));
    });
    const content = (): Buffer => this.files.get(name) ?? Buffer.alloc(0);
    const put = (bytes: Uint8Array, position: number): void => {
      const next = Buffer.alloc(Math.max(content().length, position + bytes.length));
      content().copy(next);
      next.set(bytes, position);
      this.files.set(name, next);
    };
    return {
      size: () => Promise.resolve(content().length),
      write: (bytes, position) =>
        this.#perform(
          'write',
          () => put(bytes, position),
          () => put(bytes.subarray(0, bytes.length / 2), position),
        ),
      truncate: (size) =>
        this.#perform('truncate', () => {
          const next = Buffer.alloc(size);
          content().copy(next);
          this.files.set(name, next);
        }),
      datasync: async () => {
        await this.gate;
        await this.#perform('datasync', () => this.durable.set(name, Buffer.from(content())));
      },
      close: () => Promise.resolve(),
    };
  }

  sync(): Promise<void> {
    return this.#perform('sync', () => undefined);
  }

  async #perform(operation: AuditOperation, effect: () => unknown, half?: () => unknown): Promise<void> {
    this.counts[operation] += 1;
    // A turn of the event loop, as a real disk takes.
    await new Promise((resolve) => setImmediate(resolve));
    const index = this.faults.findIndex((fault) => fault.operation === operation);
    const [fault] = index < 0 ? [] : this.faults.splice(index, 1);
    if (fault === undefined || fault.kind === 'persisted') effect();
    else if (fault.kind === 'partial') half?.();
    if (fault !== undefined) throw Object.assign(new Error(`injected ${fault.errno}`), { code: fault.errno });
  }
}
