import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { describe, it } from 'node:test';
import { PassThrough } from 'node:stream';
import { type ReadBody, RequestBodies } from '../../../../ca/webhook/request-bodies.ts';
import { settle } from '../../../support/manual-clock.ts';

/** A request whose body is written by the test. */
function request(): PassThrough & IncomingMessage {
  const stream = new PassThrough();
  stream.on('error', () => {});
  return Object.assign(stream, { complete: false }) as unknown as PassThrough & IncomingMessage;
}

function finish(one: PassThrough & IncomingMessage, text: string): void {
  Object.assign(one, { complete: true });
  one.end(text);
}

const shown = (body: ReadBody): string =>
  typeof body === 'string' ? `(${body})` : Buffer.from(body).toString();

describe('the bodies of requests', () => {
  it('are read whole, and counted until they were used', async () => {
    const bodies = new RequestBodies({ maxBytes: 10, maxTotalBytes: 20 });
    for (let i = 0; i < 5; i += 1) {
      const one = request();
      const read = bodies.with(one, shown);
      one.write('hel');
      finish(one, 'lo');
      assert.equal(await read, 'hello');
    }
  });

  it('are refused when they are too large', async () => {
    const bodies = new RequestBodies({ maxBytes: 10, maxTotalBytes: 20 });
    const one = request();
    const read = bodies.with(one, shown);
    finish(one, 'more than ten');
    assert.equal(await read, '(too large)');
  });

  it('give way to newcomers where all of them are too much: the longest under way first, the finished not at all', async () => {
    const bodies = new RequestBodies({ maxBytes: 10, maxTotalBytes: 20 });
    const inUse = request();
    const { promise: used, resolve: use } = Promise.withResolvers<void>();
    const first = bodies.with(inUse, async (body) => used.then(() => shown(body)));
    finish(inUse, '12345678');
    const stalled = [request(), request()] as const;
    const ends = stalled.map((one) => bodies.with(one, shown));
    for (const one of stalled) one.write('abcdef');
    await settle();
    const newcomer = request();
    const read = bodies.with(newcomer, shown);
    finish(newcomer, 'new');
    assert.equal(await read, 'new');
    assert.equal(await ends[0], '(displaced)');
    finish(stalled[1], '!');
    assert.equal(await ends[1], 'abcdef!');
    use();
    assert.equal(await first, '12345678');
  });

  it('are not there when the connection breaks', async () => {
    const bodies = new RequestBodies({ maxBytes: 10, maxTotalBytes: 20 });
    const one = request();
    const read = bodies.with(one, shown);
    one.destroy(new Error('reset'));
    await assert.rejects(read, /reset/);
  });
});
