import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Metadata, Server, ServerCredentials, type ServerWritableStream, status } from '@grpc/grpc-js';
import { WorkloadApiClient } from '../../../cli/workload-api-client.ts';
import type { KedgeError } from '../../../pki/kedge-error.ts';
import { LIMITS } from '../../../pki/limits.ts';
import { X509SVIDResponse } from '../../../proto/gen/spiffe/workload.ts';
import { ManualClock, settle } from '../../support/manual-clock.ts';

type Stream = ServerWritableStream<Buffer, Buffer>;
type Answer = (stream: Stream) => void;

const DER = (n: number): Uint8Array => Uint8Array.of(0x30, 3, 2, 1, n);

function message(n: number): Buffer {
  return Buffer.from(
    X509SVIDResponse.encode({
      svids: [
        {
          spiffeId: 'spiffe://example.org/web',
          x509Svid: Buffer.concat([DER(n), DER(100)]),
          x509SvidKey: DER(101),
          bundle: DER(102),
          hint: '',
        },
      ],
      crl: [],
      federatedBundles: {},
    }).finish(),
  );
}

const refuse =
  (code: status, details = 'no'): Answer =>
  (stream) => {
    stream.emit('error', { code, details, metadata: new Metadata() });
  };
const give =
  (...numbers: number[]): Answer =>
  (stream) => {
    for (const n of numbers) stream.write(message(n));
  };

describe('WorkloadApiClient', () => {
  const folder = mkdtempSync(join(tmpdir(), 'kedge-test-'));
  const target = `unix://${join(folder, 'workload.sock')}`;
  const server = new Server();
  let answers: Answer[] = [];
  let seen: Metadata[] = [];

  before(async () => {
    server.addService(
      {
        Fetch: {
          path: '/SpiffeWorkloadAPI/FetchX509SVID',
          requestStream: false,
          responseStream: true,
          requestSerialize: (b: Buffer) => b,
          requestDeserialize: (b: Buffer) => b,
          responseSerialize: (b: Buffer) => b,
          responseDeserialize: (b: Buffer) => b,
        },
      },
      {
        Fetch: (stream: Stream) => {
          seen.push(stream.metadata);
          answers.shift()?.(stream);
        },
      },
    );
    await new Promise<void>((resolve, reject) => {
      server.bindAsync(target, ServerCredentials.createInsecure(), (error) =>
        error ? reject(error) : resolve(),
      );
    });
  });
  after(() => {
    server.forceShutdown();
    rmSync(folder, { recursive: true });
  });

  function client(clock = new ManualClock(), at = target, onRetry?: (error: KedgeError, ms: number) => void) {
    const random = { bytes: (n: number) => new Uint8Array(n), fraction: () => 0.5 };
    return new WorkloadApiClient({
      target: at,
      clock,
      random,
      ...(onRetry === undefined ? {} : { onRetry }),
    });
  }
  const fetchWith = (...given: Answer[]) => {
    answers = given;
    return client().fetch(new AbortController().signal);
  };

  it('sends the security header exactly once, and reads an identity', async () => {
    seen = [];
    const { identities } = await fetchWith(give(1));
    assert.deepEqual(
      seen.map((metadata) => metadata.get('workload.spiffe.io')),
      [['true']],
    );
    const [identity] = identities;
    assert.equal(identity?.spiffeId.toString(), 'spiffe://example.org/web');
    assert.deepEqual(
      identity?.chain.map((der) => der[4]),
      [1, 100],
    );
    assert.deepEqual(
      identity?.bundle.map((der) => der[4]),
      [102],
    );
    assert.equal(JSON.stringify(identity?.privateKey), '"[redacted]"');
  });

  it('refuses where nobody listens, and says what to look at', async () => {
    const nobody = client(new ManualClock(), `unix://${join(folder, 'nobody.sock')}`);
    await assert.rejects(nobody.fetch(new AbortController().signal), {
      code: 'agent_unreachable',
      hint: /socket/,
    });
  });

  const refusals = [
    {
      name: 'no identity',
      answer: refuse(status.PERMISSION_DENIED, 'no identity issued'),
      wantCode: 'identity_unavailable',
    },
    { name: 'an agent that is starting', answer: refuse(status.UNAVAILABLE), wantCode: 'agent_unreachable' },
    {
      name: 'an answer that is no protobuf',
      answer: ((s) => s.write(Buffer.from([0xff]))) as Answer,
      wantCode: 'agent_answer_invalid',
    },
    {
      name: 'an answer without an identity',
      answer: ((s) => s.write(Buffer.alloc(0))) as Answer,
      wantCode: 'agent_answer_invalid',
    },
    {
      name: 'a stream that ends without an answer',
      answer: ((s) => s.end()) as Answer,
      wantCode: 'agent_unreachable',
    },
    {
      name: 'an answer over the size limit',
      answer: ((s) => s.write(Buffer.alloc(LIMITS.caMessageBytes + 1))) as Answer,
      wantCode: 'overloaded',
    },
  ];
  for (const { name, answer, wantCode } of refusals) {
    it(`refuses ${name}`, async () => {
      await assert.rejects(fetchWith(answer), { code: wantCode });
    });
  }

  it('gives up on an agent that is silent for ten seconds', async () => {
    const clock = new ManualClock();
    answers = [() => {}];
    const fetched = client(clock).fetch(new AbortController().signal);
    const refused = assert.rejects(fetched, { code: 'deadline_exceeded' });
    while (clock.sleeping === 0) await settle();
    await clock.advance(10_000);
    await refused;
  });

  it('gives every message of a stream, and opens another when it breaks, after a wait with jitter', async () => {
    const clock = new ManualClock();
    const waits: number[] = [];
    answers = [
      (stream) => {
        give(1, 2)(stream);
        setImmediate(() => refuse(status.UNAVAILABLE)(stream));
      },
      refuse(status.UNAVAILABLE),
      refuse(status.PERMISSION_DENIED),
      give(3),
    ];
    const controller = new AbortController();
    const updates = client(clock, target, (_error, ms) => waits.push(ms)).watch(controller.signal);
    const serials: (number | undefined)[] = [];
    const next = async (): Promise<void> => {
      const { value } = await updates.next();
      serials.push(value.identities[0]?.chain[0]?.[4]);
    };
    await next();
    await next();
    const third = next();
    for (let i = 0; i < 3; i += 1) {
      while (waits.length <= i) await settle();
      await clock.advance(waits[i] ?? 0);
    }
    await third;
    assert.deepEqual(serials, [1, 2, 3]);
    // Half of a ceiling that begins at 500 ms and doubles: the jitter of this test's randomness.
    assert.deepEqual(waits, [250, 250, 500]);
    controller.abort(new Error('enough'));
    await assert.rejects(updates.next(), { message: 'enough' });
  });

  for (const code of [status.INVALID_ARGUMENT, status.UNIMPLEMENTED]) {
    it(`stops watching after ${status[code]}`, async () => {
      answers = [refuse(code)];
      const updates = client().watch(new AbortController().signal);
      await assert.rejects(updates.next(), (error: KedgeError) => error.code !== 'agent_unreachable');
      assert.deepEqual(answers, []);
    });
  }

  it('leaves no stream behind', async () => {
    // Resolves only when every connection is gone.
    assert.equal(await new Promise((resolve) => server.tryShutdown(resolve)), undefined);
  });
});
