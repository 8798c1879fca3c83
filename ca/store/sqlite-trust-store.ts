import { createHash } from 'node:crypto';
import { resolve } from 'node:path';
import type { DatabaseSync, SQLOutputValue, StatementSync } from 'node:sqlite';
import type { Clock } from '../../host/clock.ts';
import { type Random, systemRandom } from '../../host/random.ts';
import { Wakeup } from '../../host/wakeup.ts';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import { RESTORE_HINT, storeError } from './sqlite-error.ts';
import { fileIdentity, openStoreFile } from './sqlite-file.ts';
import type { TrustStore, Version, VersionedDocument } from './trust-store.ts';

/** What a {@link SqliteTrustStore} is made of. */
export interface SqliteTrustStoreOptions {
  /** The database file. Created 0600 when absent, new folders 0700. */
  readonly path: string;
  /** Paces the look at what other processes changed. */
  readonly clock: Clock;
  /** Source of version tags. Default: the system's. */
  readonly random?: Random;
  /** How often a watch looks for changes of other processes, milliseconds. Default 1,000. */
  readonly pollMs?: number;
  /**
   * How long a call waits for another process's transaction, milliseconds. The event loop waits with it; every
   * transaction of a CA is one statement. Default 250.
   */
  readonly busyTimeoutMs?: number;
}

/** A version, in SQL. */
const VERSION = "counter || '.' || tag";

type Row = Readonly<Record<string, SQLOutputValue>>;

interface Statements {
  readonly read: StatementSync;
  readonly insert: StatementSync;
  readonly update: StatementSync;
  readonly dataVersion: StatementSync;
}

/**
 * The embedded {@link TrustStore}: one row in one SQLite file, for the CA processes of one machine.
 *
 * WAL with `synchronous = FULL`: a swap that resolved is on disk. With `secure_delete`, and a checkpoint after
 * each swap, a sealed key that left the document lingers neither in free pages nor in the log. The calls of
 * `node:sqlite` are synchronous: a swap costs about a millisecond, and there are a few a day.
 */
export class SqliteTrustStore implements TrustStore {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #pollMs: number;
  readonly #statements: Statements;
  readonly #changes = new Wakeup();
  /** Identity of the open file: see {@link fileIdentity}. */
  readonly #file: string;
  /** Null once closed. */
  #database: DatabaseSync | null;

  /** Opens or creates the file. Throws `store_unavailable`, `store_corrupt` or `store_newer_version`. */
  constructor(options: SqliteTrustStoreOptions) {
    this.#path = resolve(options.path);
    this.#clock = options.clock;
    this.#random = options.random ?? systemRandom;
    this.#pollMs = options.pollMs ?? 1_000;
    const database = openStoreFile(this.#path, options.busyTimeoutMs ?? 250);
    this.#database = database;
    this.#file = fileIdentity(this.#path);
    this.#statements = prepare(database, this.#path);
  }

  async read(signal: AbortSignal): Promise<VersionedDocument | null> {
    signal.throwIfAborted();
    return this.#read();
  }

  async swap(expected: Version | null, next: Uint8Array, signal: AbortSignal): Promise<Version> {
    signal.throwIfAborted();
    if (next.length > LIMITS.trustStateBytes) {
      throw new KedgeError(
        'message_too_large',
        `a trust state of ${next.length} bytes is over the limit of ${LIMITS.trustStateBytes}`,
      );
    }
    const tag = Buffer.from(this.#random.bytes(8)).toString('hex');
    const digest = sha256(next);
    // `all` runs the statement to its end, which is where it commits; `get` stops at the first row, and the failure
    // of the commit that follows is lost.
    const [row] = this.#guarded(({ insert, update }) =>
      expected === null ? insert.all(tag, next, digest) : update.all(tag, next, digest, expected),
    );
    if (row === undefined) {
      throw new KedgeError('store_conflict', 'the trust state was changed by another writer');
    }
    this.#checkpoint();
    this.#changes.wake();
    return versionOf(row);
  }

  async *watch(signal: AbortSignal): AsyncGenerator<VersionedDocument, never> {
    let yielded: Version | null = null;
    /** SQLite's count of what other connections committed, at the last read; null forces a read. */
    let readAt: SQLOutputValue | null = null;
    for (;;) {
      signal.throwIfAborted();
      const generation = this.#changes.generation;
      const dataVersion = this.#guarded(
        (statements) => statements.dataVersion.get()?.['data_version'] ?? null,
      );
      if (readAt === null || readAt !== dataVersion) {
        const newest = this.#read();
        readAt = dataVersion;
        if (newest !== null && newest.version !== yielded) {
          yielded = newest.version;
          yield newest;
        }
      }
      const sleep = (until: AbortSignal): Promise<void> => this.#clock.sleep(this.#pollMs, until);
      if (await this.#changes.sleep(generation, sleep, signal)) readAt = null;
    }
  }

  async close(): Promise<void> {
    const database = this.#database;
    this.#database = null;
    database?.close();
    this.#changes.wake();
  }

  #read(): VersionedDocument | null {
    const row = this.#guarded((statements) => statements.read.get());
    return row === undefined ? null : documentOf(row, this.#path);
  }

  /** Runs `use` on the open file, and gives its failures their codes. */
  #guarded<T>(use: (statements: Statements) => T): T {
    if (this.#database === null) throw new KedgeError('store_unavailable', 'the trust store is closed');
    try {
      if (fileIdentity(this.#path) !== this.#file) {
        // SQLite would go on with the file that is gone, and save where nobody looks.
        throw new KedgeError('store_unavailable', `the trust store ${quote(this.#path, 200)} was replaced`, {
          hint: 'restart the CA, so that it opens the new file',
        });
      }
      return use(this.#statements);
    } catch (error) {
      throw storeError(error, this.#path);
    }
  }

  #checkpoint(): void {
    try {
      this.#database?.exec('PRAGMA wal_checkpoint(TRUNCATE)');
    } catch {
      // The swap is durable without it; what is wrong with the disk, the next call meets again.
    }
  }
}

function documentOf(row: Row, path: string): VersionedDocument {
  const { document, sha256: digest } = row;
  if (
    !(document instanceof Uint8Array) ||
    !(digest instanceof Uint8Array) ||
    !sha256(document).equals(digest)
  ) {
    throw new KedgeError('store_corrupt', `the document in ${quote(path, 200)} differs from its checksum`, {
      hint: RESTORE_HINT,
    });
  }
  return { version: versionOf(row), document };
}

function versionOf({ version }: Row): Version {
  return String(version);
}

function sha256(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest();
}

function prepare(database: DatabaseSync, path: string): Statements {
  try {
    return {
      read: database.prepare(`SELECT ${VERSION} AS version, document, sha256 FROM trust_state WHERE id = 1`),
      insert: database.prepare(
        `INSERT INTO trust_state (id, counter, tag, document, sha256) VALUES (1, 1, ?, ?, ?)
         ON CONFLICT DO NOTHING RETURNING ${VERSION} AS version`,
      ),
      update: database.prepare(
        `UPDATE trust_state SET counter = counter + 1, tag = ?, document = ?, sha256 = ?
         WHERE id = 1 AND ${VERSION} = ? RETURNING ${VERSION} AS version`,
      ),
      dataVersion: database.prepare('PRAGMA data_version'),
    };
  } catch (error) {
    database.close();
    throw storeError(error, path);
  }
}
