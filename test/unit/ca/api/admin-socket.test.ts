import assert from 'node:assert/strict';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { Server } from '@grpc/grpc-js';
import { AdminSocket } from '../../../../ca/api/admin-socket.ts';
import { expectRejection } from '../../../support/expect-code.ts';
import { temporaryFolder } from '../../../support/temporary-folder.ts';

async function open(t: TestContext, folder: string): Promise<AdminSocket> {
  const socket = await AdminSocket.open(folder, new Server());
  t.after(() => socket.close());
  return socket;
}

/** A socket file that nobody listens on any more, as a killed process leaves it. */
async function staleSocket(path: string): Promise<void> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(`${path}.tmp`, resolve));
  renameSync(`${path}.tmp`, path);
  await new Promise((resolve) => server.close(resolve));
}

describe('the admin socket', () => {
  it('is admin.sock in the folder, for its owner alone, and gone when it is closed', async (t) => {
    const folder = temporaryFolder(t);
    const socket = await open(t, folder);
    assert.equal(socket.path, join(folder, 'admin.sock'));
    assert.equal(lstatSync(socket.path).mode & 0o7777, 0o600);
    await socket.close();
    assert.equal(existsSync(socket.path), false);
  });

  it('takes the place of one that nobody serves', async (t) => {
    const folder = temporaryFolder(t);
    await staleSocket(join(folder, 'admin.sock'));
    await open(t, folder);
  });

  it('leaves alone one that another process serves', async (t) => {
    const folder = temporaryFolder(t);
    await open(t, folder);
    const error = await expectRejection('socket_in_use', AdminSocket.open(folder, new Server()));
    assert.match(error.message, /admin\.sock/);
    assert.ok(existsSync(join(folder, 'admin.sock')));
  });

  const others: readonly {
    readonly name: string;
    readonly make: (path: string) => void;
    readonly check: (path: string) => void;
  }[] = [
    {
      name: 'a file',
      make: (path) => writeFileSync(path, 'precious'),
      check: (path) => assert.equal(readFileSync(path, 'utf8'), 'precious'),
    },
    {
      name: 'a folder',
      make: (path) => mkdirSync(path),
      check: (path) => assert.ok(lstatSync(path).isDirectory()),
    },
    {
      name: 'a symbolic link, wherever it leads',
      make: (path) => symlinkSync('/nonexistent', path),
      check: (path) => assert.ok(lstatSync(path).isSymbolicLink()),
    },
  ];
  for (const { name, make, check } of others) {
    it(`neither follows nor removes ${name}`, async (t) => {
      const path = join(temporaryFolder(t), 'admin.sock');
      make(path);
      await expectRejection('socket_path_invalid', AdminSocket.open(join(path, '..'), new Server()));
      check(path);
    });
  }

  it('has a path that the kernel takes, or is refused', async (t) => {
    const folder = join(temporaryFolder(t), 'd'.repeat(100));
    mkdirSync(folder);
    const error = await expectRejection('socket_path_invalid', AdminSocket.open(folder, new Server()));
    assert.match(error.message, /bytes, 107 are allowed/);
  });

  it('says when its folder is not there', async () => {
    await expectRejection('socket_path_invalid', AdminSocket.open('/nonexistent', new Server()));
  });
});
