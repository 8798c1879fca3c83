/**
 * Agents against a real CA, over real TLS, sockets and files, by the real clock: what the unit tests show with a clock
 * of their own holds together.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it, type TestContext } from 'node:test';
import { loadAgentConfig } from '../../agent/config.ts';
import { type RunningAgent, startAgent } from '../../agent/main.ts';
import type { RunningCa } from '../../ca/main.ts';
import { systemClock } from '../../host/clock.ts';
import { type Log, silentLog } from '../../host/log.ts';
import { systemRandom } from '../../host/random.ts';
import { encodePem } from '../../pki/pem.ts';
import type { InstanceStatus } from '../../proto/gen/kedge/v1/admin.ts';
import { Evidence } from '../../proto/gen/kedge/v1/identity.ts';
import { expectRejection } from '../support/expect-code.ts';
import { KEDGE } from '../support/kedge-process.ts';
import { type CaUnderTest, getBundle, getStatus, runningCa } from '../support/running-ca.ts';
import { SdsClient } from '../support/sds-client.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';
import { headers, WorkloadClient } from '../support/workload-client.ts';

const SPIFFE_ID = 'spiffe://example.org/ns/shop/sa/cart';
/** Half of this between renewals: short enough to watch, long enough for a loaded machine. */
const SHORT_TTL = { 'svid.ttl': '4s', 'svid.backdate': '1s' };

describe('an agent beside a CA', () => {
  let folder: string;
  let events: string[];
  let cleanUp: (() => Promise<void> | void)[];

  beforeEach((t) => {
    folder = temporaryFolder(t as TestContext);
    [events, cleanUp] = [[], []];
  });
  afterEach(async () => {
    for (const undo of cleanUp.toReversed()) await undo();
  });

  const log: Log = {
    ...silentLog,
    info: (event) => void events.push(event),
    warn: (event) => void events.push(event),
    error: (event) => void events.push(event),
  };
  const path = (name: string): string => join(folder, name);
  /** Looks until `condition` holds; the runner's time limit is the only other end. */
  const until = async (condition: () => boolean | Promise<boolean>): Promise<void> => {
    while (!(await condition())) await systemClock.sleep(20);
  };
  const startCa = async (
    t: TestContext,
    flags: Readonly<Record<string, string>> = {},
  ): Promise<CaUnderTest> => {
    const data = path('ca');
    mkdirSync(data, { recursive: true, mode: 0o700 });
    const underTest = await runningCa(t, { folder: data, flags });
    writeFileSync(path('token'), `${underTest.token()}\n`);
    await writeBootstrap(underTest.ca);
    return underTest;
  };
  const writeBootstrap = async (ca: RunningCa): Promise<void> => {
    const { x509Authorities } = await getBundle(ca);
    writeFileSync(path('bundle.pem'), x509Authorities.map((der) => encodePem('CERTIFICATE', der)).join(''));
  };
  const flagsFor = (ca: { readonly grpcAddress: string }): Record<string, string> => ({
    'ca-address': ca.grpcAddress,
    'trust-domain': 'example.org',
    'token-file': path('token'),
    'bootstrap-bundle': path('bundle.pem'),
    socket: path('agent.sock'),
  });
  const start = async (flags: Readonly<Record<string, string>>): Promise<RunningAgent> => {
    const config = await loadAgentConfig({ flags: new Map(Object.entries(flags)), env: {} });
    const agent = await startAgent({ config, clock: systemClock, random: systemRandom, log });
    cleanUp.push(() => agent.close());
    return agent;
  };
  const workload = (): WorkloadClient => {
    const client = new WorkloadClient(path('agent.sock'));
    cleanUp.push(() => client.close());
    return client;
  };
  const instance = async (ca: RunningCa): Promise<InstanceStatus | undefined> =>
    (await getStatus(ca)).instances[0];
  const serialOf = (der: Uint8Array | undefined): string =>
    new X509Certificate(Buffer.from(der ?? [])).serialNumber.toLowerCase();
  const isServing = (agent: RunningAgent) => (): boolean => agent.state.phase === 'serving';

  it('serves an identity on its socket and in its files, and the CA knows what each holds', async (t) => {
    const { ca } = await startCa(t);
    const agent = await start({
      ...flagsFor(ca),
      'files-folder': path('files'),
      'files-bundle-document': 'true',
      hook: '["/bin/true"]',
      'http-address': '127.0.0.1:0',
    });
    await until(isServing(agent));
    const stream = workload().fetchX509Svid();
    const [svid] = (await stream.next()).svids;
    assert.equal(svid?.spiffeId, SPIFFE_ID);
    await until(() => existsSync(path('files/tls.crt')));
    const verify = spawnSync('openssl', [
      'verify',
      '-x509_strict',
      '-purpose',
      'sslserver',
      '-CAfile',
      path('files/ca.crt'),
      '-untrusted',
      path('files/tls.crt'),
      path('files/tls.crt'),
    ]);
    assert.equal(verify.status, 0, verify.stderr.toString());
    assert.equal(serialOf(svid.x509Svid), serialOf(readFileSync(path('files/tls.crt'))));
    await until(async () => (await instance(ca))?.report?.svid !== undefined);
    const { report, spiffeId, connected } = (await instance(ca)) ?? assert.fail();
    assert.deepEqual({ spiffeId, connected }, { spiffeId: SPIFFE_ID, connected: true });
    assert.equal(
      Buffer.from(report?.svid?.serialNumber ?? [])
        .toString('hex')
        .replace(/^00/, ''),
      serialOf(svid.x509Svid),
    );
    assert.deepEqual(
      report?.feeds.map(({ name, evidence, errorCode }) => [name, evidence, errorCode]),
      [
        ['workload-api', Evidence.EVIDENCE_DELIVERED, ''],
        ['sds', Evidence.EVIDENCE_DELIVERED, ''],
        ['files', Evidence.EVIDENCE_LOADED, ''],
      ],
    );
    assert.equal(report?.bundleSequence, (await getBundle(ca)).sequence);
    const base = `http://127.0.0.1:${agent.httpPort}`;
    assert.equal((await fetch(`${base}/readyz`)).status, 200);
    assert.match(
      await (await fetch(`${base}/metrics`)).text(),
      /kedge_agent_renewals_total\{result="ok"\} 1/,
    );
    stream.cancel();
  });

  it("serves an Envoy on Istio's socket, and its ACK reaches the CA as loaded", async (t) => {
    const { ca } = await startCa(t);
    const agent = await start({ ...flagsFor(ca), 'istio-socket': path('istio.sock') });
    await until(isServing(agent));
    const envoy = new SdsClient(path('istio.sock'));
    t.after(() => envoy.close());
    const stream = envoy.stream();
    const names = ['default', 'ROOTCA'];
    stream.request(names);
    stream.ack(await stream.next(), names);
    const ofEnvoy = async (): Promise<Evidence | undefined> => {
      const { report } = (await instance(ca)) ?? {};
      return report?.feeds.find(({ name }) => name === 'sds')?.evidence;
    };
    await until(async () => (await ofEnvoy()) === Evidence.EVIDENCE_LOADED);
    stream.cancel();
  });

  it('renews again and again with no one watching, and each of its SVIDs is new and good', async (t) => {
    const { ca } = await startCa(t, SHORT_TTL);
    const agent = await start({ ...flagsFor(ca), 'files-folder': path('files') });
    await until(isServing(agent));
    const stream = workload().fetchX509Svid();
    const serials = new Set<string>();
    const keys = new Set<string>();
    while (serials.size < 5) {
      const [svid] = (await stream.next()).svids;
      const leaf = new X509Certificate(Buffer.from(svid?.x509Svid ?? []));
      assert.ok(Date.parse(leaf.validTo) > Date.now(), 'an expired SVID was served');
      serials.add(leaf.serialNumber);
      keys.add(Buffer.from(svid?.x509SvidKey ?? []).toString('hex'));
    }
    assert.equal(keys.size, serials.size);
    assert.ok(!events.includes('svid.expired'));
    stream.cancel();
  });

  it('serves what it has while the CA is away, nothing once that has expired, and again when the CA is back', async (t) => {
    const first = await startCa(t, SHORT_TTL);
    const { grpcAddress } = first.ca;
    const agent = await start({ ...flagsFor(first.ca), 'files-folder': path('files') });
    await until(isServing(agent));
    const client = workload();
    const stream = client.fetchX509Svid();
    await stream.next();
    await first.ca.close();
    const again = client.fetchX509Svid();
    assert.equal((await again.next()).svids.length, 1);
    const lost = await stream.failure();
    assert.match(lost.details, /^no identity issued/);
    await until(() => agent.state.phase === 'expired' && !existsSync(path('files/tls.crt')));
    assert.match((await client.fetchX509Svid().failure()).details, /^no identity issued/);
    await startCa(t, { ...SHORT_TTL, 'listen.grpc': grpcAddress });
    await until(isServing(agent));
    await until(() => existsSync(path('files/tls.crt')));
    assert.equal((await client.fetchX509Svid().next()).svids[0]?.spiffeId, SPIFFE_ID);
  });

  it('follows the CA through a restart: its stream is open again and nothing was renewed for it', async (t) => {
    const first = await startCa(t);
    const { grpcAddress } = first.ca;
    const agent = await start(flagsFor(first.ca));
    await until(async () => (await instance(first.ca))?.connected === true);
    await first.ca.close();
    const second = await startCa(t, { 'listen.grpc': grpcAddress });
    await until(async () => (await instance(second.ca))?.report?.svid !== undefined);
    assert.equal(agent.state.generation, 1);
  });

  it('goes on from its cache when it restarts while the CA is away', {
    skip: !existsSync('/dev/shm'),
  }, async (t) => {
    const cache = `/dev/shm/kedge-system-${process.pid}`;
    cleanUp.push(() => rmSync(cache, { recursive: true, force: true }));
    const { ca } = await startCa(t);
    const flags = { ...flagsFor(ca), 'cache-folder': cache };
    const before = await start(flags);
    await until(() => existsSync(join(cache, 'identity.json')));
    const client = workload();
    const stream = client.fetchX509Svid();
    const serial = serialOf((await stream.next()).svids[0]?.x509Svid);
    stream.cancel();
    await before.close();
    await ca.close();
    const after = await start(flags);
    assert.equal(after.state.phase, 'serving');
    const restored = workload().fetchX509Svid();
    assert.equal(serialOf((await restored.next()).svids[0]?.x509Svid), serial);
    restored.cancel();
  });

  it('does not start on a socket that another agent serves, nor with a cache that others may read', async (t) => {
    const { ca } = await startCa(t);
    await start(flagsFor(ca));
    await expectRejection('socket_in_use', start(flagsFor(ca)));
    mkdirSync(path('open'), { mode: 0o755 });
    const flags = { ...flagsFor(ca), socket: path('other.sock'), 'cache-folder': path('open') };
    await expectRejection('cache_unusable', start(flags));
    assert.ok(!existsSync(path('other.sock')), 'what was opened before is closed again');
  });

  it('starts without a token and without a CA, and serves when both are there', async (t) => {
    const { ca } = await startCa(t);
    const token = readFileSync(path('token'));
    writeFileSync(path('token'), '');
    const agent = await start(flagsFor(ca));
    await until(() => events.includes('svid.attempt_failed'));
    assert.equal((await workload().fetchX509Svid().failure()).code, 14);
    writeFileSync(path('token'), token);
    await until(isServing(agent));
  });

  it('is refused by the CA with a token for another audience, and says so', async (t) => {
    const { ca, token } = await startCa(t);
    writeFileSync(path('token'), token({ audiences: ['someone-else'] }));
    const agent = await start(flagsFor(ca));
    await until(() => events.includes('svid.attempt_failed'));
    assert.equal(agent.state.phase, 'starting');
  });

  describe('as a process', () => {
    const launch = (flags: Readonly<Record<string, string>>): { child: ChildProcess; said: () => string } => {
      const argv = Object.entries(flags).map(([name, value]) => `--${name}=${value}`);
      const child = spawn(process.execPath, [KEDGE, 'agent', ...argv], { stdio: ['ignore', 'pipe', 'pipe'] });
      let text = '';
      const keep = (chunk: Buffer): void => {
        text += chunk.toString();
      };
      child.stdout?.on('data', keep);
      child.stderr?.on('data', keep);
      cleanUp.push(() => void child.kill('SIGKILL'));
      return { child, said: () => text };
    };
    const ended = (child: ChildProcess): Promise<number | null> =>
      new Promise((resolve) => child.once('exit', (code) => resolve(code)));

    it('ends on SIGTERM: streams are told, the socket is gone, files stay', async (t) => {
      const { ca } = await startCa(t);
      const { child, said } = launch({ ...flagsFor(ca), 'files-folder': path('files') });
      await until(() => said().includes('"feed":"files"'));
      const stream = workload().fetchX509Svid();
      await stream.next();
      child.kill('SIGTERM');
      assert.equal(await ended(child), 0, said());
      await stream.failure();
      assert.ok(!existsSync(path('agent.sock')));
      assert.ok(statSync(path('files/tls.key')).isFile());
    });

    it('takes over the socket and the files of one that was killed', async (t) => {
      const { ca } = await startCa(t);
      const first = launch({ ...flagsFor(ca), 'files-folder': path('files') });
      await until(() => first.said().includes('"feed":"files"'));
      const serial = serialOf(readFileSync(path('files/tls.crt')));
      first.child.kill('SIGKILL');
      await ended(first.child);
      assert.ok(existsSync(path('agent.sock')), 'a killed process leaves its socket');
      const second = launch({ ...flagsFor(ca), 'files-folder': path('files') });
      await until(() => second.said().includes('"feed":"files"'));
      assert.notEqual(serialOf(readFileSync(path('files/tls.crt'))), serial);
      assert.equal((await workload().fetchX509Svid().next()).svids[0]?.spiffeId, SPIFFE_ID);
    });

    it('writes neither token nor key to its log', async (t) => {
      const { ca } = await startCa(t);
      const { said } = launch({ ...flagsFor(ca), 'files-folder': path('files'), 'log-level': 'debug' });
      await until(() => said().includes('watch.opened') && said().includes('"feed":"files"'));
      const token = readFileSync(path('token'), 'utf8').trim();
      const key = readFileSync(path('files/tls.key'), 'utf8').split('\n')[1] ?? assert.fail();
      assert.ok(!said().includes(token));
      assert.ok(!said().includes(token.split('.')[1] ?? assert.fail()));
      assert.ok(!said().includes(key));
    });

    it('ends with 2 and one line for a configuration that it does not take', async () => {
      const { child, said } = launch({ 'trust-domain': 'example.org' });
      assert.equal(await ended(child), 2);
      assert.match(said(), /config_invalid|usage_invalid/);
    });
  });

  it('refuses a call without the security header, whoever asks', async (t) => {
    const { ca } = await startCa(t);
    const agent = await start(flagsFor(ca));
    await until(isServing(agent));
    assert.equal((await workload().fetchX509Svid(headers()).failure()).code, 3);
  });
});
