import assert from 'node:assert/strict';
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { createFileDurably, writeFileDurably } from '../../../host/durable-file.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import { asUnprivilegedUser } from '../../support/unprivileged-user.ts';

const OLD = Buffer.from('old');
const NEW = Buffer.from('new content');

const modeOf = (path: string): number => statSync(path).mode & 0o7777;

describe('writing a file durably', () => {
  it('creates the file with exactly the mode that was asked for, whatever the umask', async (t) => {
    const folder = temporaryFolder(t);
    const umask = process.umask(0o077);
    t.after(() => process.umask(umask));
    for (const mode of [0o600, 0o640, 0o444, 0o666]) {
      const path = join(folder, `mode-${mode.toString(8)}`);
      await writeFileDurably(path, NEW, { mode });
      assert.equal(modeOf(path), mode);
      assert.deepEqual(readFileSync(path), NEW);
    }
  });

  it('replaces content and mode of an existing file, and leaves nothing beside it', async (t) => {
    const folder = temporaryFolder(t);
    const path = join(folder, 'file');
    writeFileSync(path, 'longer old content', { mode: 0o644 });
    await writeFileDurably(path, NEW, { mode: 0o600 });
    assert.deepEqual(readFileSync(path), NEW);
    assert.equal(modeOf(path), 0o600);
    assert.deepEqual(readdirSync(folder), ['file']);
  });

  it('gives a reader that holds the old file open all of the old content', async (t) => {
    const path = join(temporaryFolder(t), 'file');
    writeFileSync(path, OLD);
    const before = statSync(path).ino;
    await writeFileDurably(path, NEW, { mode: 0o600 });
    assert.notEqual(statSync(path).ino, before, 'the file was changed in place');
  });

  it('writes an empty file, and one of a megabyte', async (t) => {
    const path = join(temporaryFolder(t), 'file');
    for (const bytes of [Buffer.alloc(0), Buffer.alloc(1024 * 1024, 7)]) {
      await writeFileDurably(path, bytes, { mode: 0o600 });
      assert.deepEqual(readFileSync(path), bytes);
    }
  });

  it('replaces a symbolic link itself, not the file that it leads to', async (t) => {
    const folder = temporaryFolder(t);
    writeFileSync(join(folder, 'target'), OLD);
    symlinkSync('target', join(folder, 'link'));
    await writeFileDurably(join(folder, 'link'), NEW, { mode: 0o600 });
    assert.deepEqual(readFileSync(join(folder, 'target')), OLD);
    assert.deepEqual(readFileSync(join(folder, 'link')), NEW);
  });

  it('sets owner and group, each alone too, and keeps the mode', {
    skip: process.getuid?.() !== 0,
  }, async (t) => {
    const path = join(temporaryFolder(t), 'file');
    const table = [
      { owner: { uid: 1234, gid: 2345 }, want: [1234, 2345] },
      { owner: { uid: 1234 }, want: [1234, 0] },
      { owner: { gid: 2345 }, want: [0, 2345] },
    ];
    for (const { owner, want } of table) {
      await writeFileDurably(path, NEW, { mode: 0o640, ...owner });
      const stat = statSync(path);
      assert.deepEqual([stat.uid, stat.gid, stat.mode & 0o7777], [...want, 0o640]);
    }
  });

  it('leaves one whole content when many write at once', async (t) => {
    const folder = temporaryFolder(t);
    const path = join(folder, 'file');
    const contents = Array.from({ length: 20 }, (_, i) => Buffer.alloc(10_000, i));
    await Promise.all(contents.map((bytes) => writeFileDurably(path, bytes, { mode: 0o600 })));
    const read = readFileSync(path);
    assert.ok(contents.some((bytes) => bytes.equals(read)));
    assert.deepEqual(readdirSync(folder), ['file']);
  });

  it('refuses with file_unwritable, leaves the old file and no temporary', async (t) => {
    const folder = temporaryFolder(t);
    mkdirSync(join(folder, 'folder'));
    writeFileSync(join(folder, 'plain'), OLD);
    const table = [
      {
        name: 'a folder that does not exist',
        path: join(folder, 'none', 'file'),
        want: /ENOENT/,
        hint: /create/,
      },
      { name: 'a folder in its place', path: join(folder, 'folder'), want: /EISDIR/, hint: /is a folder/ },
      {
        name: 'a file as its folder',
        path: join(folder, 'plain', 'file'),
        want: /ENOTDIR/,
        hint: /is a file/,
      },
      {
        name: 'a name that is too long',
        path: join(folder, 'x'.repeat(300)),
        want: /ENAMETOOLONG/,
        hint: /cause/,
      },
    ];
    for (const { name, path, want, hint } of table) {
      await assert.rejects(
        writeFileDurably(path, NEW, { mode: 0o600 }),
        { code: 'file_unwritable', message: want, hint },
        name,
      );
    }
    assert.deepEqual(readdirSync(folder).sort(), ['folder', 'plain']);
  });

  it('refuses a folder without write permission, with a hint', async (t) => {
    const folder = temporaryFolder(t);
    chmodSync(folder, 0o555);
    await asUnprivilegedUser(async () => {
      await assert.rejects(writeFileDurably(join(folder, 'file'), NEW, { mode: 0o600 }), {
        code: 'file_unwritable',
        message: /EACCES/,
        hint: /write permission/,
      });
    });
  });

  it('removes the temporary when the owner cannot be set', async (t) => {
    const folder = temporaryFolder(t);
    chmodSync(folder, 0o777);
    await asUnprivilegedUser(async () => {
      await assert.rejects(writeFileDurably(join(folder, 'file'), NEW, { mode: 0o600, uid: 0 }), {
        code: 'file_unwritable',
        message: /EPERM/,
        hint: /owner/,
      });
    });
    assert.deepEqual(readdirSync(folder), []);
  });
});

describe('creating a file durably', () => {
  it('creates it with its mode, and says so', async (t) => {
    const folder = temporaryFolder(t);
    const path = join(folder, 'file');
    assert.equal(await createFileDurably(path, NEW, { mode: 0o600 }), true);
    assert.deepEqual(readFileSync(path), NEW);
    assert.equal(modeOf(path), 0o600);
    assert.equal(statSync(path).nlink, 1);
    assert.deepEqual(readdirSync(folder), ['file']);
  });

  it('changes nothing when there is a file, a folder or a dangling link', async (t) => {
    const folder = temporaryFolder(t);
    writeFileSync(join(folder, 'file'), OLD);
    mkdirSync(join(folder, 'folder'));
    symlinkSync('nowhere', join(folder, 'link'));
    for (const name of ['file', 'folder', 'link']) {
      assert.equal(await createFileDurably(join(folder, name), NEW, { mode: 0o600 }), false, name);
    }
    assert.deepEqual(readFileSync(join(folder, 'file')), OLD);
    assert.deepEqual(readdirSync(folder).sort(), ['file', 'folder', 'link']);
  });

  it('lets exactly one of many that create it at once win', async (t) => {
    const folder = temporaryFolder(t);
    const path = join(folder, 'file');
    const contents = Array.from({ length: 20 }, (_, i) => Buffer.from(`content ${i}`));
    const created = await Promise.all(
      contents.map((bytes) => createFileDurably(path, bytes, { mode: 0o600 })),
    );
    assert.equal(created.filter(Boolean).length, 1);
    assert.deepEqual(readFileSync(path), contents[created.indexOf(true)]);
    assert.deepEqual(readdirSync(folder), ['file']);
  });

  it('refuses with file_unwritable where it cannot write', async (t) => {
    const path = join(temporaryFolder(t), 'none', 'file');
    await assert.rejects(createFileDurably(path, NEW, { mode: 0o600 }), { code: 'file_unwritable' });
  });
});
