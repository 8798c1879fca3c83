import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, it, type TestContext } from 'node:test';
import { loadCaConfig } from '../../ca/config.ts';
import { type RunningCa, startCa } from '../../ca/main.ts';
import { systemClock } from '../../host/clock.ts';
import { silentLog } from '../../host/log.ts';
import { systemRandom } from '../../host/random.ts';
import type { ErrorCode } from '../../pki/error-table.ts';
import { expectRejection } from '../support/expect-code.ts';
import { issue, runningCa } from '../support/running-ca.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

async function start(folder: string, flags: Readonly<Record<string, string>> = {}): Promise<RunningCa> {
  const config = await loadCaConfig({
    flags: new Map(
      Object.entries({
        dataFolder: folder,
        'listen.grpc': '127.0.0.1:0',
        'listen.http': '127.0.0.1:0',
        ...flags,
      }),
    ),
  });
  return startCa({ config, clock: systemClock, random: systemRandom, log: silentLog });
}

/** A data folder that a CA has lived in. */
async function usedFolder(t: TestContext): Promise<string> {
  const { ca, folder } = await runningCa(t);
  await ca.close();
  return folder;
}

interface Row {
  readonly name: string;
  /** Breaks a data folder that was in use; gives what mends it. */
  readonly breakIt: (folder: string) => () => void;
  readonly flags?: Readonly<Record<string, string>>;
  readonly wantCode: ErrorCode;
}

const replaced = (path: string, change: (content: Buffer) => Buffer): (() => void) => {
  const before = readFileSync(path);
  writeFileSync(path, change(before), { mode: 0o600 });
  return () => writeFileSync(path, before, { mode: 0o600 });
};
const store = (folder: string): string => join(folder, 'trust.sqlite');

const rows: readonly Row[] = [
  {
    name: 'a trust store that is not a database',
    breakIt: (folder) =>
      replaced(store(folder), () =>
        Buffer.from('not a database, but long enough to look like a file\n'.repeat(100)),
      ),
    wantCode: 'store_corrupt',
  },
  {
    name: 'a trust store that was cut off',
    breakIt: (folder) => replaced(store(folder), (content) => content.subarray(0, content.length / 2)),
    wantCode: 'store_corrupt',
  },
  {
    name: 'a trust store of a newer Kedge',
    breakIt: (folder) => {
      const before = readFileSync(store(folder));
      const database = new DatabaseSync(store(folder));
      const { user_version: version } = database.prepare('PRAGMA user_version').get() as {
        user_version: number;
      };
      database.exec(`PRAGMA user_version = ${version + 1}`);
      database.close();
      return () => writeFileSync(store(folder), before, { mode: 0o600 });
    },
    wantCode: 'store_newer_version',
  },
  {
    name: 'the trust domain of another CA',
    breakIt: () => () => {},
    flags: { trustDomain: 'other.test' },
    wantCode: 'trust_domain_mismatch',
  },
  {
    name: 'another sealing key than the one that sealed the keys',
    breakIt: (folder) => replaced(join(folder, 'sealing-key'), () => Buffer.alloc(32, 7)),
    wantCode: 'key_sealed',
  },
  {
    name: 'a sealing key that others can read',
    breakIt: (folder) => {
      chmodSync(join(folder, 'sealing-key'), 0o644);
      return () => chmodSync(join(folder, 'sealing-key'), 0o600);
    },
    wantCode: 'sealing_key_invalid',
  },
  {
    name: 'a policy file that is not there',
    breakIt: () => () => {},
    flags: { 'policy.file': '/nonexistent/policy.yaml' },
    wantCode: 'file_unreadable',
  },
  {
    name: 'something else than a socket where the admin socket goes',
    breakIt: (folder) => {
      writeFileSync(join(folder, 'admin.sock'), 'precious');
      return () => {
        assert.equal(readFileSync(join(folder, 'admin.sock'), 'utf8'), 'precious');
        rmSync(join(folder, 'admin.sock'));
      };
    },
    wantCode: 'socket_path_invalid',
  },
  {
    name: 'a file where the folder of the audit log goes',
    breakIt: (folder) => {
      const path = join(folder, 'audit');
      rmSync(path, { recursive: true });
      writeFileSync(path, '');
      return () => {
        rmSync(path);
        mkdirSync(path, { mode: 0o700 });
      };
    },
    wantCode: 'file_unwritable',
  },
];

describe('a CA does not start with', () => {
  for (const { name, breakIt, flags, wantCode } of rows) {
    it(`${name}, says so, and starts once that is mended`, async (t) => {
      const folder = await usedFolder(t);
      const mend = breakIt(folder);
      const error = await expectRejection(wantCode, start(folder, flags));
      assert.ok(!error.message.includes('\n'));
      mend();
      const ca = await start(folder);
      await ca.close();
    });
  }

  it('a data folder that another CA holds', async (t) => {
    const { folder } = await runningCa(t);
    const error = await expectRejection('data_folder_in_use', start(folder));
    assert.match(error.hint ?? '', /stop it/);
  });

  it('a port that is taken, for either address, and leaves nothing behind', async (t) => {
    const folder = temporaryFolder(t);
    const blocker = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => blocker.once('listening', resolve));
    t.after(() => blocker.close());
    const { port } = blocker.address() as { port: number };
    for (const key of ['listen.grpc', 'listen.http']) {
      await expectRejection('address_unavailable', start(folder, { [key]: `127.0.0.1:${port}` }));
      assert.equal(existsSync(join(folder, 'admin.sock')), false);
    }
    await (await start(folder)).close();
  });
});

describe('a CA that starts', () => {
  it('replaces the admin socket of one that was killed', async (t) => {
    const { folder, ca } = await runningCa(t);
    await ca.close();
    // A socket file that nobody listens on: bound, then its owner gone without unlinking.
    const stale = createServer();
    await new Promise<void>((resolve) => stale.listen(join(folder, 'stale.sock'), resolve));
    const { renameSync } = await import('node:fs');
    renameSync(join(folder, 'stale.sock'), join(folder, 'admin.sock'));
    await new Promise((resolve) => stale.close(resolve));
    assert.ok(existsSync(join(folder, 'admin.sock')));
    const again = await runningCa(t, { folder });
    assert.equal((await issue(await again.connect(), again.token())).x509Svid.length, 2);
  });

  it('leaves no address behind when it ends', async (t) => {
    const { ca } = await runningCa(t);
    await ca.close();
    await assert.rejects(fetch(`http://${ca.httpAddress}/livez`));
    assert.equal(existsSync(ca.adminSocket), false);
  });
});
