import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { before, describe, it, type TestContext } from 'node:test';
import { createServer as createTlsServer, type TlsOptions } from 'node:tls';
import type { CanaryAnswer } from '../../../agent/canary-answer.ts';
import { type CanaryTarget, CANARY_TIMEOUT_MS, dialProxy } from '../../../agent/canary-probe.ts';
import { type CanaryVerdict, judgeCanary } from '../../../agent/canary.ts';
import type { SvidSnapshot } from '../../../agent/snapshot.ts';
import { encodePem } from '../../../pki/pem.ts';
import { ManualClock, settle } from '../../support/manual-clock.ts';
import { keyOf, SnapshotFactory } from '../../support/snapshots.ts';

const HOUR_MS = 3_600_000;

describe('dialing the proxy', () => {
  let good: SnapshotFactory;
  let foreign: SnapshotFactory;
  let svid: SvidSnapshot;
  let expired: SvidSnapshot;
  before(async () => {
    // OpenSSL checks the certificates by the clock of the machine.
    const nowMs = Date.now();
    [good, foreign] = [await SnapshotFactory.make(nowMs), await SnapshotFactory.make(nowMs)];
    [svid, expired] = [await good.svid(), await good.svid({ lifetimeMs: -60_000 })];
  });

  const pem = (ders: readonly Uint8Array[]): string =>
    ders.map((der) => encodePem('CERTIFICATE', der)).join('');
  const listening = async (t: TestContext, server: Server): Promise<number> => {
    const sockets = new Set<Socket>();
    server.on('connection', (socket: Socket) => {
      sockets.add(socket);
      socket.on('error', () => {});
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    const address = server.address();
    assert.ok(typeof address === 'object' && address !== null);
    return address.port;
  };
  /** A proxy that checks its clients in the handshake, as HAProxy and Envoy do. */
  const proxy = (
    t: TestContext,
    served: SvidSnapshot,
    options: TlsOptions = {},
    answer = 'HTTP/1.1 200 OK\r\n\r\n',
  ) => {
    const server = createTlsServer(
      {
        cert: pem(served.chain),
        key: keyOf(served).export({ type: 'pkcs8', format: 'pem' }),
        ca: pem([good.anchor.der]),
        requestCert: true,
        rejectUnauthorized: true,
        ...options,
      },
      (socket) => {
        socket.on('error', () => {});
        socket.once('data', () => socket.end(answer));
      },
    );
    server.on('tlsClientError', () => {});
    return listening(t, server);
  };
  const dial = (
    port: number,
    {
      protocol = 'http',
      presented = svid,
      clock = new ManualClock(),
    }: {
      protocol?: CanaryTarget['protocol'];
      presented?: SvidSnapshot;
      clock?: ManualClock;
    } = {},
  ) => {
    const target: CanaryTarget = { host: '127.0.0.1', port, protocol, path: '/healthz' };
    return dialProxy(
      { target, svid: presented, timeoutMs: CANARY_TIMEOUT_MS, clock },
      new AbortController().signal,
    );
  };

  for (const { protocol, version, want, bundle } of [
    { protocol: 'http', version: undefined, want: 'http_served', bundle: 7n },
    { protocol: 'tls', version: undefined, want: 'handshake_done', bundle: 7n },
    { protocol: 'http', version: 'TLSv1.3', want: 'http_served', bundle: 0n },
    { protocol: 'tls', version: 'TLSv1.3', want: 'ticket_sent', bundle: 0n },
  ] as const) {
    it(`proves a proxy by ${protocol}${version === undefined ? '' : ` that speaks ${version} alone`}`, async (t) => {
      const options = version === undefined ? {} : { minVersion: version };
      const seen = await dial(await proxy(t, svid, options), { protocol });
      assert.deepEqual([seen.answer, seen.asked], [want, true]);
      const snapshot = { generation: 1, svid, bundle: good.bundle(7n) };
      const { verdict, proven } = judgeCanary(seen, snapshot, Date.now());
      assert.deepEqual([verdict, proven?.bundleSequence], ['proven', bundle]);
    });
  }

  it('sees through a proxy that resumes sessions: none is offered', async (t) => {
    const port = await proxy(t, svid);
    for (let i = 0; i < 3; i += 1) assert.equal((await dial(port)).answer, 'http_served');
  });

  it('judges what is wrong with a proxy', async (t) => {
    const anyone = { requestCert: false };
    const table: readonly {
      name: string;
      port: Promise<number>;
      presented?: SvidSnapshot;
      want: readonly [CanaryVerdict, CanaryAnswer];
    }[] = [
      { name: 'asks nobody', port: proxy(t, svid, anyone), want: ['unknown', 'not_asked'] },
      { name: 'an older SVID', port: proxy(t, await good.svid()), want: ['outdated', 'http_served'] },
      { name: 'an expired one', port: proxy(t, expired), want: ['untrusted', 'http_served'] },
      { name: 'a foreign chain', port: proxy(t, await foreign.svid()), want: ['untrusted', 'http_served'] },
      {
        name: 'an older bundle',
        port: proxy(t, svid, { ca: pem([foreign.anchor.der]) }),
        // Node closes the connection without a word, which says nothing.
        want: ['unknown', 'closed'],
      },
      {
        name: 'HTTP 400, as nginx',
        port: proxy(t, svid, { rejectUnauthorized: false }, 'HTTP/1.1 400 Bad Request\r\n\r\n'),
        want: ['refused', 'http_refused'],
      },
      {
        name: 'HTTP 403',
        port: proxy(t, svid, {}, 'HTTP/1.1 403 Forbidden\r\n\r\n'),
        want: ['unknown', 'http_other'],
      },
      { name: 'no HTTP', port: proxy(t, svid, {}, 'SSH-2.0-x\r\n'), want: ['unknown', 'not_http'] },
      { name: 'no end of line', port: proxy(t, svid, {}, 'H'.repeat(5000)), want: ['unknown', 'not_http'] },
      { name: 'closes unanswered', port: proxy(t, svid, {}, ''), want: ['unknown', 'closed'] },
    ];
    for (const { name, port, want } of table) {
      const seen = await dial(await port);
      const { verdict, answer } = judgeCanary(
        seen,
        { generation: 1, svid, bundle: good.bundle() },
        Date.now(),
      );
      assert.deepEqual([verdict, answer], want, name);
    }
  });

  it('takes whatever answers there for what it is', async (t) => {
    const table: readonly { name: string; serve: (socket: Socket) => void; want: CanaryAnswer }[] = [
      { name: 'clear text', serve: (socket) => socket.write('HTTP/1.1 400 Bad\r\n\r\n'), want: 'not_tls' },
      { name: 'random bytes', serve: (socket) => socket.write(Buffer.alloc(900, 0xa5)), want: 'not_tls' },
      { name: 'a reset', serve: (s) => s.once('data', () => s.resetAndDestroy()), want: 'closed' },
      { name: 'an end', serve: (socket) => socket.end(), want: 'closed' },
      { name: 'half a record', serve: (s) => s.end(Buffer.from([22, 3, 3, 0x10, 0, 2])), want: 'closed' },
      {
        name: 'an alert about the certificate',
        serve: (socket) => socket.end(Buffer.from([21, 3, 3, 0, 2, 2, 48])),
        want: 'alert_certificate',
      },
    ];
    for (const { name, serve, want } of table) {
      const { answer, presented } = await dial(await listening(t, createServer(serve)));
      assert.deepEqual([answer, presented.length], [want, 0], name);
    }
  });

  it('ends a flood that is endless', async (t) => {
    // Handshake records that begin one message of 16 MiB, which OpenSSL or our bound must end.
    const flood = (socket: Socket): void => {
      const chunk = Buffer.concat([Buffer.from([22, 3, 3, 0x40, 0]), Buffer.alloc(0x4000, 2)]);
      chunk.set([11, 0xff, 0xff, 0xff], 5);
      const more = (): void => {
        while (!socket.destroyed && socket.write(chunk));
      };
      socket.on('drain', more);
      more();
    };
    const { answer } = await dial(await listening(t, createServer(flood)));
    assert.ok(answer === 'flooded' || answer === 'not_tls', answer);
  });

  it('ends an answer that is endless: its first line decides, if that comes within the bound', async (t) => {
    const port = await proxy(t, svid, {}, `HTTP/1.1 200 OK\r\n\r\n${'x'.repeat(4_000_000)}`);
    const { answer } = await dial(port);
    assert.ok(answer === 'http_served' || answer === 'flooded', answer);
  });

  it('gives up on a proxy that never answers, when its time is over', async (t) => {
    const clock = new ManualClock();
    const arrived = Promise.withResolvers<void>();
    const port = await listening(
      t,
      createServer((socket) => socket.once('data', () => arrived.resolve())),
    );
    const seen = dial(port, { clock });
    await arrived.promise;
    await clock.advance(CANARY_TIMEOUT_MS);
    assert.equal((await seen).answer, 'silent');
    await settle();
    assert.equal(clock.sleeping, 0, 'a timer is left');
  });

  it('says when nobody is there', async (t) => {
    const server = createServer();
    const port = await listening(t, server);
    server.close();
    await once(server, 'close');
    assert.equal((await dial(port)).answer, 'unreachable');
  });

  it('stops at once when the agent ends', async (t) => {
    const port = await listening(
      t,
      createServer(() => {}),
    );
    const target: CanaryTarget = { host: '127.0.0.1', port, protocol: 'tls', path: '/' };
    const stop = new AbortController();
    const dialing = dialProxy({ target, svid, timeoutMs: HOUR_MS, clock: new ManualClock() }, stop.signal);
    stop.abort(new Error('the agent is closing'));
    await assert.rejects(dialing, { message: 'the agent is closing' });
  });
});
