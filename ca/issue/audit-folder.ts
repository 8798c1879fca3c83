import { type FileHandle, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';

/**
 * The small part of a file system that the audit log needs: a seam, so that tests can make each call fail in both
 * ways, before it took effect and after.
 *
 * Errors are those of the system, untranslated; after one, nothing is known about what took effect.
 */
export interface AuditFolder {
  /** Names of the files in the folder, in any order. Empty when there is no folder. */
  list(): Promise<readonly string[]>;
  /** Opens for reading; null when there is no such file. */
  openForReading(name: string): Promise<AuditReader | null>;
  /** Opens for writing, and makes the file (0600) when there is none. */
  openForWriting(name: string): Promise<AuditWriter>;
  /** Makes the names of new files durable. */
  sync(): Promise<void>;
}

/** One file, open for reading. */
export interface AuditReader {
  size(): Promise<number>;
  /** At most `length` bytes from `position` on: fewer only at the end of the file. */
  read(position: number, length: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** One file, open for writing. */
export interface AuditWriter {
  size(): Promise<number>;
  /** All bytes, at `position`. */
  write(bytes: Uint8Array, position: number): Promise<void>;
  truncate(size: number): Promise<void>;
  /** Resolves when content and size are on disk (fdatasync). */
  datasync(): Promise<void>;
  close(): Promise<void>;
}

/** {@link AuditFolder} on the file system. The folder itself must exist before anything is written. */
export function fileAuditFolder(path: string): AuditFolder {
  return {
    async list() {
      try {
        return await readdir(path);
      } catch (error) {
        if (isMissing(error)) return [];
        throw error;
      }
    },
    async openForReading(name) {
      try {
        return reader(await open(join(path, name), 'r'));
      } catch (error) {
        if (isMissing(error)) return null;
        throw error;
      }
    },
    async openForWriting(name) {
      return writer(await openOrCreate(join(path, name)));
    },
    async sync() {
      await using folder = await open(path, 'r');
      await folder.sync();
    },
  };
}

async function openOrCreate(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r+');
  } catch (error) {
    if (!isMissing(error)) throw error;
    return open(path, 'wx', 0o600);
  }
}

function reader(file: FileHandle): AuditReader {
  return {
    size: async () => (await file.stat()).size,
    async read(position, length) {
      const buffer = Buffer.allocUnsafe(length);
      let filled = 0;
      while (filled < length) {
        const { bytesRead } = await file.read(buffer, filled, length - filled, position + filled);
        if (bytesRead === 0) break;
        filled += bytesRead;
      }
      return buffer.subarray(0, filled);
    },
    close: () => file.close(),
  };
}

function writer(file: FileHandle): AuditWriter {
  return {
    size: async () => (await file.stat()).size,
    async write(bytes, position) {
      let written = 0;
      while (written < bytes.length) {
        const { bytesWritten } = await file.write(bytes, written, bytes.length - written, position + written);
        written += bytesWritten;
      }
    },
    truncate: (size) => file.truncate(size),
    datasync: () => file.datasync(),
    close: () => file.close(),
  };
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}
