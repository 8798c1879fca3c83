import { chmodSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { errnoOf } from '../../host/errno.ts';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { SQLITE_BUSY, sqliteResultCode } from './sqlite-error.ts';

/**
 * A data folder held by this process alone, as long as it lives or until {@link DataFolderLock.release}.
 *
 * The operating system holds it: an open `BEGIN EXCLUSIVE` on a small SQLite file is a lock on that file, and ends
 * with the process however that ends. There is no stale lock to clean up, and no file to delete by hand.
 */
export class DataFolderLock {
  readonly folder: string;
  #database: DatabaseSync | null;
  /** Listening also keeps the lock from the garbage collector, should its owner forget it. */
  readonly #onExit = (): void => this.release();

  private constructor(folder: string, database: DatabaseSync) {
    this.folder = folder;
    this.#database = database;
    process.once('exit', this.#onExit);
  }

  /**
   * Takes the folder, created 0700 when absent. Throws `data_folder_in_use` with the pid of the holder where the
   * system tells it, `file_unwritable` when there can be no lock file.
   */
  static acquire(folder: string): DataFolderLock {
    const path = join(resolve(folder), 'lock');
    let database: DatabaseSync | null = null;
    try {
      mkdirSync(resolve(folder), { recursive: true, mode: 0o700 });
      database = new DatabaseSync(path, { timeout: 0 });
      database.exec('BEGIN EXCLUSIVE');
      chmodSync(path, 0o600);
      return new DataFolderLock(resolve(folder), database);
    } catch (cause) {
      database?.close();
      throw sqliteResultCode(cause) === SQLITE_BUSY ? inUse(folder, path, cause) : unwritable(path, cause);
    }
  }

  /** Lets the folder go. Harmless when repeated. */
  release(): void {
    this.#database?.close();
    this.#database = null;
    process.removeListener('exit', this.#onExit);
  }
}

function inUse(folder: string, path: string, cause: unknown): KedgeError {
  const pid = holderOf(path);
  const holder = pid === null ? '' : ` (process ${pid})`;
  return new KedgeError(
    'data_folder_in_use',
    `another CA runs on the data folder ${quote(folder, 200)}${holder}`,
    {
      cause,
      hint: 'stop it, or give this CA a data folder of its own',
    },
  );
}

function unwritable(path: string, cause: unknown): KedgeError {
  return new KedgeError('file_unwritable', `the lock file ${quote(path, 200)} cannot be locked`, {
    cause,
    hint: `make the data folder writable for the user that runs the CA (${errnoOf(cause) ?? 'unknown'})`,
  });
}

/** Linux: `1: POSIX  ADVISORY  WRITE 4242 08:01:1234 0 EOF`, device numbers in hexadecimal (proc_locks(5)). */
const LOCK_LINE = /^\d+: POSIX +ADVISORY +WRITE (\d+) [0-9a-f]+:[0-9a-f]+:(\d+) /;

/** The pid that holds a write lock on the file; null where the system does not say. */
function holderOf(path: string): number | null {
  try {
    const inode = String(statSync(path).ino);
    for (const line of readFileSync('/proc/locks', 'latin1').split('\n')) {
      const match = LOCK_LINE.exec(line);
      if (match?.[2] === inode && match[1] !== undefined) return Number(match[1]);
    }
    return null;
  } catch {
    return null;
  }
}
