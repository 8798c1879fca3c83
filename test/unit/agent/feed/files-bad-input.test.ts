/**
 * What can be wrong with the folder of a files feed: each refused with its code, what is not ours left alone, the
 * version before still served, and the feed well again once the cause is gone.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import { FilesFeed, type FilesFeedOptions } from '../../../../agent/feed/files-feed.ts';
import type { IdentitySnapshot } from '../../../../agent/snapshot.ts';
import { systemClock } from '../../../../host/clock.ts';
import { silentLog } from '../../../../host/log.ts';
import { expectRejection } from '../../../support/expect-code.ts';
import { SnapshotFactory } from '../../../support/snapshots.ts';
import { temporaryFolder } from '../../../support/temporary-folder.ts';
import { asUnprivilegedUser, NOBODY } from '../../../support/unprivileged-user.ts';

const signal = new AbortController().signal;
const isRoot = process.geteuid?.() === 0;
const serialIn = (folder: string): string =>
  new X509Certificate(readFileSync(join(folder, 'tls.crt'))).serialNumber.toLowerCase();
const serialOf = ({ svid }: IdentitySnapshot): string => Buffer.from(svid.serialNumber).toString('hex');
const open = (folder: string, options: Partial<FilesFeedOptions> = {}): Promise<FilesFeed> =>
  FilesFeed.open({
    folder,
    preset: 'nginx',
    keyFormat: 'pkcs8',
    keyMode: 0o600,
    bundleDocument: false,
    clock: systemClock,
    log: silentLog,
    onConsumersChange: () => {},
    ...options,
  });

let first: IdentitySnapshot;
let second: IdentitySnapshot;
before(async () => {
  const factory = await SnapshotFactory.make(Date.now());
  [first, second] = [await factory.snapshot(1), await factory.snapshot(2)];
});

describe('a files feed that cannot have its folder', () => {
  const cases: readonly {
    readonly name: string;
    /** Puts it there, and gives what must look the same afterwards. */
    readonly make: (folder: string) => () => unknown;
    readonly cure: (folder: string) => void;
    readonly message: RegExp;
  }[] = [
    {
      name: 'because it is a file',
      make(folder) {
        writeFileSync(folder, 'mine');
        return () => readFileSync(folder, 'utf8');
      },
      cure: unlinkSync,
      message: /cannot be written: ENOTDIR$/,
    },
    {
      name: 'because it is a symlink to itself',
      make(folder) {
        symlinkSync(folder, folder);
        return () => readlinkSync(folder);
      },
      cure: unlinkSync,
      message: /cannot be written: ELOOP$/,
    },
    {
      name: 'because it is a symlink to nothing',
      make(folder) {
        symlinkSync('nowhere', folder);
        return () => readlinkSync(folder);
      },
      cure: unlinkSync,
      message: /cannot be written: ENOENT$/,
    },
    {
      name: 'because a folder above it is a file',
      make(folder) {
        rmSync(join(folder, '..'), { recursive: true });
        writeFileSync(join(folder, '..'), 'mine');
        return () => readFileSync(join(folder, '..'), 'utf8');
      },
      cure(folder) {
        unlinkSync(join(folder, '..'));
      },
      message: /cannot be written: ENOTDIR$/,
    },
    ...(
      [
        ['a file', (path: string): void => writeFileSync(path, 'mine')],
        ['a folder', (path: string): void => mkdirSync(path)],
        ['a symlink to elsewhere', (path: string): void => symlinkSync('/etc/passwd', path)],
        ['a symlink to itself', (path: string): void => symlinkSync('tls.key', path)],
        ['a symlink that only looks like ours', (path: string): void => symlinkSync('..data/tls.crt', path)],
      ] as const
    ).map(([what, put]) => ({
      name: `because tls.key is ${what}`,
      make(folder: string) {
        mkdirSync(folder);
        put(join(folder, 'tls.key'));
        return () => [readdirSync(folder), lstatSync(join(folder, 'tls.key')).ino];
      },
      cure(folder: string) {
        rmSync(join(folder, 'tls.key'), { recursive: true });
      },
      message: /tls\.key" exists and was not written by Kedge$/,
    })),
    {
      name: 'because ..data is a folder with something in it',
      make(folder) {
        mkdirSync(join(folder, '..data'), { recursive: true });
        writeFileSync(join(folder, '..data', 'precious'), 'mine');
        return () => readFileSync(join(folder, '..data', 'precious'), 'utf8');
      },
      cure(folder) {
        rmSync(join(folder, '..data'), { recursive: true });
      },
      message: /cannot be written: (EISDIR|ENOTEMPTY|EEXIST)$/,
    },
    {
      name: 'because ..data_tmp is a folder',
      make(folder) {
        mkdirSync(join(folder, '..data_tmp'), { recursive: true });
        return () => lstatSync(join(folder, '..data_tmp')).ino;
      },
      cure(folder) {
        rmSync(join(folder, '..data_tmp'), { recursive: true });
      },
      message: /cannot be written: (EISDIR|EPERM)$/,
    },
  ];
  for (const { name, make, cure, message } of cases) {
    it(`${name}: file_unwritable, that is left as it is, and all is well once it is gone`, async (t) => {
      const folder = join(temporaryFolder(t), 'above', 'files');
      mkdirSync(join(folder, '..'));
      const look = make(folder);
      const before = look();
      const feed = await open(folder);
      const error = await expectRejection('file_unwritable', feed.publish(first, signal));
      assert.match(error.message, message);
      assert.ok((error.hint ?? '').length > 0);
      assert.deepEqual(look(), before);
      cure(folder);
      await feed.publish(first, signal);
      assert.equal(serialIn(folder), serialOf(first));
      await feed.close();
    });
  }

  const unprivileged: readonly { readonly name: string; readonly spoil: (folder: string) => void }[] = [
    { name: 'read-only', spoil: (folder) => chmodSync(folder, 0o555) },
    {
      name: 'of another user',
      spoil(folder) {
        chownSync(folder, 0, 0);
        chmodSync(folder, 0o755);
      },
    },
  ];
  for (const { name, spoil } of unprivileged) {
    const skip = !isRoot && name !== 'read-only' ? 'only root can give a folder away' : false;
    it(`because it has become ${name}: file_unwritable, and the version before stays`, {
      skip,
    }, async (t) => {
      const above = temporaryFolder(t);
      const folder = join(above, 'files');
      mkdirSync(folder);
      if (isRoot) for (const path of [above, folder]) chownSync(path, NOBODY, NOBODY);
      const feed = await asUnprivilegedUser(() => open(folder));
      await asUnprivilegedUser(() => feed.publish(first, signal));
      spoil(folder);
      await asUnprivilegedUser(() => expectRejection('file_unwritable', feed.publish(second, signal)));
      assert.equal(serialIn(folder), serialOf(first));
      chmodSync(folder, 0o755);
      if (isRoot) chownSync(folder, NOBODY, NOBODY);
      await asUnprivilegedUser(() => feed.publish(second, signal));
      assert.equal(serialIn(folder), serialOf(second));
      await feed.close();
    });
  }

  it('because it may not give files away: file_unwritable, and no key is left behind', async (t) => {
    const folder = join(temporaryFolder(t), 'files');
    mkdirSync(folder);
    if (isRoot) {
      chmodSync(join(folder, '..'), 0o755);
      chownSync(folder, NOBODY, NOBODY);
    }
    await asUnprivilegedUser(async () => {
      const feed = await open(folder, { owner: { uid: 0, gid: null } });
      await expectRejection('file_unwritable', feed.publish(first, signal));
    });
    assert.deepEqual(readdirSync(folder), []);
  });

  it('because it is full: file_unwritable, the version before stays, and nothing half written', async (t) => {
    const folder = join(temporaryFolder(t), 'full');
    mkdirSync(folder);
    // Eight pages: a version fits, and the one after it only when nothing else is there.
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=32k', 'kedge-test', folder]);
    if (mounted.status !== 0) {
      t.skip('a small file system can be mounted by root alone');
      return;
    }
    try {
      await fillAndRecover(folder);
    } finally {
      spawnSync('umount', [folder]);
    }
  });

  const fillAndRecover = async (folder: string): Promise<void> => {
    const feed = await open(folder);
    await feed.publish(first, signal);
    const filler = join(folder, 'filler');
    try {
      writeFileSync(filler, Buffer.alloc(100_000));
    } catch {
      // As much as there was room for.
    }
    const before = readdirSync(folder);
    const error = await expectRejection('file_unwritable', feed.publish(second, signal));
    assert.match(error.message, /ENOSPC$/);
    assert.deepEqual(readdirSync(folder), before);
    assert.equal(serialIn(folder), serialOf(first));
    unlinkSync(filler);
    await feed.publish(second, signal);
    assert.equal(serialIn(folder), serialOf(second));
    await feed.withdraw();
    assert.ok(!existsSync(join(folder, 'tls.key')));
    await feed.close();
  };
});
