import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { DataFolderLock } from '../../../../ca/store/data-folder-lock.ts';
import { expectCode } from '../../../support/expect-code.ts';
import { temporaryFolder } from '../../../support/temporary-folder.ts';
import { asUnprivilegedUser } from '../../../support/unprivileged-user.ts';

/** Another process that holds the folder. */
async function holder(t: TestContext, folder: string): Promise<ChildProcess> {
  const file = JSON.stringify(join(import.meta.dirname, '../../../../ca/store/data-folder-lock.ts'));
  const script = `
    const { DataFolderLock } = await import(${file});
    DataFolderLock.acquire(process.argv[1]);
    console.log('held');
    setInterval(() => globalThis.gc?.(), 5);
  `;
  const child = spawn(process.execPath, ['--expose-gc', '--input-type=module', '-e', script, folder], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  return child;
}

describe('the lock of a data folder', () => {
  it('creates the folder 0700 and the lock file 0600', (t) => {
    const umask = process.umask(0);
    t.after(() => process.umask(umask));
    const folder = join(temporaryFolder(t), 'a', 'b');
    const lock = DataFolderLock.acquire(folder);
    t.after(() => lock.release());
    assert.equal(lock.folder, folder);
    assert.equal(statSync(folder).mode & 0o777, 0o700);
    assert.equal(statSync(join(folder, 'lock')).mode & 0o777, 0o600);
  });

  it('refuses a second one in the same process, until the first is released, which may be repeated', (t) => {
    const folder = temporaryFolder(t);
    const first = DataFolderLock.acquire(folder);
    expectCode('data_folder_in_use', () => DataFolderLock.acquire(folder));
    first.release();
    first.release();
    const second = DataFolderLock.acquire(folder);
    expectCode('data_folder_in_use', () => DataFolderLock.acquire(folder));
    second.release();
  });

  it('refuses a second process, naming the folder and, on Linux, the process that holds it', async (t) => {
    const folder = temporaryFolder(t);
    const child = await holder(t, folder);
    const error = expectCode('data_folder_in_use', () => DataFolderLock.acquire(folder));
    assert.ok(error.message.includes(JSON.stringify(folder)), error.message);
    if (process.platform === 'linux')
      assert.ok(error.message.endsWith(`(process ${child.pid})`), error.message);
    assert.match(error.hint ?? '', /stop it/);
  });

  it('is not lost to the garbage collector when its owner drops it', async (t) => {
    const folder = temporaryFolder(t);
    await holder(t, folder);
    for (let i = 0; i < 20; i += 1) {
      await new Promise((resolve) => setImmediate(resolve));
      expectCode('data_folder_in_use', () => DataFolderLock.acquire(folder));
    }
  });

  it('is free as soon as its process was killed, with nothing to clean up', async (t) => {
    const folder = temporaryFolder(t);
    const child = await holder(t, folder);
    child.kill('SIGKILL');
    await once(child, 'exit');
    DataFolderLock.acquire(folder).release();
  });

  it('lets other folders be', (t) => {
    const locks = [temporaryFolder(t), temporaryFolder(t)].map((folder) => DataFolderLock.acquire(folder));
    for (const lock of locks) lock.release();
  });

  it('keeps the content of a lock file that is there already', (t) => {
    const folder = temporaryFolder(t);
    DataFolderLock.acquire(folder).release();
    const before = readFileSync(join(folder, 'lock'));
    DataFolderLock.acquire(folder).release();
    assert.deepEqual(readFileSync(join(folder, 'lock')), before);
  });

  const table = [
    {
      name: 'a folder in place of the lock file',
      spoil: (folder: string) => mkdirSync(join(folder, 'lock')),
    },
    {
      name: 'another file in place of the lock file',
      spoil: (folder: string) => writeFileSync(join(folder, 'lock'), 'something else'.repeat(100)),
    },
    { name: 'a folder without write permission', spoil: (folder: string) => chmodSync(folder, 0o555) },
  ];
  for (const { name, spoil } of table) {
    it(`is file_unwritable: ${name}`, async (t) => {
      const folder = temporaryFolder(t);
      spoil(folder);
      const acquire = (): unknown => DataFolderLock.acquire(folder);
      const error = await asUnprivilegedUser(() => expectCode('file_unwritable', acquire));
      assert.match(error.hint ?? '', /writable/);
    });
  }

  it('is file_unwritable when the folder is a file', (t) => {
    const path = join(temporaryFolder(t), 'file');
    writeFileSync(path, '');
    expectCode('file_unwritable', () => DataFolderLock.acquire(path));
  });
});
