/**
 * PostgreSQL on the files feed, with the configuration of docs/feeds.md: mTLS connections through at least 20
 * rotations, and none fails. The server refuses to run as root, so it runs as a user of its own where the test is
 * root; its key then belongs to root and is read by its group.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { findPeer, peerEnvironment } from '../../scripts/peer-folder.ts';
import { documentedConfiguration } from '../support/feeds-document.ts';
import { freePort, IdentityPlane, until } from '../support/identity-plane.ts';
import { RunningPeer } from '../support/peer-process.ts';
import { PostgresConnection, type PostgresOptions } from '../support/postgres-client.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';
import { NOBODY } from '../support/unprivileged-user.ts';

const ROTATIONS = 20;
const PASSWORD = 'of this test alone';
const postgres = findPeer('postgres');
const skip = postgres === null ? 'no PostgreSQL on this machine: npm run peers gets it from Debian' : false;
const isRoot = process.geteuid?.() === 0;
const user = isRoot ? { uid: NOBODY, gid: NOBODY } : undefined;

/** A database cluster of one superuser, `postgres`, with the configuration of the document. */
function makeCluster(folder: string, files: string, port: number): string {
  const data = join(folder, 'data');
  mkdirSync(data, { mode: 0o700 });
  const passwordFile = join(folder, 'password');
  writeFileSync(passwordFile, PASSWORD);
  if (user !== undefined) for (const path of [data, passwordFile]) chownSync(path, user.uid, user.gid);
  const initdb = join(dirname(realpathSync(postgres ?? '')), 'initdb');
  const made = spawnSync(
    initdb,
    ['-D', data, '-U', 'postgres', '--auth=scram-sha-256', `--pwfile=${passwordFile}`, '-N', '--locale=C'],
    { encoding: 'utf8', env: { ...process.env, ...peerEnvironment('postgres') }, ...user },
  );
  assert.equal(made.status, 0, made.stderr);
  const settings = documentedConfiguration('PostgreSQL', 'ini', { files, port });
  writeFileSync(
    join(data, 'postgresql.conf'),
    `listen_addresses = '127.0.0.1'\nport = ${port}\nunix_socket_directories = ''\nfsync = off\n${settings}`,
  );
  writeFileSync(join(data, 'pg_hba.conf'), documentedConfiguration('PostgreSQL', 'text', { files, port }));
  return data;
}

/** New connections, and two that are kept to the end; every one shows both serials, and none may fail. */
class PostgresLoad {
  connections = 0;
  queries = 0;
  readonly failures: string[] = [];
  readonly serverSerials = new Set<string>();
  readonly clientSerials = new Set<string>();
  readonly #clientFiles: string;
  readonly #port: number;
  readonly #done: Promise<unknown>;
  #stopped = false;

  constructor(clientFiles: string, port: number) {
    this.#clientFiles = clientFiles;
    this.#port = port;
    this.#done = Promise.all([this.#renew(), this.#renew(), this.#keep(), this.#keep()]);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#done;
  }

  options(): PostgresOptions {
    const credential = readFileSync(join(this.#clientFiles, 'credential-bundle.pem'), 'utf8');
    const ca = readFileSync(join(this.#clientFiles, 'ca.crt'), 'utf8');
    return {
      port: this.#port,
      user: 'postgres',
      password: PASSWORD,
      tls: { cert: credential, key: credential, ca },
    };
  }

  async #renew(): Promise<void> {
    while (!this.#stopped) {
      await this.#counted(async () => {
        const connection = await this.#open();
        await this.#ask(connection);
        connection.close();
      });
      await delay(20);
    }
  }

  async #keep(): Promise<void> {
    await this.#counted(async () => {
      const connection = await this.#open();
      while (!this.#stopped) {
        await this.#ask(connection);
        await delay(20);
      }
      connection.close();
    });
  }

  async #counted(action: () => Promise<void>): Promise<void> {
    try {
      await action();
    } catch (error) {
      this.failures.push(String(error));
    }
  }

  async #open(): Promise<PostgresConnection> {
    const options = this.options();
    const connection = await PostgresConnection.open(options);
    this.connections += 1;
    this.serverSerials.add(connection.serverSerial);
    const seen = await connection.query('select client_serial from pg_stat_ssl where pid = pg_backend_pid()');
    const own = new X509Certificate(String(options.tls.cert)).serialNumber;
    assert.equal(BigInt(seen), BigInt(`0x${own}`), 'PostgreSQL saw another client certificate');
    this.clientSerials.add(own);
    return connection;
  }

  async #ask(connection: PostgresConnection): Promise<void> {
    assert.equal(await connection.query('select 6 * 7'), '42');
    this.queries += 1;
  }
}

function startCluster(t: TestContext, data: string): Promise<RunningPeer> {
  return RunningPeer.start(t, {
    program: postgres ?? '',
    args: ['-D', data],
    env: peerEnvironment('postgres'),
    ...(user === undefined ? {} : { user }),
    // Fast shutdown: it does not wait for the clients.
    endSignal: 'SIGINT',
    isReady: () => {
      const pidFile = join(data, 'postmaster.pid');
      return existsSync(pidFile) && /\nready\s*$/.test(readFileSync(pidFile, 'utf8'));
    },
  });
}

describe('PostgreSQL on the files feed', { skip }, () => {
  it(`serves mTLS through ${ROTATIONS} rotations without a failed connection or query`, async (t) => {
    const folder = temporaryFolder(t);
    if (user !== undefined) chmodSync(folder, 0o755);
    const [port, files, clientFiles] = [
      await freePort(),
      join(folder, 'web-files'),
      join(folder, 'client-files'),
    ];
    const data = makeCluster(folder, files, port);
    const settings =
      'svid: { ttl: 6s, backdate: 1s }\nissuer: { lifetime: 60s, renewAfter: 30s }\nclockSkew: 1s';
    const plane = await IdentityPlane.start(t, folder, settings);
    const access = isRoot ? ['--files-owner', `:${NOBODY}`, '--files-key-mode', '0640'] : [];
    const web = await plane.agent('web', [
      ...['--files-folder', files, '--files-preset', 'postgresql', ...access],
      ...['--hook-pid-file', join(data, 'postmaster.pid')],
    ]);
    const client = await plane.agent('client', ['--files-folder', clientFiles]);
    await until('the files are there', () =>
      [join(files, 'server.crt'), join(clientFiles, 'tls.crt')].every((path) => existsSync(path)),
    );
    const server = await startCluster(t, data);

    const load = new PostgresLoad(clientFiles, port);
    t.after(() => load.stop());
    await until(
      `${ROTATIONS} rotations on both sides`,
      () =>
        (load.serverSerials.size > ROTATIONS && load.clientSerials.size > ROTATIONS) ||
        load.failures.length > 0,
      240_000,
    );
    await load.stop();

    t.diagnostic(
      `${load.connections} connections, ${load.queries} queries, ${load.failures.length} failed; ` +
        `${load.serverSerials.size} server SVIDs, ${load.clientSerials.size} client SVIDs`,
    );
    assert.deepEqual(load.failures, []);
    assert.ok(load.connections > 5 * ROTATIONS, 'hardly any traffic');

    const { cert: _, key: __, ...withoutCertificate } = load.options().tls;
    await assert.rejects(PostgresConnection.open({ ...load.options(), tls: withoutCertificate }));
    await server.end();
    assert.match(server.output, /FATAL: +connection requires a valid client certificate/);
    assert.doesNotMatch(server.output, /could not load|private key file|PANIC/);
    assert.equal(await web.end(), 0, web.log);
    assert.equal(await client.end(), 0, client.log);
  });
});
