import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, it } from 'node:test';
import { SQLITE_BUSY, sqliteResultCode, storeError } from '../../../../ca/store/sqlite-error.ts';
import { KedgeError } from '../../../../pki/kedge-error.ts';
import { temporaryFolder } from '../../../support/temporary-folder.ts';

/** What `action` throws. */
function thrownBy(action: () => unknown): unknown {
  try {
    action();
  } catch (error) {
    return error;
  }
  return assert.fail('nothing was thrown');
}

describe('an error of SQLite', () => {
  const table: readonly {
    name: string;
    provoke: (folder: string) => unknown;
    resultCode: number;
    code: string;
    message: RegExp;
    hint: RegExp;
  }[] = [
    {
      name: 'SQLITE_FULL',
      provoke: (folder) => {
        const database = new DatabaseSync(join(folder, 'db'));
        database.exec('CREATE TABLE t (b BLOB); PRAGMA max_page_count = 3');
        return thrownBy(() => database.prepare('INSERT INTO t VALUES (zeroblob(100000))').run());
      },
      resultCode: 13,
      code: 'store_unavailable',
      message: /the disk is full/,
      hint: /free space/,
    },
    {
      name: 'SQLITE_READONLY',
      provoke: (folder) => {
        new DatabaseSync(join(folder, 'db')).exec('CREATE TABLE t (b BLOB)');
        const database = new DatabaseSync(join(folder, 'db'), { readOnly: true });
        return thrownBy(() => database.exec("INSERT INTO t VALUES (x'00')"));
      },
      resultCode: 8,
      code: 'store_unavailable',
      message: /read-only/,
      hint: /writable/,
    },
    {
      name: 'SQLITE_BUSY',
      provoke: (folder) => {
        new DatabaseSync(join(folder, 'db')).exec('BEGIN EXCLUSIVE');
        return thrownBy(() => new DatabaseSync(join(folder, 'db')).exec('BEGIN EXCLUSIVE'));
      },
      resultCode: SQLITE_BUSY,
      code: 'store_unavailable',
      message: /locked/,
      hint: /close it/,
    },
    {
      name: 'SQLITE_CANTOPEN',
      provoke: (folder) => {
        mkdirSync(join(folder, 'db'));
        return thrownBy(() => new DatabaseSync(join(folder, 'db')));
      },
      resultCode: 14,
      code: 'store_unavailable',
      message: /cannot be opened/,
      hint: /permissions/,
    },
    {
      name: 'SQLITE_NOTADB',
      provoke: (folder) => {
        writeFileSync(join(folder, 'db'), 'not a database'.repeat(100));
        return thrownBy(() => new DatabaseSync(join(folder, 'db')).exec('SELECT * FROM sqlite_schema'));
      },
      resultCode: 26,
      code: 'store_corrupt',
      message: /damaged/,
      hint: /backup/,
    },
    {
      name: 'SQLITE_CONSTRAINT, which no hint is made for',
      provoke: () => {
        const database = new DatabaseSync(':memory:');
        database.exec('CREATE TABLE t (n INTEGER NOT NULL)');
        return thrownBy(() => database.exec('INSERT INTO t VALUES (NULL)'));
      },
      resultCode: 19,
      code: 'store_unavailable',
      message: /it failed/,
      hint: /cause in the log/,
    },
  ];

  for (const { name, provoke, resultCode, code, message, hint } of table) {
    it(`is translated, with what to do: ${name}`, (t) => {
      const cause = provoke(temporaryFolder(t));
      assert.equal(sqliteResultCode(cause), resultCode);
      const error = storeError(cause, '/data/trust.db');
      assert.equal(error.code, code);
      assert.match(error.message, message);
      assert.match(error.message, /"\/data\/trust\.db"/);
      assert.match(error.hint ?? '', hint);
      assert.equal(error.cause, cause);
    });
  }

  it('is none when it is a system error, which is store_unavailable too', () => {
    const cause = new Error('EACCES');
    assert.equal(sqliteResultCode(cause), undefined);
    assert.equal(sqliteResultCode('text'), undefined);
    assert.equal(storeError(cause, 'x').code, 'store_unavailable');
  });

  it('comes back as it is when it has a code already', () => {
    const error = new KedgeError('store_conflict', 'x');
    assert.equal(storeError(error, 'y'), error);
  });
});
