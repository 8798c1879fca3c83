import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, it, type TestContext } from 'node:test';
import { SqliteTrustStore } from '../../../../ca/store/sqlite-trust-store.ts';
import { trustStoreConformance } from '../../../conformance/trust-store.ts';
import { expectCode, expectRejection } from '../../../support/expect-code.ts';
import { FaultyTrustStore } from '../../../support/faulty-trust-store.ts';
import { ManualClock, settle } from '../../../support/manual-clock.ts';
import { temporaryFolder } from '../../../support/temporary-folder.ts';
import { asUnprivilegedUser, NOBODY } from '../../../support/unprivileged-user.ts';

const never = new AbortController().signal;
const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));

trustStoreConformance('the SQLite store', (t) => {
  const clock = new ManualClock();
  const path = join(temporaryFolder(t), 'trust.db');
  return {
    open: async () => new SqliteTrustStore({ path, clock, pollMs: 1_000 }),
    tick: () => clock.advance(1_000),
  };
});

trustStoreConformance('the store of the fault tests', (t) => {
  const clock = new ManualClock();
  const path = join(temporaryFolder(t), 'trust.db');
  return {
    open: async () => new FaultyTrustStore(new SqliteTrustStore({ path, clock, pollMs: 1_000 })),
    tick: () => clock.advance(1_000),
  };
});

function setUp(t: TestContext, document: string | null = 'one') {
  const folder = temporaryFolder(t);
  const path = join(folder, 'trust.db');
  const clock = new ManualClock();
  const open = (): SqliteTrustStore => {
    const store = new SqliteTrustStore({ path, clock });
    t.after(() => store.close());
    return store;
  };
  const write = async (text: string): Promise<void> => {
    const store = open();
    await store.swap((await store.read(never))?.version ?? null, bytes(text), never);
    await store.close();
  };
  const read = async (): Promise<string> => {
    const store = open();
    const read = await store.read(never);
    await store.close();
    return Buffer.from(read?.document ?? []).toString();
  };
  const ready = document === null ? Promise.resolve() : write(document);
  return { folder, path, clock, open, write, read, ready };
}

/** Runs SQL on the file, as someone with the sqlite3 shell would. */
function edit(path: string, ...statements: string[]): void {
  const database = new DatabaseSync(path);
  for (const statement of statements) database.exec(statement);
  database.close();
}

describe('the file of the SQLite store', () => {
  it('is created 0600, with its log files, in a folder created 0700, whatever the umask', async (t) => {
    const umask = process.umask(0);
    t.after(() => process.umask(umask));
    const path = join(temporaryFolder(t), 'a', 'b', 'trust.db');
    const store = new SqliteTrustStore({ path, clock: new ManualClock() });
    t.after(() => store.close());
    await store.swap(null, bytes('one'), never);
    const folder = join(path, '..');
    assert.equal(statSync(folder).mode & 0o777, 0o700);
    assert.ok(readdirSync(folder).length >= 2);
    for (const name of readdirSync(folder)) {
      assert.equal(statSync(join(folder, name)).mode & 0o777, 0o600, name);
    }
  });

  it('keeps no older document in any of its files', async (t) => {
    const { folder, open, ready } = setUp(t, 'a sealed key that was destroyed');
    await ready;
    const store = open();
    const version = (await store.read(never))!.version;
    await store.swap(version, bytes('nothing'), never);
    for (const name of readdirSync(folder)) {
      assert.ok(
        !readFileSync(join(folder, name)).includes('a sealed key'),
        `${name} still has the old document`,
      );
    }
  });

  it('is durable when a swap has resolved: killed without warning, the process loses nothing', async (t) => {
    const { path, read } = setUp(t, null);
    const script = `
      const { SqliteTrustStore } = await import(${JSON.stringify(join(import.meta.dirname, '../../../../ca/store/sqlite-trust-store.ts'))});
      const { systemClock } = await import(${JSON.stringify(join(import.meta.dirname, '../../../../host/clock.ts'))});
      const store = new SqliteTrustStore({ path: process.argv[1], clock: systemClock });
      let version = null;
      for (let i = 0; i < 10; i += 1) version = await store.swap(version, Buffer.from('swap ' + i), new AbortController().signal);
      process.kill(process.pid, 'SIGKILL');
    `;
    const { signal } = spawnSync(process.execPath, ['--input-type=module', '-e', script, path]);
    assert.equal(signal, 'SIGKILL');
    assert.equal(await read(), 'swap 9');
  });

  it('opens an empty file as an empty store', async (t) => {
    const { path, open } = setUp(t, null);
    writeFileSync(path, '', { mode: 0o600 });
    assert.equal(await open().read(never), null);
  });
});

describe('a file that is not a good store', () => {
  const table: readonly {
    name: string;
    spoil: (path: string) => void;
    code: 'store_corrupt' | 'store_newer_version' | 'store_unavailable';
    message: RegExp;
    hint: RegExp;
  }[] = [
    {
      name: 'random bytes',
      spoil: (path) => writeFileSync(path, Buffer.alloc(8192, 0x5a)),
      code: 'store_corrupt',
      message: /damaged, or not one of Kedge/,
      hint: /backup/,
    },
    {
      name: 'a text file',
      spoil: (path) => writeFileSync(path, 'not a database, but a text that someone has put here by mistake'),
      code: 'store_corrupt',
      message: /damaged, or not one of Kedge/,
      hint: /backup/,
    },
    {
      name: 'a file cut in the middle of a page',
      spoil: (path) => truncateSync(path, 5_000),
      code: 'store_corrupt',
      message: /damaged/,
      hint: /backup/,
    },
    {
      name: 'a file that lost its last page',
      spoil: (path) => truncateSync(path, statSync(path).size - 4096),
      code: 'store_corrupt',
      message: /damaged/,
      hint: /backup/,
    },
    {
      name: 'a file whose pages are not linked as they should be',
      spoil: (path) => {
        // An overflow page begins with the number of the next one; 0 says that it is the last.
        const file = readFileSync(path);
        file.writeUInt32BE(0, 3 * 4096);
        writeFileSync(path, file);
      },
      code: 'store_corrupt',
      message: /is damaged$/,
      hint: /backup/,
    },
    {
      name: 'the database of another program',
      spoil: (path) => {
        rmSync(path);
        edit(path, 'CREATE TABLE users (name TEXT)');
      },
      code: 'store_corrupt',
      message: /not a trust store of Kedge/,
      hint: /own data folder; the file was not changed/,
    },
    {
      name: 'a database with the application id of another program',
      spoil: (path) => edit(path, 'PRAGMA application_id = 1234'),
      code: 'store_corrupt',
      message: /not a trust store of Kedge/,
      hint: /own data folder/,
    },
    {
      name: 'a store with a layout that never was',
      spoil: (path) => edit(path, 'PRAGMA user_version = -1'),
      code: 'store_corrupt',
      message: /not a trust store/,
      hint: /own data folder/,
    },
    {
      name: 'a store of a newer Kedge',
      spoil: (path) => edit(path, 'PRAGMA user_version = 2'),
      code: 'store_newer_version',
      message: /has layout 2, this Kedge knows up to 1/,
      hint: /newer Kedge/,
    },
    {
      name: 'a store without its table',
      spoil: (path) => edit(path, 'DROP TABLE trust_state'),
      code: 'store_corrupt',
      message: /not one of Kedge/,
      hint: /backup/,
    },
    {
      name: 'a store whose table lost a column',
      spoil: (path) => edit(path, 'ALTER TABLE trust_state DROP COLUMN sha256'),
      code: 'store_corrupt',
      message: /not one of Kedge/,
      hint: /backup/,
    },
    {
      name: 'a folder in its place',
      spoil: (path) => {
        rmSync(path);
        mkdirSync(path);
      },
      code: 'store_unavailable',
      message: /cannot be opened/,
      hint: /permissions/,
    },
  ];

  for (const { name, spoil, code, message, hint } of table) {
    it(`is refused as ${code}: ${name}`, async (t) => {
      const { path, open, ready } = setUp(t, 'x'.repeat(20_000));
      await ready;
      spoil(path);
      const before = statSync(path).isFile() ? readFileSync(path) : null;
      const error = expectCode(code, open);
      assert.match(error.message, message);
      assert.match(error.hint ?? '', hint);
      if (before !== null) assert.deepEqual(readFileSync(path), before, 'the refused file was changed');
    });
  }

  it('is refused at the first read when only the document was altered', async (t) => {
    const { path, open, ready } = setUp(t);
    await ready;
    edit(path, "UPDATE trust_state SET document = CAST('two' AS BLOB)");
    const error = await expectRejection('store_corrupt', open().read(never));
    assert.match(error.message, /checksum/);
  });

  it('is refused when one bit of the document on disk has turned', async (t) => {
    const { path, open, ready } = setUp(t, `begin ${'x'.repeat(500)} end`);
    await ready;
    const file = readFileSync(path);
    const at = file.indexOf('xxxxxxxx');
    file[at] = file[at]! ^ 1;
    writeFileSync(path, file);
    await assert.rejects(async () => open().read(never), { code: 'store_corrupt' });
  });

  it('is refused as store_unavailable in a folder that cannot be made', async (t) => {
    const folder = temporaryFolder(t);
    writeFileSync(join(folder, 'file'), '');
    const path = join(folder, 'file', 'trust.db');
    const error = expectCode(
      'store_unavailable',
      () => new SqliteTrustStore({ path, clock: new ManualClock() }),
    );
    assert.match(error.hint ?? '', /ENOTDIR|EEXIST/);
  });
});

describe('a store that cannot be written', () => {
  it('is refused at open when the file is read-only, and says so', async (t) => {
    const { folder, path, open, ready } = setUp(t);
    await ready;
    chmodSync(folder, 0o755);
    chmodSync(path, 0o444);
    const error = await asUnprivilegedUser(() => expectCode('store_unavailable', open));
    assert.match(`${error.message} ${error.hint}`, /read-only|writable/);
  });

  it('is refused at open when the folder is closed to us', async (t) => {
    const { folder, open, ready } = setUp(t);
    await ready;
    chmodSync(folder, 0o000);
    const error = await asUnprivilegedUser(() => expectCode('store_unavailable', open));
    assert.match(error.hint ?? '', /permission/);
  });

  it('answers store_unavailable on a full disk, goes on reading, and works when there is room again', async (t) => {
    const { path, open, read, ready } = setUp(t);
    await ready;
    // A limit on the size of files stands for the disk: it needs no mount, and SQLite meets it in the same place.
    const script = `
      const { SqliteTrustStore } = await import(${JSON.stringify(join(import.meta.dirname, '../../../../ca/store/sqlite-trust-store.ts'))});
      const { systemClock } = await import(${JSON.stringify(join(import.meta.dirname, '../../../../host/clock.ts'))});
      const never = new AbortController().signal;
      const store = new SqliteTrustStore({ path: process.argv[1], clock: systemClock });
      const { version } = await store.read(never);
      const failure = await store.swap(version, Buffer.alloc(500_000), never).catch((error) => error);
      const after = await store.read(never);
      console.log(JSON.stringify({ code: failure.code, hint: failure.hint, same: after.version === version }));
    `;
    const shell = 'ulimit -f 128; exec "$0" --input-type=module -e "$1" "$2"';
    const { stdout, stderr } = spawnSync('bash', ['-c', shell, process.execPath, script, path], {
      encoding: 'utf8',
      // Coverage would be cut off at the limit as well, and the runner could not read it.
      env: { ...process.env, NODE_V8_COVERAGE: '' },
    });
    assert.notEqual(stdout, '', stderr);
    const { code, hint, same } = JSON.parse(stdout) as { code: string; hint: string; same: boolean };
    assert.deepEqual([code, same], ['store_unavailable', true]);
    assert.match(hint, /disk/);
    assert.equal(await read(), 'one');
    const store = open();
    await store.swap((await store.read(never))!.version, bytes('two'), never);
  });

  it('answers store_unavailable while another program holds the file, then goes on', async (t) => {
    const { path, clock, ready } = setUp(t);
    await ready;
    const store = new SqliteTrustStore({ path, clock, busyTimeoutMs: 1 });
    t.after(() => store.close());
    const { version } = (await store.read(never))!;
    const other = new DatabaseSync(path);
    t.after(() => other.close());
    other.exec('BEGIN IMMEDIATE');
    const error = await expectRejection('store_unavailable', store.swap(version, bytes('two'), never));
    assert.match(error.message, /locked/);
    other.exec('ROLLBACK');
    await store.swap(version, bytes('two'), never);
  });
});

describe('a store file that changes under a running CA', () => {
  const table = [
    { name: 'deleted', change: (path: string) => rmSync(path), message: /was removed/ },
    { name: 'moved away', change: (path: string) => renameSync(path, `${path}.old`), message: /was removed/ },
    {
      name: 'replaced by a copy',
      change: (path: string) => {
        copyFileSync(path, `${path}.copy`);
        renameSync(`${path}.copy`, path);
      },
      message: /was replaced/,
    },
  ];
  for (const { name, change, message } of table) {
    it(`is noticed when it was ${name}: nothing is saved where nobody looks`, async (t) => {
      const { path, clock, open, ready } = setUp(t);
      await ready;
      const store = open();
      const { version } = (await store.read(never))!;
      const steps = store.watch(never)[Symbol.asyncIterator]();
      await steps.next();
      const next = steps.next();
      change(path);
      assert.match((await expectRejection('store_unavailable', store.read(never))).message, message);
      await expectRejection('store_unavailable', store.swap(version, bytes('two'), never));
      const watched = expectRejection('store_unavailable', next);
      await clock.advance(1_000);
      await watched;
    });
  }

  it('never takes a restored backup for the version that it remembers', async (t) => {
    const { path, open, ready } = setUp(t);
    await ready;
    const backup = readFileSync(path);
    const first = open();
    const remembered = await first.swap((await first.read(never))!.version, bytes('two'), never);
    await first.close();
    writeFileSync(path, backup);
    const second = open();
    const other = await second.swap((await second.read(never))!.version, bytes('another two'), never);
    assert.notEqual(other, remembered);
    await expectRejection('store_conflict', second.swap(remembered, bytes('three'), never));
  });
});

describe('a watch of the SQLite store', () => {
  it('sees a change of this process at once, without waiting for its clock', async (t) => {
    const { open, ready } = setUp(t);
    await ready;
    const store = open();
    const steps = store.watch(never)[Symbol.asyncIterator]();
    const first = await steps.next();
    const next = steps.next();
    await settle();
    await store.swap((first.value as { version: string }).version, bytes('two'), never);
    assert.equal(Buffer.from(((await next).value as { document: Uint8Array }).document).toString(), 'two');
  });

  it('sees a change of another process when its clock says so, not before', async (t) => {
    const { path, clock, open, ready } = setUp(t);
    await ready;
    const store = open();
    const seen: string[] = [];
    const stop = new AbortController();
    t.after(() => stop.abort());
    const ended = (async () => {
      for await (const { document } of store.watch(stop.signal)) seen.push(Buffer.from(document).toString());
    })();
    ended.catch(() => undefined);
    await settle();
    const module = (file: string): string => JSON.stringify(join(import.meta.dirname, '../../../..', file));
    const script = `
      const { SqliteTrustStore } = await import(${module('ca/store/sqlite-trust-store.ts')});
      const { systemClock } = await import(${module('host/clock.ts')});
      const never = new AbortController().signal;
      const store = new SqliteTrustStore({ path: process.argv[1], clock: systemClock });
      await store.swap((await store.read(never)).version, Buffer.from('from another process'), never);
      await store.close();
    `;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script, path], { stdio: 'inherit' });
    assert.equal(await new Promise((resolve) => child.once('exit', resolve)), 0);
    await settle();
    assert.deepEqual(seen, ['one']);
    await clock.advance(1_000);
    assert.deepEqual(seen, ['one', 'from another process']);
  });

  it('reads the document only when another connection has committed', async (t) => {
    const { path, clock, open, ready } = setUp(t);
    await ready;
    const store = open();
    const stop = new AbortController();
    t.after(() => stop.abort());
    const ended = (async () => {
      for await (const _ of store.watch(stop.signal));
    })();
    ended.catch(() => undefined);
    await clock.advance(1_000);
    // Whoever alters the document and keeps the counter of changes is not seen; a real commit is.
    edit(path, "UPDATE trust_state SET document = CAST('no checksum' AS BLOB)");
    const failed = expectRejection('store_corrupt', ended);
    await clock.advance(1_000);
    await failed;
  });
});

it('leaves files that others own to others', { skip: process.getuid?.() !== 0 }, async (t) => {
  const folder = temporaryFolder(t);
  chownSync(folder, NOBODY, NOBODY);
  await asUnprivilegedUser(async () => {
    const store = new SqliteTrustStore({ path: join(folder, 'trust.db'), clock: new ManualClock() });
    await store.swap(null, bytes('one'), never);
    await store.close();
  });
  assert.equal(statSync(join(folder, 'trust.db')).uid, NOBODY);
  assert.ok(!existsSync(join(folder, 'trust.db-wal')));
});
