import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, it, type TestContext } from 'node:test';
import { HttpEndpoint, type Readiness } from '../../../host/http-endpoint.ts';
import { expectRejection } from '../../support/expect-code.ts';
import { ManualClock } from '../../support/manual-clock.ts';

async function endpoint(
  t: TestContext,
  readiness: () => Readiness = () => ({ ready: true, reason: '' }),
  { metrics = (): string => 'kedge_ready 1\n', clock = new ManualClock() } = {},
) {
  const http = new HttpEndpoint({ metrics, readiness, clock });
  t.after(() => http.close());
  const port = await http.listen('127.0.0.1', 0);
  return { http, port, url: `http://127.0.0.1:${port}` };
}

/** Sends raw bytes; gives what comes back until the server ends the connection. */
async function raw(port: number, request: string): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  let answer = '';
  socket.on('data', (chunk: Buffer) => {
    answer += chunk.toString('latin1');
  });
  socket.on('error', () => {});
  socket.write(request);
  await once(socket, 'close');
  return answer;
}

describe('the HTTP endpoint', () => {
  const rows = [
    { method: 'GET', path: '/metrics', status: 200, body: 'kedge_ready 1\n' },
    { method: 'GET', path: '/metrics?name=x', status: 200, body: 'kedge_ready 1\n' },
    { method: 'HEAD', path: '/metrics', status: 200, body: '' },
    { method: 'GET', path: '/livez', status: 200, body: 'ok\n' },
    { method: 'GET', path: '/readyz', status: 200, body: 'ok\n' },
    { method: 'GET', path: '/', status: 404, body: 'there are /metrics, /livez, /readyz\n' },
    { method: 'GET', path: '/metrics/', status: 404, body: 'there are /metrics, /livez, /readyz\n' },
    { method: 'POST', path: '/metrics', status: 405, body: 'only GET and HEAD\n' },
    { method: 'DELETE', path: '/nothing', status: 405, body: 'only GET and HEAD\n' },
  ] as const;
  for (const { method, path, status, body } of rows) {
    it(`answers ${method} ${path} with ${status}`, async (t) => {
      const { url } = await endpoint(t);
      const response = await fetch(`${url}${path}`, { method });
      assert.equal(response.status, status);
      assert.equal(await response.text(), body);
      assert.equal(response.headers.get('cache-control'), 'no-store');
    });
  }

  it('says the type of the metrics', async (t) => {
    const { url } = await endpoint(t);
    const response = await fetch(`${url}/metrics`);
    assert.equal(response.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8');
  });

  it('spends a tenth of the time at most on metrics, however often they are asked for', async (t) => {
    // Each look at the clock is 10 ms later: so long making them takes.
    const clock = Object.assign(new ManualClock(), { monotonic: () => (nowMs += 10) });
    let nowMs = 0;
    let made = 0;
    const { url } = await endpoint(t, undefined, { metrics: () => `kedge_made ${(made += 1)}\n`, clock });
    const texts: string[] = [];
    for (let i = 0; i < 11; i += 1) texts.push(await (await fetch(`${url}/metrics`)).text());
    assert.equal(texts[8], 'kedge_made 1\n');
    assert.equal(texts.at(-1), 'kedge_made 2\n');
  });

  it('answers /readyz with 503 and the reason, asked anew each time', async (t) => {
    let ready = false;
    const { url } = await endpoint(t, () => ({ ready, reason: 'draining' }));
    const before = await fetch(`${url}/readyz`);
    assert.deepEqual([before.status, await before.text()], [503, 'not ready: draining\n']);
    ready = true;
    assert.equal((await fetch(`${url}/readyz`)).status, 200);
  });

  it('refuses headers over 8 KiB and what is not HTTP, and goes on', async (t) => {
    const { url, port } = await endpoint(t);
    const large = `GET /metrics HTTP/1.1\r\nhost: kedge\r\nx: ${'x'.repeat(9_000)}\r\n\r\n`;
    assert.match(await raw(port, large), /^HTTP\/1.1 431 /);
    assert.match(await raw(port, 'nonsense\r\n\r\n'), /^HTTP\/1.1 400 /);
    assert.equal((await fetch(`${url}/livez`)).status, 200);
  });

  it('does not wait for a body that it does not want', async (t) => {
    const { port } = await endpoint(t);
    const answer = await raw(
      port,
      'POST /metrics HTTP/1.1\r\nhost: kedge\r\ncontent-length: 1000000\r\n\r\n',
    );
    assert.match(answer, /^HTTP\/1.1 405 /);
  });

  it('answers the next one however many stall in the middle of a request', async (t) => {
    const { url, port } = await endpoint(t);
    for (let i = 0; i < 70; i += 1) {
      const stalled = connect(port, '127.0.0.1');
      stalled.on('error', () => {});
      t.after(() => stalled.destroy());
      await once(stalled, 'connect');
      stalled.write('GET /livez HTTP/1.1\r\nx: ');
    }
    assert.equal((await fetch(`${url}/livez`)).status, 200);
  });

  it('says which port is taken', async (t) => {
    const { port } = await endpoint(t);
    const other = new HttpEndpoint({
      metrics: () => '',
      readiness: () => ({ ready: true, reason: '' }),
      clock: new ManualClock(),
    });
    const error = await expectRejection('address_unavailable', other.listen('127.0.0.1', port));
    assert.equal(error.message, `cannot listen on "127.0.0.1" port ${port}: EADDRINUSE`);
  });

  it('ends open connections when it is closed', async (t) => {
    const { http, port } = await endpoint(t);
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => {});
    await once(socket, 'connect');
    const closed = once(socket, 'close');
    await http.close();
    socket.resume();
    await closed;
  });
});
