/**
 * A real HAProxy on the HAProxy feed: mTLS through 50 rotations without a failed request, its restarts, its silence,
 * what an agent that was killed leaves behind, and the rotation of an agent that runs as an operator runs it.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { connect } from 'node:tls';
import type { HaproxyAddress } from '../../agent/feed/haproxy-connection.ts';
import { HaproxyFeed } from '../../agent/feed/haproxy-feed.ts';
import { replacesTrustSafely } from '../../agent/feed/haproxy-version.ts';
import type { IdentitySnapshot } from '../../agent/snapshot.ts';
import { socketTarget } from '../../cli/endpoint-socket.ts';
import { systemClock } from '../../host/clock.ts';
import { silentLog } from '../../host/log.ts';
import { systemRandom } from '../../host/random.ts';
import { parseCertificate } from '../../pki/certificate.ts';
import { createCrl } from '../../pki/crl-builder.ts';
import { encodePem } from '../../pki/pem.ts';
import { makeAnchor, makeIssuer, makeLeaf, newSigner, type TestCa } from '../support/certificates.ts';
import { expectRejection } from '../support/expect-code.ts';
import {
  bindOptions,
  haproxySkip,
  haproxyVersion,
  RunningHaproxy,
  serverOptions,
  socketPathOf,
} from '../support/haproxy.ts';
import { freePort, IdentityPlane, until } from '../support/identity-plane.ts';
import { MtlsLoad } from '../support/mtls-load.ts';
import { SnapshotFactory } from '../support/snapshots.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const ROTATIONS = 50;
/** Of an agent at a lifetime of 16 s: no shorter one outlives the restart of an agent on a busy machine. */
const AGENT_ROTATIONS = 8;
const signal = new AbortController().signal;
const waitsForReload = !replacesTrustSafely(haproxyVersion);

interface Site {
  readonly feed: HaproxyFeed;
  readonly haproxy: RunningHaproxy;
  readonly port: number;
  readonly files: string;
  readonly factory: SnapshotFactory;
  /** Not published yet, but where CAs wait for a reload. */
  readonly first: IdentitySnapshot;
}

async function openFeed(
  t: TestContext,
  files: string,
  ...addresses: readonly HaproxyAddress[]
): Promise<HaproxyFeed> {
  return await openFeedWith(t, files, addresses, false);
}

async function openFeedWith(
  t: TestContext,
  files: string,
  addresses: readonly HaproxyAddress[],
  crls: boolean,
): Promise<HaproxyFeed> {
  const feed = await HaproxyFeed.open({
    folder: files,
    keyMode: 0o600,
    addresses,
    crls,
    serverLinesOnly: false,
    timeoutMs: 1_000,
    maxCommandBytes: 16_384,
    clock: systemClock,
    random: systemRandom,
    log: silentLog,
    onConsumersChange: () => {},
  });
  t.after(() => feed.close());
  return feed;
}

/** A HAProxy that starts on the placeholder, or where CAs wait for a reload on the first identity: a client, then its `bind` line, its `server` line, and its own `bind` again. */
async function site(t: TestContext, crls = false): Promise<Site> {
  const folder = temporaryFolder(t);
  const [files, home] = [join(folder, 'files'), join(folder, 'haproxy')];
  const feed = await openFeedWith(t, files, [{ path: socketPathOf(home) }], crls);
  const factory = await SnapshotFactory.make(Date.now());
  const first = await factory.snapshot(1);
  if (waitsForReload) await expectRejection('haproxy_unreachable', feed.publish(first, signal));
  const [port, inner] = [await freePort(), await freePort()];
  const sections = `
frontend outer
  bind 127.0.0.1:${port} ${bindOptions(files, crls)}
  default_backend self
backend self
  server self 127.0.0.1:${inner} ${serverOptions(files)}
frontend inner
  bind 127.0.0.1:${inner} ${bindOptions(files, crls)}
  http-request return status 200 content-type text/plain lf-string "%[ssl_c_serial,hex]"
`;
  const haproxy = await RunningHaproxy.start(t, { folder: home, sections });
  return { feed, haproxy, port, files, factory, first };
}

interface ClientIdentity {
  readonly cert: string;
  readonly key: string;
  readonly ca: string;
}

function clientOf({ svid, bundle }: IdentitySnapshot): ClientIdentity {
  const pem = (all: readonly Uint8Array[]): string =>
    all.map((der) => encodePem('CERTIFICATE', der)).join('');
  return {
    cert: pem(svid.chain),
    key: encodePem('PRIVATE KEY', svid.privateKey.expose()),
    ca: pem(bundle.x509Authorities),
  };
}

function newAgent(identity: ClientIdentity | { readonly ca: string }, keepAlive = false): Agent {
  return new Agent({ ...identity, keepAlive, maxCachedSessions: 0, checkServerIdentity: () => undefined });
}

/** One request; gives the body, which is the serial that the inner `bind` line saw. */
function get(port: number, agent: Agent): Promise<string> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port, path: '/', agent, timeout: 5_000 }, (response) => {
      let body = '';
      response.on('data', (chunk: Buffer) => (body += chunk.toString()));
      response.on('end', () =>
        response.statusCode === 200 ? resolve(body) : reject(new Error(`status ${response.statusCode}`)),
      );
    });
    sent.on('timeout', () => sent.destroy(new Error('no answer in 5 s')));
    sent.on('error', reject);
    sent.end();
  });
}

/** Serial number of the certificate that is presented at a port, hex in capitals. Who asks has none. */
async function serialAt(port: number): Promise<string> {
  const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false });
  socket.on('error', () => {});
  await once(socket, 'secureConnect');
  const certificate = socket.getPeerX509Certificate();
  socket.destroy();
  return certificate?.serialNumber ?? '';
}

const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex').toUpperCase();

describe('HAProxy on its runtime API', { skip: haproxySkip }, () => {
  it('refuses everybody before the first identity, and serves without a restart from it on', async (t) => {
    const { feed, haproxy, port, files, first: snapshot } = await site(t);
    if (!waitsForReload) await assert.rejects(get(port, newAgent(clientOf(snapshot))));
    const { pid } = haproxy;
    await feed.publish(snapshot, signal);
    assert.equal(await get(port, newAgent(clientOf(snapshot))), hexOf(snapshot.svid.serialNumber));
    assert.equal(haproxy.pid, pid);
    const [consumer] = feed.consumers();
    assert.equal(consumer?.loaded?.generation, 1);
    assert.deepEqual(consumer?.loaded?.serialNumber, snapshot.svid.serialNumber);
    assert.ok(readFileSync(join(files, 'svid.pem'), 'utf8').includes('BEGIN PRIVATE KEY'));
  });

  it(`serves kept and new connections through ${ROTATIONS} rotations without a failed request`, async (t) => {
    const { feed, haproxy, port, factory, first } = await site(t);
    let newest = first;
    await feed.publish(newest, signal);
    const { pid } = haproxy;
    const over = new AbortController();
    const failures: string[] = [];
    const seen = new Set<string>();
    let requests = 0;
    const work = async (keep: boolean): Promise<void> => {
      const kept = newAgent(clientOf(newest), true);
      while (!over.signal.aborted) {
        const agent = keep ? kept : newAgent(clientOf(newest));
        try {
          seen.add(await get(port, agent));
        } catch (error) {
          failures.push(`${keep ? 'kept' : 'new'}: ${String(error)}`);
        }
        requests += 1;
        if (!keep) agent.destroy();
      }
      kept.destroy();
    };
    const workers = [work(true), work(false), work(true), work(false)];
    for (let generation = 2; generation <= ROTATIONS + 1; generation += 1) {
      newest = await factory.snapshot(generation);
      await feed.publish(newest, signal);
      assert.deepEqual(await haproxy.openTransactions(), []);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    over.abort();
    await Promise.all(workers);
    t.diagnostic(
      `${requests} requests, ${failures.length} failed, ${seen.size} SVIDs seen by the inner bind line`,
    );
    assert.deepEqual(failures, []);
    assert.ok(requests > 500, 'hardly any traffic');
    assert.ok(seen.size > 5, 'the inner line saw hardly any rotation');
    assert.equal(haproxy.pid, pid);
    const lines = haproxy.log.split('\n').filter((line) => /"GET \/ HTTP/.test(line));
    assert.deepEqual(
      lines.filter((line) => !/ 200 /.test(line)),
      [],
    );
    assert.doesNotMatch(haproxy.log, /handshake failure/);
    assert.equal(feed.consumers()[0]?.loaded?.generation, ROTATIONS + 1);
  });

  it('keeps asking for a client certificate after the certificate was replaced', async (t) => {
    const { feed, port, factory, first } = await site(t);
    await feed.publish(first, signal);
    for (const generation of [2, 3]) await feed.publish(await factory.snapshot(generation), signal);
    const { ca } = clientOf(await factory.snapshot());
    await assert.rejects(get(port, newAgent({ ca })), 'a client without certificate was served');
    const stranger = await (await SnapshotFactory.make(Date.now())).snapshot();
    await assert.rejects(get(port, newAgent({ ...clientOf(stranger), ca })), 'a stranger was served');
  });

  it('is loaded again after HAProxy restarts, and after it was away for a rotation', async (t) => {
    const { feed, haproxy, port, factory, first } = await site(t);
    await feed.publish(first, signal);
    await haproxy.restart('SIGKILL');
    await until('it is loaded again', () => feed.consumers()[0]?.loaded?.generation === 1);
    await haproxy.stop('SIGKILL');
    const second = await factory.snapshot(2);
    await expectRejection('haproxy_unreachable', feed.publish(second, signal));
    assert.equal(feed.consumers()[0]?.errorCode, 'haproxy_unreachable');
    await haproxy.restart();
    await until('the second is loaded', () => feed.consumers()[0]?.loaded?.generation === 2);
    assert.equal(await get(port, newAgent(clientOf(second))), hexOf(second.svid.serialNumber));
    await feed.publish(second, signal);
  });

  it('gives up on a HAProxy that answers nothing in time, and brings it up to date when it answers again', async (t) => {
    const { feed, haproxy, factory, first } = await site(t);
    await feed.publish(first, signal);
    haproxy.freeze(true);
    await expectRejection('haproxy_unreachable', feed.publish(await factory.snapshot(2), signal));
    haproxy.freeze(false);
    await until('the second is loaded', () => feed.consumers()[0]?.loaded?.generation === 2);
    assert.deepEqual(await haproxy.openTransactions(), []);
  });

  it('drops the transactions that an agent which was killed has left open', async (t) => {
    const { feed, haproxy, files, first } = await site(t);
    await feed.publish(first, signal);
    await feed.close();
    const payload = readFileSync(join(files, 'svid.pem'), 'utf8');
    assert.match(await haproxy.ask(`set ssl cert ${files}/svid.pem <<\n${payload}`), /Transaction created/);
    assert.equal((await haproxy.openTransactions()).length, 1);
    await openFeed(t, files, { path: haproxy.socketPath });
    await until('the transaction is gone', async () => (await haproxy.openTransactions()).length === 0);
  });

  it('brings each rotation to several HAProxys, by Unix sockets and by a port of loopback, one of them away', async (t) => {
    const folder = temporaryFolder(t);
    const [files, adminPort] = [join(folder, 'files'), await freePort()];
    const homes = ['a', 'b', 'c'].map((name) => join(folder, name));
    const unixSockets = homes.slice(0, 2).map((home) => ({ path: socketPathOf(home) }));
    const feed = await openFeed(t, files, ...unixSockets, { host: '127.0.0.1', port: adminPort });
    const factory = await SnapshotFactory.make(Date.now());
    const first = await factory.snapshot(1);
    await expectRejection('haproxy_unreachable', feed.publish(first, signal));
    const ports = await Promise.all(homes.map(() => freePort()));
    const haproxys: RunningHaproxy[] = [];
    for (const [index, home] of homes.entries()) {
      const sections = `frontend in\n  bind 127.0.0.1:${ports[index]} ${bindOptions(files)}\n  http-request return status 200 content-type text/plain lf-string served\n`;
      // The agent is told of the third one's port alone.
      const global = index < 2 ? '' : `stats socket ipv4@127.0.0.1:${adminPort} level admin`;
      haproxys.push(await RunningHaproxy.start(t, { folder: home, sections, global }));
    }
    const loaded = (): unknown[] => feed.consumers().map((consumer) => consumer.loaded?.generation ?? null);
    const serials = (): Promise<string[]> => Promise.all(ports.map((port) => serialAt(port)));
    assert.deepEqual(
      feed.consumers().map(({ name }) => name.slice(-12)),
      ['a/admin.sock', 'b/admin.sock', `127.0.0.1:${adminPort}`.slice(-12)],
    );
    for (let generation = 2; generation <= 6; generation += 1) {
      const snapshot = await factory.snapshot(generation);
      await feed.publish(snapshot, signal);
      assert.deepEqual(loaded(), [generation, generation, generation]);
      const serial = hexOf(snapshot.svid.serialNumber);
      assert.deepEqual(await serials(), [serial, serial, serial]);
    }
    await haproxys[0]?.stop('SIGKILL');
    const last = await factory.snapshot(7);
    await expectRejection('haproxy_unreachable', feed.publish(last, signal));
    assert.deepEqual(loaded(), [null, 7, 7]);
    assert.deepEqual(
      feed.consumers().map(({ errorCode }) => errorCode),
      ['haproxy_unreachable', null, null],
    );
    await haproxys[0]?.restart();
    await until('the first is loaded again', () => loaded()[0] === 7);
    const serial = hexOf(last.svid.serialNumber);
    assert.deepEqual(await serials(), [serial, serial, serial]);
    for (const haproxy of haproxys) assert.deepEqual(await haproxy.openTransactions(), []);
  });

  it('refuses with words a socket that is not of level admin, and a configuration that names other files', async (t) => {
    const folder = temporaryFolder(t);
    const [files, home] = [join(folder, 'files'), join(folder, 'haproxy')];
    const other = join(folder, 'other');
    const feed = await openFeed(t, files, { path: socketPathOf(home) });
    await openFeed(t, other, { path: join(folder, 'none.sock') });
    const [snapshot, port] = [await (await SnapshotFactory.make(Date.now())).snapshot(), await freePort()];
    const sections = (path: string): string => `frontend in\n  bind 127.0.0.1:${port} ${bindOptions(path)}\n`;
    const operator = await RunningHaproxy.start(t, {
      folder: home,
      sections: sections(files),
      level: 'operator',
    });
    await expectRejection('haproxy_refused', feed.publish(snapshot, signal));
    await operator.stop();
    await RunningHaproxy.start(t, { folder: home, sections: sections(other) });
    await expectRejection('haproxy_config_unusable', feed.publish(snapshot, signal));
  });

  it('accepts nobody and is accepted by nobody once the identity is withdrawn', async (t) => {
    const { feed, port, factory, first } = await site(t);
    const snapshot = first;
    await feed.publish(snapshot, signal);
    await feed.withdraw(signal);
    await assert.rejects(get(port, newAgent(clientOf(snapshot))));
    const next = await factory.snapshot(2);
    await feed.publish(next, signal);
    assert.equal(await get(port, newAgent(clientOf(next))), hexOf(next.svid.serialNumber));
  });

  it('where HAProxy cannot replace CAs at run time: leaves changed CAs to a reload, says so, and is loaded after it', {
    skip: !waitsForReload,
  }, async (t) => {
    const { feed, haproxy, factory, first } = await site(t);
    await feed.publish(first, signal);
    const validity = { notBeforeMs: Date.now() - 60_000, notAfterMs: Date.now() + 3_600_000 };
    const bundle = factory.bundle(2n, await makeAnchor(validity));
    const second = { ...(await factory.snapshot(2)), bundle };
    const { pid } = haproxy;
    await expectRejection('haproxy_reload_needed', feed.publish(second, signal));
    assert.equal(feed.consumers()[0]?.loaded?.generation, 1);
    assert.equal(haproxy.pid, pid);
    assert.match(await haproxy.ask('show info'), /^Name: HAProxy/);
    await haproxy.restart();
    await until('it is loaded', () => feed.consumers()[0]?.loaded?.generation === 2);
  });

  it('where it can: changes anchors both ways under traffic, and refuses a certificate once its CRL is there', {
    skip: waitsForReload && 'this HAProxy cannot do it: see docs/feeds.md',
  }, async (t) => {
    const { feed, port } = await site(t, true);
    const nowMs = Date.now();
    const validity = { notBeforeMs: nowMs - 60_000, notAfterMs: nowMs + 3_600_000 };
    const [a, b] = [await makeAnchor(validity), await makeAnchor(validity)];
    const issuers = { a: await makeIssuer(a, validity), b: await makeIssuer(b, validity) };
    const factory = await SnapshotFactory.make(nowMs);
    const base = await factory.snapshot();
    const snapshotOf = async (
      generation: number,
      issuer: TestCa,
      anchors: readonly TestCa[],
      crls: readonly Uint8Array[] = [],
    ): Promise<IdentitySnapshot> => {
      const svid = await svidOf(base, issuer, validity);
      const x509Authorities = anchors.map(({ der }) => der);
      return {
        generation,
        svid,
        bundle: { ...base.bundle, sequence: BigInt(generation), x509Authorities, crls },
      };
    };
    const steps = [
      await snapshotOf(1, issuers.a, [a]),
      await snapshotOf(2, issuers.a, [a, b]),
      await snapshotOf(3, issuers.b, [a, b]),
      await snapshotOf(4, issuers.b, [b]),
      // Both at once, as for an agent that missed the steps between: the union of step 4 of updateHaproxy.
      await snapshotOf(5, issuers.a, [a]),
    ];
    for (const step of steps) {
      await feed.publish(step, signal);
      assert.equal(await get(port, newAgent(clientOf(step))), hexOf(step.svid.serialNumber));
    }
    const victim = await snapshotOf(6, issuers.a, [a]);
    await get(port, newAgent(clientOf(victim)));
    const crl = await createCrl({
      issuer: parseCertificate(issuers.a.der),
      signer: issuers.a.signer,
      number: 1,
      thisUpdateMs: nowMs - 1_000,
      nextUpdateMs: nowMs + 3_600_000,
      entries: [
        { serialNumber: victim.svid.serialNumber, revokedAtMs: nowMs - 500, reason: 'keyCompromise' },
      ],
    });
    const revoking = await snapshotOf(7, issuers.a, [a], [crl]);
    await feed.publish(revoking, signal);
    await assert.rejects(get(port, newAgent(clientOf(victim))), /revoked/);
    await get(port, newAgent(clientOf(revoking)));
  });

  it('adds CAs in parts where they do not fit into one command', {
    skip: waitsForReload && 'this HAProxy cannot do it: see docs/feeds.md',
  }, async (t) => {
    const { feed, factory } = await site(t);
    const validity = { notBeforeMs: Date.now() - 60_000, notAfterMs: Date.now() + 3_600_000 };
    const others = await Promise.all(Array.from({ length: 60 }, () => makeAnchor(validity)));
    const snapshot = { ...(await factory.snapshot(1)), bundle: factory.bundle(1n, ...others) };
    await feed.publish(snapshot, signal);
    assert.equal(feed.consumers()[0]?.loaded?.generation, 1);
  });

  it(`follows an agent through ${AGENT_ROTATIONS} rotations, and a kill and restart of that agent`, async (t) => {
    const folder = temporaryFolder(t);
    const plane = await IdentityPlane.start(
      t,
      folder,
      'svid: { ttl: 16s, backdate: 1s }\nissuer: { lifetime: 10m, renewAfter: 5m }\nclockSkew: 1s',
    );
    const [files, home, port] = [join(folder, 'files'), join(folder, 'haproxy'), await freePort()];
    const options = ['--haproxy-sockets', socketPathOf(home), '--haproxy-folder', files];
    const first = await plane.agent('web', options);
    await until('the identity is there', () => first.events('feed.publication_failed').length > 0);
    const haproxy = await RunningHaproxy.start(t, {
      folder: home,
      sections: `frontend in\n  bind 127.0.0.1:${port} ${bindOptions(files)}\n  http-request return status 200 content-type text/plain lf-string "%[ssl_c_serial,hex]"\n`,
    });
    const socket = join(folder, 'client', 'api.sock');
    await plane.agent('client', ['--socket', socket]);
    await until('HAProxy has the identity', () => first.events('haproxy.loaded').length > 0);
    const load = await MtlsLoad.start({ target: socketTarget(`unix://${socket}`), port, workers: 4 });
    t.after(() => load.stop());
    await until('half of the rotations', () => load.serverSerials.size > AGENT_ROTATIONS / 2, 120_000);
    // Just after a rotation: the SVID in HAProxy has all of its lifetime before it.
    await first.end('SIGKILL');
    const second = await plane.agent('web', options);
    await until('all of the rotations', () => load.serverSerials.size > AGENT_ROTATIONS, 120_000);
    await load.stop();
    t.diagnostic(
      `${load.requests} requests, ${load.failures.length} failed, ${load.resent} sent again; ` +
        `${load.serverSerials.size} server SVIDs, ${load.clientSerials.size} client SVIDs`,
    );
    assert.deepEqual(load.failures, []);
    assert.deepEqual(await haproxy.openTransactions(), []);
    assert.equal(await second.end(), 0, second.log);
  });
});

async function svidOf(
  base: IdentitySnapshot,
  issuer: TestCa,
  validity: { notBeforeMs: number; notAfterMs: number },
): Promise<IdentitySnapshot['svid']> {
  const signer = newSigner();
  const der = await makeLeaf(issuer, { signer, ...validity });
  const { serialNumber } = parseCertificate(der);
  const key = new Uint8Array(signer.privateKey.export({ type: 'pkcs8', format: 'der' }));
  const { Secret } = await import('../../pki/secret.ts');
  return {
    ...base.svid,
    chain: [der, issuer.der],
    privateKey: new Secret(key),
    serialNumber: Uint8Array.from(serialNumber),
  };
}
