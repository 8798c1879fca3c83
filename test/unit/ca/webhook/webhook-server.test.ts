import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request as httpsRequest, Agent } from 'node:https';
import { connect } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import { describe, it, type TestContext } from 'node:test';
import { admit, type AdmissionOutcome } from '../../../../ca/webhook/admission.ts';
import { WebhookServer, type WebhookServerOptions } from '../../../../ca/webhook/webhook-server.ts';
import { systemClock } from '../../../../host/clock.ts';
import { jsonLog } from '../../../../host/log.ts';
import { KedgeError } from '../../../../pki/kedge-error.ts';
import { LIMITS } from '../../../../pki/limits.ts';
import { admissionReview, patchOf, type ReviewAnswer } from '../../../support/admission-reviews.ts';
import { expectRejection } from '../../../support/expect-code.ts';
import { ManualClock, settle } from '../../../support/manual-clock.ts';
import { podWith, SETTINGS } from '../../../support/pods.ts';
import { selfSignedTlsCertificate } from '../../../support/tls-certificate.ts';

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

async function running(t: TestContext, options: Partial<WebhookServerOptions> = {}) {
  const first = await selfSignedTlsCertificate();
  const outcomes: AdmissionOutcome[] = [];
  const log: string[] = [];
  const server = new WebhookServer({
    certificate: { chainPem: first.certificate, keyPem: first.key },
    admit: (request) =>
      Promise.resolve(
        admit(request, {
          settings: SETTINGS,
          capabilities: { nativeSidecars: true },
          ownNamespace: 'kedge',
        }),
      ),
    onOutcome: (outcome) => void outcomes.push(outcome),
    clock: systemClock,
    log: jsonLog({ level: 'debug', now: () => 0, write: (line) => void log.push(line) }),
    ...options,
  });
  const port = await server.listen('127.0.0.1', 0);
  t.after(() => server.close());
  const ask = (
    body: string | Uint8Array,
    {
      path = '/mutate?timeout=5s',
      method = 'POST',
      type = 'application/json',
      ca = first.certificate,
      chunked = false,
      from = '127.0.0.1',
    } = {},
  ): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const call = httpsRequest(
        {
          host: '127.0.0.1',
          localAddress: from,
          servername: 'localhost',
          port,
          path,
          method,
          ca,
          agent: new Agent({ keepAlive: false }),
          headers: {
            'content-type': type,
            ...(chunked ? {} : { 'content-length': Buffer.byteLength(body) }),
          },
        },
        (response) => {
          let text = '';
          response.setEncoding('utf8');
          response.on('data', (chunk: string) => (text += chunk));
          response.on('end', () =>
            resolve({ status: response.statusCode ?? 0, body: text, headers: response.headers }),
          );
        },
      );
      call.on('error', reject);
      call.end(body);
    });
  return { server, port, ask, outcomes, log, first };
}

const REVIEW = JSON.stringify(admissionReview(podWith()));

describe('the webhook over HTTPS', () => {
  it('answers an AdmissionReview with the patch', async (t) => {
    const { ask, outcomes } = await running(t);
    const { status, body, headers } = await ask(REVIEW);
    assert.equal(status, 200);
    assert.equal(headers['content-type'], 'application/json');
    const answer = JSON.parse(body) as ReviewAnswer;
    assert.equal(answer.response.allowed, true);
    assert.ok(patchOf(answer).length > 0);
    assert.deepEqual(outcomes, ['injected']);
  });

  it('shows a new certificate to the connections that come, and needs no restart', async (t) => {
    const { server, ask, first } = await running(t);
    const second = await selfSignedTlsCertificate();
    assert.equal((await ask(REVIEW)).status, 200);
    server.use({ chainPem: second.certificate, keyPem: second.key });
    assert.equal((await ask(REVIEW, { ca: second.certificate })).status, 200);
    await assert.rejects(ask(REVIEW, { ca: first.certificate }));
  });

  const refusals: readonly [
    name: string,
    body: string | Uint8Array,
    options: Parameters<Awaited<ReturnType<typeof running>>['ask']>[1],
    status: number,
    says: RegExp,
  ][] = [
    ['another path', REVIEW, { path: '/' }, 404, /\/mutate/],
    ['another method', '', { method: 'GET' }, 405, /only POST/],
    ['another media type', REVIEW, { type: 'text/plain' }, 415, /application\/json/],
    ['no JSON', 'x', {}, 400, /a JSON value is expected/],
    ['a deep nest', '['.repeat(200_000), {}, 400, /nested too deep/],
    ['another kind', '{"kind":"Pod","apiVersion":"v1"}', {}, 400, /not an AdmissionReview/],
    ['more than it reads', new Uint8Array(LIMITS.admissionReviewBytes + 1), {}, 413, /over 3145728 bytes/],
    [
      'more than it reads, with no length given',
      new Uint8Array(LIMITS.admissionReviewBytes + 1),
      { chunked: true },
      413,
      /over 3145728 bytes/,
    ],
  ];
  for (const [name, body, options, status, says] of refusals) {
    it(`refuses ${name}, and goes on`, async (t) => {
      const { ask, outcomes } = await running(t);
      const answer = await ask(body, options);
      assert.equal(answer.status, status);
      assert.match(answer.body, says);
      assert.deepEqual(outcomes, ['malformed']);
      assert.equal((await ask(REVIEW)).status, 200);
    });
  }

  it('gives no answer where it cannot decide, so that the failure policy does, and logs why', async (t) => {
    const unreachable = new KedgeError('kubernetes_unreachable', 'the API server is away');
    const { ask, outcomes, log } = await running(t, { admit: () => Promise.reject(unreachable) });
    const answer = await ask(REVIEW);
    assert.deepEqual([answer.status, answer.body], [503, 'the API server is away\n']);
    assert.deepEqual(outcomes, ['failed']);
    assert.match(log.join(''), /"event":"admission.failed"/);
    const broken = await running(t, { admit: () => Promise.reject(new TypeError('a secret')) });
    const mistake = await broken.ask(REVIEW);
    assert.equal(mistake.status, 500);
    assert.doesNotMatch(mistake.body, /secret/);
  });

  it('lets what is beyond its share in a time wait, and refuses what would wait too long', async (t) => {
    const clock = new ManualClock();
    const { ask, outcomes } = await running(t, { clock });
    const large = Buffer.from(REVIEW + ' '.repeat(LIMITS.admissionReviewBytes - REVIEW.length));
    for (let i = 0; i < 5; i += 1) assert.equal((await ask(large)).status, 200);
    const waiting = Array.from({ length: 3 }, () => ask(large));
    while (clock.sleeping < 3) await settle();
    const { status, headers } = await ask(large);
    assert.equal(status, 429);
    assert.equal(headers['retry-after'], '1');
    assert.equal(outcomes.at(-1), 'overloaded');
    await clock.advance(2_000);
    for (const { status } of await Promise.all(waiting)) assert.equal(status, 200);
  });

  it('leaves one address its part whatever another one sends', async (t) => {
    const { ask, outcomes } = await running(t, { clock: new ManualClock() });
    const junk = Buffer.alloc(LIMITS.admissionReviewBytes, ' ');
    for (let i = 0; i < 5; i += 1) await ask(junk, { from: '127.0.0.2' });
    assert.deepEqual(new Set(outcomes), new Set(['malformed']));
    for (let i = 0; i < 2; i += 1)
      assert.equal((await ask(Buffer.from(REVIEW.padEnd(3_000_000)))).status, 200);
  });

  const crowds = [
    { name: 'connect and say nothing', count: 530, says: '' },
    {
      name: 'stall in the middle of a body',
      count: 40,
      says: 'POST /mutate HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{',
    },
  ];
  for (const { name, count, says } of crowds) {
    it(`answers the API server however many others ${name}`, async (t) => {
      const { ask, port, first } = await running(t);
      for (let i = 0; i < count; i += 1) {
        const socket =
          says === ''
            ? connect(port, '127.0.0.1')
            : tlsConnect({ port, host: '127.0.0.1', servername: 'localhost', ca: first.certificate });
        socket.on('error', () => {});
        t.after(() => socket.destroy());
        await once(socket, says === '' ? 'connect' : 'secureConnect');
        socket.write(says);
      }
      assert.equal((await ask(REVIEW)).status, 200);
    });
  }

  it('does not mind peers that speak no TLS, or go away in the middle', async (t) => {
    const { ask, port, first } = await running(t);
    const plain = connect(port, '127.0.0.1');
    plain.on('error', () => {});
    plain.end('GET / HTTP/1.1\r\n\r\n');
    await new Promise((resolve) => plain.once('close', resolve));
    const cut = tlsConnect({ port, host: '127.0.0.1', servername: 'localhost', ca: first.certificate });
    cut.on('error', () => {});
    await new Promise<void>((resolve) => cut.once('secureConnect', resolve));
    cut.write('POST /mutate HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{');
    cut.destroy();
    await new Promise((resolve) => cut.once('close', resolve));
    assert.equal((await ask(REVIEW)).status, 200);
  });

  it('takes no more connections once it drains', async (t) => {
    const { server, ask } = await running(t);
    assert.equal((await ask(REVIEW)).status, 200);
    server.stopListening();
    await assert.rejects(ask(REVIEW), { code: 'ECONNREFUSED' });
  });

  it('says which address it cannot have', async (t) => {
    const { port } = await running(t);
    const other = await running(t);
    other.server.close();
    const { message } = await expectRejection('address_unavailable', other.server.listen('127.0.0.1', port));
    assert.match(message, /EADDRINUSE/);
  });
});
