import { closeSync, mkdirSync, openSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { errnoOf } from '../../host/errno.ts';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { RESTORE_HINT, storeError } from './sqlite-error.ts';

/** "KDGE" in the header of the file (SQLite: application_id), so that no other program's database is taken. */
const APPLICATION_ID = 0x4b_44_47_45;
/** Layout of the tables (SQLite: user_version). */
const LAYOUT = 1;

/** `tag` is random per version: a file restored from a backup never repeats a version that a process remembers. */
const SCHEMA = `
  CREATE TABLE trust_state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    counter INTEGER NOT NULL,
    tag TEXT NOT NULL,
    document BLOB NOT NULL,
    sha256 BLOB NOT NULL
  ) STRICT;
  PRAGMA application_id = ${APPLICATION_ID};
  PRAGMA user_version = ${LAYOUT};
`;

/**
 * Opens the trust store's database, created when absent (file 0600, new folders 0700). Throws `store_unavailable`,
 * `store_corrupt` or `store_newer_version`.
 *
 * 1. create the file ourselves: SQLite would give it the umask's permissions, and the log files inherit them
 * 2. read whose file it is; one that is refused is not written to
 * 3. only then set what the file remembers (WAL) and what the connection needs
 * 4. create the tables, if another process has not since; the write lock shows a read-only file here, not later
 * 5. check the pages (the document is small, so this costs less than a millisecond)
 */
export function openStoreFile(path: string, busyTimeoutMs: number): DatabaseSync {
  let database: DatabaseSync | null = null;
  try {
    createEmpty(path);
    database = new DatabaseSync(path, { timeout: busyTimeoutMs });
    recognise(database, path);
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON');
    database.exec('PRAGMA trusted_schema = OFF; BEGIN IMMEDIATE');
    if (recognise(database, path) === 'empty') database.exec(SCHEMA);
    database.exec('COMMIT');
    quickCheck(database, path);
    return database;
  } catch (error) {
    database?.close();
    throw storeError(error, path);
  }
}

/** Device and inode of the file at `path`. Throws `store_unavailable` when there is none. */
export function fileIdentity(path: string): string {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) {
    throw new KedgeError('store_unavailable', `the trust store ${quote(path, 200)} was removed`, {
      hint: 'put the file back and restart the CA',
    });
  }
  return `${stat.dev}:${stat.ino}`;
}

function createEmpty(path: string): void {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    if (statSync(path, { throwIfNoEntry: false }) === undefined) closeSync(openSync(path, 'ax', 0o600));
  } catch (cause) {
    // Another process was faster.
    if (errnoOf(cause) === 'EEXIST' && statSync(path, { throwIfNoEntry: false })?.isFile() === true) return;
    throw new KedgeError('store_unavailable', `the trust store ${quote(path, 200)} cannot be created`, {
      cause,
      hint: `check the data folder and its permissions (${errnoOf(cause) ?? 'unknown'})`,
    });
  }
}

function recognise(database: DatabaseSync, path: string): 'ours' | 'empty' {
  const application = pragma(database, 'application_id');
  const layout = pragma(database, 'user_version');
  const tables = database.prepare('SELECT count(*) AS n FROM sqlite_schema').get()?.['n'];
  if (application === 0 && layout === 0 && tables === 0) return 'empty';
  if (application !== APPLICATION_ID || typeof layout !== 'number' || layout < LAYOUT) {
    throw new KedgeError(
      'store_corrupt',
      `${quote(path, 200)} is a database, but not a trust store of Kedge`,
      {
        hint: 'point the CA at its own data folder; the file was not changed',
      },
    );
  }
  if (layout > LAYOUT) {
    throw new KedgeError(
      'store_newer_version',
      `the trust store ${quote(path, 200)} has layout ${layout}, this Kedge knows up to ${LAYOUT}`,
      { hint: 'run the newer Kedge that wrote it, or restore a backup from before the upgrade' },
    );
  }
  return 'ours';
}

function quickCheck(database: DatabaseSync, path: string): void {
  const answer = pragma(database, 'quick_check', '(1)');
  if (answer === 'ok') return;
  throw new KedgeError('store_corrupt', `the trust store ${quote(path, 200)} is damaged`, {
    hint: RESTORE_HINT,
    cause: new Error(String(answer)),
  });
}

function pragma(database: DatabaseSync, name: string, argument = ''): unknown {
  return Object.values(database.prepare(`PRAGMA ${name}${argument}`).get() ?? {})[0];
}
