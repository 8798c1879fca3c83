import { KedgeError, quote } from '../../pki/kedge-error.ts';

/**
 * Primary result codes of SQLite (https://sqlite.org/rescode.html) that an operator can do something about. What
 * stands before the colon goes into the message, the rest is the hint.
 */
const UNAVAILABLE: ReadonlyMap<number, readonly [what: string, hint: string]> = new Map([
  [
    3,
    [
      'access was denied',
      'give the user that runs the CA read and write permission on the file and its folder',
    ],
  ],
  [5, ['it is locked', 'another program holds the file: close it; only CAs may open it']],
  [6, ['it is locked', 'another program holds the file: close it; only CAs may open it']],
  [
    8,
    [
      'it is read-only',
      'make the file, its folder and the file system writable for the user that runs the CA',
    ],
  ],
  [10, ['input or output failed', 'check the disk and its limits; the cause in the log has the details']],
  [13, ['the disk is full', 'free space on the file system of the data folder']],
  [
    14,
    ['it cannot be opened', 'check that the folder exists, and the permissions of the folder and the file'],
  ],
]);

/** SQLITE_CORRUPT, SQLITE_NOTADB, and SQLITE_ERROR: our SQL is fixed, so the tables are not those it was made for. */
const CORRUPT: ReadonlySet<number> = new Set([1, 11, 26]);

/** What `node:sqlite` throws: SQLite's extended result code is `errcode`. */
interface SqliteError extends Error {
  readonly errcode: number;
}

function isSqliteError(error: unknown): error is SqliteError {
  return error instanceof Error && 'errcode' in error && typeof error.errcode === 'number';
}

/** The primary result code of an error of `node:sqlite`; undefined for any other error. */
export function sqliteResultCode(error: unknown): number | undefined {
  return isSqliteError(error) ? error.errcode & 0xff : undefined;
}

/** SQLITE_BUSY: another connection holds a lock that is needed. */
export const SQLITE_BUSY = 5;

/**
 * An error of `node:sqlite` on the file at `path` as `store_unavailable` (may pass) or `store_corrupt` (will not).
 * A {@link KedgeError} comes back as it is.
 */
export function storeError(error: unknown, path: string): KedgeError {
  if (error instanceof KedgeError) return error;
  const code = sqliteResultCode(error);
  const name = quote(path, 200);
  if (code !== undefined && CORRUPT.has(code)) {
    return new KedgeError('store_corrupt', `the trust store ${name} is damaged, or not one of Kedge`, {
      cause: error,
      hint: RESTORE_HINT,
    });
  }
  const [what, hint] = UNAVAILABLE.get(code ?? -1) ?? ['it failed', 'the cause in the log has the details'];
  return new KedgeError('store_unavailable', `the trust store ${name} cannot be used: ${what}`, {
    cause: error,
    hint,
  });
}

/** What to do about a store that is damaged. */
export const RESTORE_HINT =
  'stop the CA and restore the file from a backup; agents go on with the SVIDs they hold meanwhile';
