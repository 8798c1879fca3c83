import assert from 'node:assert/strict';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { MAX_ANSWER_BYTES } from '../../../../agent/feed/haproxy-answers.ts';
import { askHaproxy } from '../../../../agent/feed/haproxy-connection.ts';
import { isKedgeError } from '../../../../pki/kedge-error.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { temporaryFolder } from '../../../support/temporary-folder.ts';

/** A peer on a socket for faults that a real HAProxy cannot be made to show. */
async function peer(t: TestContext, serve: (socket: Socket, command: string) => void): Promise<string> {
  const path = join(temporaryFolder(t), 'admin.sock');
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('data', (chunk) => serve(socket, chunk.toString()));
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return path;
}

const never = new AbortController().signal;

describe('a connection to HAProxy', () => {
  it('gives all of an answer that comes in pieces', async (t) => {
    const path = await peer(t, (socket, command) => {
      socket.write(command);
      setImmediate(() => socket.end('second\n\n'));
    });
    const answer = await askHaproxy(
      'first\n',
      { address: { path }, timeoutMs: 1_000, clock: new ManualClock() },
      never,
    );
    assert.equal(answer, 'first\nsecond\n\n');
  });

  it('ends at its deadline, whether nothing comes or half an answer', async (t) => {
    for (const half of ['', 'Committing /run/x']) {
      const clock = new ManualClock();
      const received = Promise.withResolvers<void>();
      const path = await peer(t, (socket) => socket.write(half, () => received.resolve()));
      const asked = askHaproxy('x\n', { address: { path }, timeoutMs: 1_000, clock }, never);
      asked.catch(() => {});
      await received.promise;
      await clock.advance(1_000);
      await assert.rejects(asked, (error) => isKedgeError(error, 'haproxy_unreachable'));
      assert.equal(clock.sleeping, 0);
    }
  });

  it('refuses an answer without end', async (t) => {
    const path = await peer(t, (socket) => socket.write(Buffer.alloc(MAX_ANSWER_BYTES + 1)));
    const options = { address: { path }, timeoutMs: 1_000, clock: new ManualClock() };
    await assert.rejects(askHaproxy('x\n', options, never), (error) =>
      isKedgeError(error, 'haproxy_answer_invalid'),
    );
  });

  it('is told of one that cuts it off, and of one that is not there', async (t) => {
    const path = await peer(t, (socket) => socket.destroy());
    const clock = new ManualClock();
    const cut = await askHaproxy('x\n', { address: { path }, timeoutMs: 1_000, clock }, never).catch(
      (e: unknown) => e,
    );
    assert.ok(cut === '' || isKedgeError(cut, 'haproxy_unreachable'));
    const address = { path: join(temporaryFolder(t), 'none.sock') };
    await assert.rejects(askHaproxy('x\n', { address, timeoutMs: 1_000, clock }, never), (error) =>
      isKedgeError(error, 'haproxy_unreachable'),
    );
  });

  it('ends with the reason of its signal', async (t) => {
    const stop = new AbortController();
    const reason = new Error('stopped');
    const path = await peer(t, () => stop.abort(reason));
    const options = { address: { path }, timeoutMs: 1_000, clock: new ManualClock() };
    await assert.rejects(askHaproxy('x\n', options, stop.signal), reason);
    await assert.rejects(askHaproxy('x\n', options, stop.signal), reason);
  });
});
