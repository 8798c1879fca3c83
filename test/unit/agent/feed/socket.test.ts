import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import {
  type ClaimedSocket,
  claimSocket,
  SOCKET_PATH_BYTES,
  type SocketOptions,
} from '../../../../agent/feed/socket.ts';
import { expectRejection } from '../../../support/expect-code.ts';
import { suiteFolder } from '../../../support/suite-folder.ts';
import { asUnprivilegedUser } from '../../../support/unprivileged-user.ts';

const folder = suiteFolder();
const claimed: ClaimedSocket[] = [];
let names = 0;
const newPath = (): string => {
  names += 1;
  return join(folder, `s${names}`);
};
const claim = async (path: string, options: Partial<SocketOptions> = {}): Promise<ClaimedSocket> => {
  const socket = await claimSocket({
    path,
    mode: 0o660,
    onConnection: (connection) => connection.on('error', () => {}).end('hello'),
    ...options,
  });
  claimed.push(socket);
  return socket;
};
const talk = (path: string): Promise<string> =>
  new Promise((resolve, reject) => {
    let said = '';
    const socket: Socket = connect(path);
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => {
      said += text;
    });
    socket.once('error', reject);
    socket.once('end', () => resolve(said));
  });

/** Leaves a socket that nobody listens on, as a killed process does. */
const leaveStaleSocket = (path: string): void => {
  const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
  spawnSync(process.execPath, ['-e', script]);
  assert.ok(lstatSync(path).isSocket());
};

describe('claiming a Unix socket', () => {
  after(() => Promise.all(claimed.map((socket) => socket.close())));

  it('serves it with the mode given, and leaves nothing else in the folder', async () => {
    const path = join(newPath(), 'agent.sock');
    await claim(path, { mode: 0o620 });
    assert.equal(await talk(path), 'hello');
    assert.equal(lstatSync(path).mode & 0o777, 0o620);
    assert.deepEqual(readdirSync(join(path, '..')), ['agent.sock']);
  });

  it('makes the folders above it, and leaves those alone that exist', async () => {
    const parent = newPath();
    mkdirSync(parent, { mode: 0o711 });
    await claim(join(parent, 'a', 'b', 'agent.sock'));
    assert.equal(lstatSync(parent).mode & 0o777, 0o711);
    assert.equal(lstatSync(join(parent, 'a')).mode & 0o022, 0);
  });

  it('replaces a stale socket', async () => {
    const path = newPath();
    leaveStaleSocket(path);
    await claim(path);
    assert.equal(await talk(path), 'hello');
  });

  it('refuses a socket that another process serves, and leaves it alone', async () => {
    const path = newPath();
    await claim(path);
    await expectRejection('socket_in_use', claim(path));
    assert.equal(await talk(path), 'hello');
  });

  it('refuses a socket whose owner is too busy to accept', async () => {
    const path = newPath();
    const server: Server = createServer();
    await new Promise<void>((resolve) => {
      server.listen(path, 1, resolve);
    });
    const connections = Array.from({ length: 8 }, () => connect(path).on('error', () => {}));
    await expectRejection('socket_in_use', claim(path));
    for (const connection of connections) connection.destroy();
    server.close();
  });

  it('lets only one of several win that start at once', async () => {
    const path = newPath();
    leaveStaleSocket(path);
    const results = await Promise.allSettled(Array.from({ length: 5 }, () => claim(path)));
    const winners = results.filter(({ status }) => status === 'fulfilled');
    assert.equal(winners.length, 1, JSON.stringify(results));
    assert.equal(await talk(path), 'hello');
  });

  const occupants: readonly { name: string; make: (path: string) => void }[] = [
    { name: 'a file', make: (path) => writeFileSync(path, 'precious') },
    { name: 'a folder', make: (path) => mkdirSync(path) },
    { name: 'a symbolic link', make: (path) => symlinkSync('/nowhere', path) },
    { name: 'a FIFO', make: (path) => void spawnSync('mkfifo', [path]) },
  ];
  for (const { name, make } of occupants) {
    it(`refuses a path where ${name} is, and leaves that alone`, async () => {
      const path = newPath();
      make(path);
      const { ino } = lstatSync(path);
      await expectRejection('socket_path_invalid', claim(path));
      assert.equal(lstatSync(path).ino, ino);
    });
  }

  const paths: readonly { name: string; path: () => string }[] = [
    { name: 'that is not absolute', path: () => 'agent.sock' },
    { name: 'with a NUL', path: () => `${newPath()}\0` },
    { name: `over ${SOCKET_PATH_BYTES} bytes`, path: () => join(folder, 'x'.repeat(SOCKET_PATH_BYTES)) },
    {
      name: 'below a file',
      path: () => {
        const file = newPath();
        writeFileSync(file, '');
        return join(file, 'agent.sock');
      },
    },
    { name: 'in a folder that cannot be written', path: () => '/proc/self/agent.sock' },
  ];
  for (const { name, path } of paths) {
    it(`refuses a path ${name}`, async () => {
      await expectRejection('socket_path_invalid', claim(path()));
    });
  }

  it('takes a path of exactly the length that the kernel allows', async () => {
    const path = join(folder, 'x'.repeat(SOCKET_PATH_BYTES - folder.length - 1));
    await claim(path);
    assert.equal(await talk(path), 'hello');
  });

  it('removes the socket when it is closed', async () => {
    const path = newPath();
    const socket = await claim(path);
    await socket.close();
    assert.ok(!existsSync(path));
  });

  it('leaves the socket of a successor alone when it is closed', async () => {
    const path = newPath();
    const old = await claim(path);
    renameSync(path, `${path}.old`);
    await claim(path);
    await old.close();
    assert.equal(await talk(path), 'hello');
  });

  describe('where there is a socket of another owner', () => {
    const skip = process.geteuid?.() === 0 ? false : 'only root can leave a socket of another owner';
    const others: readonly {
      name: string;
      /** Of the socket, and of the folder that it is in. */
      socketMode: number;
      folderMode: number;
      isLive: boolean;
      code: 'socket_path_invalid' | 'socket_in_use';
    }[] = [
      {
        name: 'that is live and lets nobody in',
        socketMode: 0o600,
        folderMode: 0o777,
        isLive: true,
        code: 'socket_path_invalid',
      },
      {
        name: 'that is live and lets everybody in',
        socketMode: 0o666,
        folderMode: 0o777,
        isLive: true,
        code: 'socket_in_use',
      },
      {
        name: 'that is stale and lets nobody in',
        socketMode: 0o600,
        folderMode: 0o777,
        isLive: false,
        code: 'socket_path_invalid',
      },
      {
        name: 'that is stale, in a folder like /tmp',
        socketMode: 0o666,
        folderMode: 0o1777,
        isLive: false,
        code: 'socket_path_invalid',
      },
    ];
    for (const { name, socketMode, folderMode, isLive, code } of others) {
      it(`${name}: ${code}, and it is left alone`, { skip }, async () => {
        const parent = newPath();
        const path = join(parent, 'agent.sock');
        chmodSync(folder, 0o755);
        mkdirSync(parent);
        if (isLive) await claim(path);
        else leaveStaleSocket(path);
        chmodSync(path, socketMode);
        chmodSync(parent, folderMode);
        const { ino } = lstatSync(path);
        await asUnprivilegedUser(() => expectRejection(code, claim(path)));
        assert.equal(lstatSync(path).ino, ino);
        assert.deepEqual(readdirSync(parent), ['agent.sock']);
        if (isLive) assert.equal(await talk(path), 'hello');
      });
    }
  });

  it('cannot be had by a process that may not write to the folder', async () => {
    const parent = newPath();
    mkdirSync(parent);
    chmodSync(parent, 0o555);
    await asUnprivilegedUser(async () => {
      await expectRejection('socket_path_invalid', claim(join(parent, 'agent.sock')));
    });
  });
});
