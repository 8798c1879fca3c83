import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { KEDGE, ROOT, RunningKedge, runKedge } from '../support/kedge-process.ts';

describe('kedge, from a new data folder to a served identity', () => {
  const folder = mkdtempSync(join(tmpdir(), 'kedge-run-'));
  const data = join(folder, 'data');
  const path = (name: string): string => join(folder, name);
  const listen = ['--grpc-address', '127.0.0.1:0', '--http-address', '127.0.0.1:0'];
  const socket = path('workload.sock');
  const running: RunningKedge[] = [];
  const start = (...argv: string[]): RunningKedge => {
    const one = new RunningKedge(KEDGE, argv);
    running.push(one);
    return one;
  };
  let ca: RunningKedge;
  let agentArguments: string[] = [];

  before(async () => {
    ca = start('ca', '--data', data, ...listen);
    const { grpcAddress = '' } = await ca.event('ca.started');
    const bundle = await runKedge(['bundle', 'show', '--data', data, '--output', 'pem']);
    assert.deepEqual([bundle.code, bundle.stderr], [0, '']);
    writeFileSync(path('bundle.pem'), bundle.stdout);
    const identity = ['--namespace', 'demo', '--service-account', 'web'];
    const token = await runKedge(['token', '--data', data, ...identity, '--write', path('token')]);
    assert.deepEqual([token.code, token.stdout, token.stderr], [0, '', '']);
    agentArguments = ['agent', '--ca-address', grpcAddress, '--trust-domain', 'example.org'];
    agentArguments.push(
      '--token-file',
      path('token'),
      '--bootstrap-bundle',
      path('bundle.pem'),
      '--socket',
      socket,
    );
  });
  after(async () => {
    for (const one of running) one.process.kill('SIGKILL');
    await Promise.all(running.map(({ ended }) => ended));
    rmSync(folder, { recursive: true });
  });

  it('writes a token for its reader alone', () => {
    assert.equal(statSync(path('token')).mode & 0o777, 0o600);
    assert.match(readFileSync(path('token'), 'utf8'), /^[\w-]+\.[\w-]+\.[\w-]+\n$/);
  });

  it('serves an identity, waits for it, fetches it and verifies it', async () => {
    const agent = start(...agentArguments);
    const env = { SPIFFE_ENDPOINT_SOCKET: `unix://${socket}` };
    const waited = await runKedge(['agent', 'wait', '--output', 'json'], { env });
    assert.equal(waited.code, 0, waited.stderr);
    assert.equal((JSON.parse(waited.stdout) as { serving: boolean }).serving, true);
    const health = await runKedge(['agent', 'healthcheck'], { env });
    assert.deepEqual([health.code, health.stdout], [0, 'the agent serves an identity\n']);

    const fetched = await runKedge(['svid', 'fetch', '--write', path('identity')], { env });
    assert.equal(fetched.code, 0, fetched.stderr);
    assert.match(fetched.stdout, /^SPIFFE ID {4}spiffe:\/\/example\.org\/ns\/demo\/sa\/web$/m);
    assert.doesNotMatch(fetched.stdout, /PRIVATE/);
    const modes = ['svid.pem', 'svid.key', 'bundle.pem'].map(
      (name) => statSync(join(path('identity'), name)).mode & 0o777,
    );
    assert.deepEqual(modes, [0o644, 0o600, 0o644]);
    const verify = ['svid', 'verify', join(path('identity'), 'svid.pem'), '--bundle', path('bundle.pem')];
    assert.equal((await runKedge([...verify, '--id', 'spiffe://example.org/ns/demo/sa/web'])).code, 0);
    const json = await runKedge(['svid', 'fetch', '--output', 'json'], { env });
    assert.doesNotMatch(json.stdout, /PRIVATE|privateKey|redacted/);
    const other = await runKedge(['svid', 'fetch', '--id', 'spiffe://example.org/x'], { env });
    assert.equal(other.code, 1);
    assert.match(other.stderr, /^code: identity_unavailable$/m);
    const shown = await runKedge(['bundle', 'show', '--socket', socket, '--output', 'pem']);
    assert.equal(shown.stdout, readFileSync(path('bundle.pem'), 'utf8'));
    await agent.event('feed.published');
    await agent.end('SIGINT');
    assert.equal(existsSync(socket), false);
    assert.equal((await runKedge(['agent', 'healthcheck'], { env })).code, 1);
  });

  it('shows the state of the CA for people and for scripts', async () => {
    const text = await runKedge(['status', '--data', data]);
    assert.equal(text.code, 0, text.stderr);
    assert.match(text.stdout, /^trust domain {2}example\.org$/m);
    const json = await runKedge(['status', '--data', data, '-o', 'json']);
    const status = JSON.parse(json.stdout) as { trustDomain: string; issuers: { phase: string }[] };
    assert.deepEqual([status.trustDomain, status.issuers[0]?.phase], ['example.org', 'active']);
  });

  it('keeps a token fresh until it is told to end', async () => {
    const argv = ['token', '--data', data, '--namespace', 'demo', '--service-account', 'web', '--ttl', '2s'];
    const token = start(...argv, '--write', path('fresh'), '--keep-fresh');
    while (!existsSync(path('fresh'))) await delay(20);
    const first = readFileSync(path('fresh'), 'utf8');
    while (readFileSync(path('fresh'), 'utf8') === first) await delay(20);
    await token.end('SIGTERM');
  });

  it('refuses a second CA on the same data folder, and the first goes on', async () => {
    const second = await runKedge(['ca', '--data', data, ...listen]);
    assert.equal(second.code, 1);
    assert.match(second.stderr, /^code: data_folder_in_use$/m);
    assert.equal((await runKedge(['status', '--data', data])).code, 0);
  });

  const badConfigs = [
    { name: 'a lifetime that is none', argv: ['--svid-ttl', 'soon'], message: /--svid-ttl.*"soon"/ },
    { name: 'an SVID that outlives its issuer', argv: ['--svid-ttl', '40d'], message: /svid\.ttl/ },
    {
      name: 'a trust domain that is none',
      argv: ['--trust-domain', 'Not A Domain'],
      message: /trust-domain/,
    },
    {
      name: 'an address that is none',
      argv: ['--grpc-address', 'nowhere'],
      message: /--grpc-address.*"nowhere"/,
    },
    {
      name: 'a configuration file that does not exist',
      argv: ['--config', '/nowhere.yaml'],
      message: /nowhere\.yaml/,
    },
  ];
  for (const { name, argv, message } of badConfigs) {
    it(`exits with 2, and makes nothing, for ${name}`, async () => {
      const { code, stderr } = await runKedge(['ca', '--data', path('never'), ...argv]);
      assert.equal(code, 2, stderr);
      assert.match(stderr, message);
      assert.equal(existsSync(path('never')), false);
    });
  }

  it('exits with 1, and says which, when a port is taken', async () => {
    const other = createServer();
    await new Promise<void>((resolve) => {
      other.listen(0, '127.0.0.1', resolve);
    });
    const { port } = other.address() as { port: number };
    const ended = await runKedge([
      'ca',
      '--data',
      path('taken'),
      ...listen.slice(2),
      '--grpc-address',
      `127.0.0.1:${port}`,
    ]);
    other.close();
    assert.equal(ended.code, 1, ended.stderr);
    assert.match(ended.stderr, new RegExp(`${port}`));
    assert.doesNotMatch(ended.stderr, /^ {4}at /m);
  });

  it('drains the CA at SIGTERM, and leaves an audit log that verifies', async () => {
    await ca.end('SIGTERM');
    const verified = await runKedge(['audit', 'verify', '--data', data]);
    assert.equal(verified.code, 0, verified.stdout);
    assert.match(verified.stdout, /^verdict +good$/m);
    const log = readFileSync(join(data, 'audit', 'audit-0000000000000001.jsonl'));
    const at = log.indexOf('"seq"') + 7;
    log.writeUInt8(log.readUInt8(at) ^ 1, at);
    writeFileSync(join(data, 'audit', 'audit-0000000000000001.jsonl'), log);
    const broken = await runKedge(['audit', 'verify', '--data', data, '--output', 'json']);
    assert.equal(broken.code, 1);
    const verdict = JSON.parse(broken.stdout) as { good: boolean; brokenAt: { line: number } };
    assert.deepEqual([verdict.good, verdict.brokenAt.line], [false, 1]);
  });
});

describe('a kedge that drains', () => {
  it('ends at once, with the number of the signal, when it is told a second time', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'kedge-signal-'));
    const program = join(folder, 'drains-for-ever.mjs');
    writeFileSync(
      program,
      `import { aborted, drainSignal } from ${JSON.stringify(join(ROOT, 'cli/signals.ts'))};
       const drain = drainSignal();
       const alive = setInterval(() => {}, 1000);
       console.error('{"event":"ready"}');
       await aborted(drain.signal);
       console.error(JSON.stringify({ event: 'draining', reason: drain.signal.reason }));
       await new Promise(() => alive);`,
    );
    for (const [signal, code] of [
      ['SIGTERM', 143],
      ['SIGINT', 130],
    ] as const) {
      const child = new RunningKedge(program, []);
      await child.event('ready');
      child.process.kill(signal);
      assert.equal((await child.event('draining'))['reason'], signal);
      child.process.kill(signal);
      assert.deepEqual(await child.ended, { code, signal: null });
    }
    rmSync(folder, { recursive: true });
  });
});
