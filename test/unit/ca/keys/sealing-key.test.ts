import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import {
  readOrCreateSealingKey,
  readSealingKey,
  SEALING_KEY_BYTES,
} from '../../../../ca/keys/sealing-key.ts';
import { systemRandom } from '../../../../host/random.ts';
import { expectRejection } from '../../../support/expect-code.ts';
import { temporaryFolder } from '../../../support/temporary-folder.ts';
import { asUnprivilegedUser, NOBODY } from '../../../support/unprivileged-user.ts';

const KEY = Uint8Array.from({ length: SEALING_KEY_BYTES }, (_, i) => i);
const isRoot = process.getuid?.() === 0;

function writeKey(path: string, mode: number, bytes: Uint8Array = KEY): void {
  writeFileSync(path, bytes);
  chmodSync(path, mode);
}

describe('a sealing key file', () => {
  it('is read when it holds 32 bytes that only its owner may read', async (t) => {
    const path = join(temporaryFolder(t), 'sealing.key');
    for (const mode of [0o600, 0o400]) {
      writeKey(path, mode);
      assert.deepEqual(Uint8Array.from((await readSealingKey(path)).expose()), KEY);
      chmodSync(path, 0o600);
    }
  });

  it('is refused with every permission that lets others at it', async (t) => {
    const path = join(temporaryFolder(t), 'sealing.key');
    for (const bit of [0o001, 0o002, 0o004, 0o010, 0o020, 0o040]) {
      writeKey(path, 0o600 | bit);
      const error = await expectRejection('sealing_key_invalid', readSealingKey(path));
      assert.match(error.message, new RegExp(`mode 0${(0o600 | bit).toString(8)}`));
      assert.match(error.hint ?? '', /chmod 600/);
    }
  });

  it('may be read by our group when root owns it, as a Kubernetes Secret volume has it', {
    skip: !isRoot,
  }, async (t) => {
    const folder = temporaryFolder(t);
    chmodSync(folder, 0o755);
    const path = join(folder, 'sealing.key');
    writeKey(path, 0o440);
    chownSync(path, 0, process.getegid?.() ?? 0);
    await asUnprivilegedUser(async () => {
      assert.deepEqual(Uint8Array.from((await readSealingKey(path)).expose()), KEY);
    });
    for (const mode of [0o460, 0o444, 0o450]) {
      chmodSync(path, mode);
      await asUnprivilegedUser(() => expectRejection('sealing_key_invalid', readSealingKey(path)));
    }
  });

  it('is refused when it belongs to another user', { skip: !isRoot }, async (t) => {
    const path = join(temporaryFolder(t), 'sealing.key');
    writeKey(path, 0o600);
    chownSync(path, NOBODY, NOBODY);
    const error = await expectRejection('sealing_key_invalid', readSealingKey(path));
    assert.match(error.message, /belongs to user 65534/);
  });

  it('is refused when it is not 32 bytes long', async (t) => {
    const path = join(temporaryFolder(t), 'sealing.key');
    for (const length of [0, 1, 31, 33, 64, 100_000]) {
      writeKey(path, 0o600, new Uint8Array(length));
      const error = await expectRejection('sealing_key_invalid', readSealingKey(path));
      assert.match(error.message, /not 32 bytes/, `${length} bytes`);
      assert.match(error.hint ?? '', /raw random bytes/);
    }
  });

  it('is refused when there is none, with where to look', async (t) => {
    const path = join(temporaryFolder(t), 'sealing.key');
    const error = await expectRejection('sealing_key_invalid', readSealingKey(path));
    assert.match(error.message, /does not exist/);
    assert.match(error.hint ?? '', /restore/);
  });

  it('is refused when we may not read it', async (t) => {
    const folder = temporaryFolder(t);
    const path = join(folder, 'sealing.key');
    writeKey(path, 0o000);
    chmodSync(folder, 0o755);
    const error = await asUnprivilegedUser(() =>
      expectRejection('sealing_key_invalid', readSealingKey(path)),
    );
    assert.match(error.message, /cannot be read/);
  });

  it('is refused when it is a folder or a pipe, and a pipe does not hang the start', async (t) => {
    const folder = temporaryFolder(t);
    mkdirSync(join(folder, 'folder'), { mode: 0o700 });
    spawnSync('mkfifo', ['-m', '600', join(folder, 'pipe')]);
    for (const name of ['folder', 'pipe']) {
      const error = await expectRejection('sealing_key_invalid', readSealingKey(join(folder, name)));
      assert.match(error.message, /not a plain file/, name);
    }
  });

  it('is read through a symbolic link', async (t) => {
    const folder = temporaryFolder(t);
    writeKey(join(folder, 'data'), 0o600);
    symlinkSync('data', join(folder, 'sealing.key'));
    assert.deepEqual(Uint8Array.from((await readSealingKey(join(folder, 'sealing.key'))).expose()), KEY);
  });

  it('never shows up in a message', async (t) => {
    const path = join(temporaryFolder(t), 'sealing.key');
    writeKey(path, 0o600, Buffer.from('a sealing key that is too long, and secret'));
    const error = await expectRejection('sealing_key_invalid', readSealingKey(path));
    assert.ok(!`${error.message}${error.hint}`.includes('secret'));
  });
});

describe('a sealing key that is made at the first start', () => {
  it('has 32 random bytes, 0600, in a folder 0700, and is read again from then on', async (t) => {
    const folder = join(temporaryFolder(t), 'data');
    const path = join(folder, 'sealing.key');
    const made = (await readOrCreateSealingKey(path, systemRandom)).expose();
    assert.deepEqual(Uint8Array.from(made), Uint8Array.from(readFileSync(path)));
    assert.equal(new Set(made).size > 8, true);
    assert.deepEqual([statSync(folder).mode & 0o777, statSync(path).mode & 0o777], [0o700, 0o600]);
    assert.deepEqual((await readOrCreateSealingKey(path, systemRandom)).expose(), made);
    assert.deepEqual(readdirSync(folder), ['sealing.key']);
  });

  it('is one key, when several start at once', async (t) => {
    const path = join(temporaryFolder(t), 'sealing.key');
    const all = await Promise.all(
      Array.from({ length: 10 }, () => readOrCreateSealingKey(path, systemRandom)),
    );
    const hex = all.map((secret) => Buffer.from(secret.expose()).toString('hex'));
    assert.equal(new Set(hex).size, 1);
  });

  it('never replaces a file that is there, however bad', async (t) => {
    const path = join(temporaryFolder(t), 'sealing.key');
    writeKey(path, 0o600, Buffer.from('short'));
    await expectRejection('sealing_key_invalid', readOrCreateSealingKey(path, systemRandom));
    assert.equal(readFileSync(path, 'utf8'), 'short');
  });

  it('leaves no copy in the memory that it came from', async (t) => {
    const given: Uint8Array[] = [];
    const random = {
      fraction: () => 0,
      bytes: (n: number) => {
        const bytes = new Uint8Array(n).fill(7);
        given.push(bytes);
        return bytes;
      },
    };
    await readOrCreateSealingKey(join(temporaryFolder(t), 'sealing.key'), random);
    assert.deepEqual(given, [new Uint8Array(32)]);
  });

  it('is file_unwritable where it cannot be made', async (t) => {
    const folder = temporaryFolder(t);
    chmodSync(folder, 0o555);
    const make = (path: string) => () =>
      expectRejection('file_unwritable', readOrCreateSealingKey(path, systemRandom));
    await asUnprivilegedUser(make(join(folder, 'sealing.key')));
    await asUnprivilegedUser(make(join(folder, 'new', 'sealing.key')));
  });
});
