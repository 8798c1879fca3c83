import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from 'node:http2';
import { after, before, describe, it } from 'node:test';
import { Worker } from 'node:worker_threads';
import { status } from '@grpc/grpc-js';
import { IssueX509SvidResponse } from '../../proto/gen/kedge/v1/identity.ts';
import { type CaUnderTest, issue, runningCa } from '../support/running-ca.ts';

const ISSUE = '/kedge.v1.Identity/IssueX509Svid';
const HEALTH = ['/grpc.health.v1.Health/Check', '/grpc.health.v1.Health/Watch'] as const;

/** As grpc-js's: what comes of a message before it is whole. Well below the largest that the CA takes. */
const HALF_BYTES = 60_000;

const CONNECTIONS = 64;

/** Opens connections, begins 16 calls on each without finishing a message, and says when the server has seen them. */
const STALLING_CALLERS = `
  const { connect } = require('node:http2');
  const { parentPort, workerData: { port, paths, HALF_BYTES, CONNECTIONS } } = require('node:worker_threads');
  const message = Buffer.alloc(5 + HALF_BYTES);
  message.writeUInt32BE(HALF_BYTES + 1, 1);
  const sessions = Array.from({ length: CONNECTIONS }, () => {
    const session = connect('https://127.0.0.1:' + port, { rejectUnauthorized: false });
    session.on('error', () => {});
    for (let n = 0; n < 16; n += 1) {
      const headers = { ':method': 'POST', ':path': paths[n % 2], 'content-type': 'application/grpc', te: 'trailers' };
      const stream = session.request(headers);
      stream.on('error', () => {});
      stream.write(message);
    }
    return session;
  });
  const answered = (session) => new Promise((resolve) => {
    session.once('close', resolve);
    session.ping(resolve);
  });
  Promise.all(sessions.map(answered)).then(() => parentPort.postMessage('sent'));
`;

let under: CaUnderTest;
const undo: (() => unknown)[] = [];
before(async () => {
  under = await runningCa({ after: (fn) => void undo.push(fn as () => unknown) });
});
after(async () => {
  for (const one of undo.toReversed()) await one();
});

function session(t: { after: (fn: () => void) => void }): ClientHttp2Session {
  const port = under.ca.grpcAddress.split(':').at(-1);
  const opened = connect(`https://127.0.0.1:${port}`, { rejectUnauthorized: false });
  opened.on('error', () => {});
  t.after(() => opened.destroy());
  return opened;
}

/** A call that sends its headers and all but the end of a message, and then nothing. */
function halfCall(
  on: ClientHttp2Session,
  path: string,
  token?: string,
  more: Record<string, string> = {},
): ClientHttp2Stream {
  const stream = on.request({
    ':method': 'POST',
    ':path': path,
    'content-type': 'application/grpc',
    te: 'trailers',
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    ...more,
  });
  stream.on('error', () => {});
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(HALF_BYTES + 1, 1);
  stream.write(Buffer.concat([prefix, Buffer.alloc(HALF_BYTES)]));
  return stream;
}

async function grpcStatusOf(stream: ClientHttp2Stream): Promise<number> {
  const [headers] = (await once(stream, 'response')) as [Record<string, string>];
  return Number(headers['grpc-status']);
}

async function assertServesOthers(): Promise<void> {
  const client = await under.connect();
  const answer = await issue(client, under.token({ podName: 'honest-0' }));
  assert.equal(
    IssueX509SvidResponse.decode(IssueX509SvidResponse.encode(answer).finish()).x509Svid.length,
    2,
  );
}

describe('a caller that stalls within its message', () => {
  for (const { name, token } of [
    { name: 'without a token', token: undefined },
    { name: 'with a token that is none', token: 'no.such.token' },
  ]) {
    it(`is refused at its headers, with none of the message read, ${name}`, async (t) => {
      const opened = session(t);
      const refusals = Array.from({ length: 10 }, () => grpcStatusOf(halfCall(opened, ISSUE, token)));
      for (const code of await Promise.all(refusals)) assert.equal(code, status.UNAUTHENTICATED);
      await assertServesOthers();
    });
  }

  for (const { name, path, token } of [
    { name: 'its instance has too many such calls', path: ISSUE, token: true },
    { name: 'everyone without a token has too many health checks', path: HEALTH[0], token: false },
    { name: 'everyone without a token has too many health streams', path: HEALTH[1], token: false },
  ]) {
    it(`loses its connection when ${name}`, async (t) => {
      const bearer = token ? under.token({ podName: 'stalls-0' }) : undefined;
      const sessions = Array.from({ length: 5 }, () => session(t));
      const [first, , , , last] = sessions;
      assert.ok(first !== undefined && last !== undefined);
      const gone = new Promise((resolve) => first.once('close', resolve));
      for (const opened of sessions) {
        for (let n = 0; n < 16; n += 1) halfCall(opened, path, bearer);
        // The server has seen those once it has acknowledged this.
        await new Promise((resolve) => opened.ping(() => resolve(null)));
      }
      await gone;
      assert.equal(last.destroyed, false);
      await assertServesOthers();
    });
  }

  it('is not let off by a deadline of its own: grpc-js keeps what has come after the status too', async (t) => {
    const sessions = Array.from({ length: 5 }, () => session(t));
    const [first] = sessions;
    assert.ok(first !== undefined);
    const gone = new Promise((resolve) => first.once('close', resolve));
    for (const opened of sessions) {
      const statuses = Array.from({ length: 16 }, (_, n) =>
        grpcStatusOf(halfCall(opened, HEALTH[n % 2] ?? HEALTH[0], undefined, { 'grpc-timeout': '1m' })),
      );
      if (opened !== first) continue;
      for (const code of await Promise.all(statuses)) assert.equal(code, status.DEADLINE_EXCEEDED);
    }
    await gone;
    await assertServesOthers();
  });

  it('cannot make the process hold more than the bounds say, on any number of connections', async (t) => {
    const heldBytes = (): number => process.memoryUsage().external;
    const beforeBytes = heldBytes();
    // In a thread of their own, whose memory is not in the figures of this one.
    const worker = new Worker(STALLING_CALLERS, {
      eval: true,
      workerData: {
        port: under.ca.grpcAddress.split(':').at(-1),
        paths: [ISSUE, HEALTH[0]],
        HALF_BYTES,
        CONNECTIONS,
      },
    });
    t.after(() => worker.terminate());
    await once(worker, 'message');
    await assertServesOthers();
    const grownBytes = heldBytes() - beforeBytes;
    const boundBytes = CONNECTIONS * 64 * 1024 + 64 * 128 * 1024;
    assert.ok(CONNECTIONS * 16 * HALF_BYTES > 3 * boundBytes, 'the test sends too little to show anything');
    assert.ok(grownBytes < 1.5 * boundBytes, `${grownBytes} bytes`);
  });
});
