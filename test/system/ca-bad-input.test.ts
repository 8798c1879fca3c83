import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { connect as connectHttp2 } from 'node:http2';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { before, describe, it } from 'node:test';
import { type Client, Metadata, status } from '@grpc/grpc-js';
import { verifyAuditLog } from '../../ca/issue/audit-verify.ts';
import type { ErrorCode } from '../../pki/error-table.ts';
import { IssueX509SvidRequest } from '../../proto/gen/kedge/v1/identity.ts';
import {
  bearer,
  type CaUnderTest,
  failureOf,
  freshCsr,
  ISSUE,
  issue,
  nextMessage,
  openWatch,
  rawCall,
  refusalFrom,
  reportBytes,
  runningCa,
} from '../support/running-ca.ts';

let under: CaUnderTest;
let client: Client;
before(async (t) => {
  under = await runningCa(t as never);
  client = await under.connect();
});

/** Proves that the CA still does its work. */
async function assertAlive(): Promise<void> {
  const answer = await issue(client, under.token({ podName: 'alive-0' }));
  assert.equal(answer.x509Svid.length, 2);
}

const csrRequest = (csr: Uint8Array): Uint8Array =>
  IssueX509SvidRequest.encode({ csr, ttlSeconds: 0, dnsNames: [] }).finish();
const good = (): Uint8Array => csrRequest(freshCsr());
const mapped = (bytes: Uint8Array, change: (copy: Buffer) => void): Uint8Array => {
  const copy = Buffer.from(bytes);
  change(copy);
  return copy;
};
const withMetadata = (fill: (metadata: Metadata) => void): Metadata => {
  const metadata = new Metadata();
  fill(metadata);
  return metadata;
};

interface Row {
  readonly name: string;
  readonly request?: () => Uint8Array;
  readonly metadata?: () => Metadata;
  readonly wantCode: ErrorCode;
  readonly wantStatus: status;
}

const rows: readonly Row[] = [
  {
    name: 'a call without a token',
    metadata: () => new Metadata(),
    wantCode: 'token_missing',
    wantStatus: status.UNAUTHENTICATED,
  },
  {
    name: 'a token of another scheme',
    metadata: () => withMetadata((m) => m.set('authorization', 'Basic a2VkZ2U6a2VkZ2U=')),
    wantCode: 'token_malformed',
    wantStatus: status.UNAUTHENTICATED,
  },
  {
    name: 'an empty token',
    metadata: () => withMetadata((m) => m.set('authorization', 'Bearer ')),
    wantCode: 'token_missing',
    wantStatus: status.UNAUTHENTICATED,
  },
  {
    name: 'two tokens in one field',
    metadata: () => bearer(`${under.token()}, Bearer ${under.token()}`),
    wantCode: 'token_malformed',
    wantStatus: status.UNAUTHENTICATED,
  },
  {
    name: 'a token over 8 KiB',
    metadata: () => bearer('a'.repeat(8 * 1024 + 1)),
    wantCode: 'token_malformed',
    wantStatus: status.UNAUTHENTICATED,
  },
  {
    name: 'a token that is no JWT',
    metadata: () => bearer('opaque'),
    wantCode: 'token_malformed',
    wantStatus: status.UNAUTHENTICATED,
  },
  {
    name: 'a token for another audience',
    metadata: () => bearer(under.token({ audiences: ['vault'] })),
    wantCode: 'token_audience_mismatch',
    wantStatus: status.UNAUTHENTICATED,
  },
  {
    name: 'a token whose signature was changed',
    metadata: () => bearer(`${under.token().slice(0, -8)}AAAAAAAA`),
    wantCode: 'token_signature_invalid',
    wantStatus: status.UNAUTHENTICATED,
  },
  {
    name: 'metadata over 16 KiB',
    metadata: () => {
      const metadata = bearer(under.token());
      metadata.set('x-filler', 'f'.repeat(20 * 1024));
      return metadata;
    },
    wantCode: 'metadata_invalid',
    wantStatus: status.INVALID_ARGUMENT,
  },
  {
    name: 'a message over 64 KiB',
    request: () => csrRequest(new Uint8Array(70 * 1024)),
    wantCode: 'message_too_large',
    wantStatus: status.INVALID_ARGUMENT,
  },
  {
    name: 'a message that is not protobuf',
    request: () => Buffer.from('ffffffffffffffffffff', 'hex'),
    wantCode: 'message_malformed',
    wantStatus: status.INVALID_ARGUMENT,
  },
  {
    name: 'protobuf that ends in the middle of a field',
    request: () => good().subarray(0, 40),
    wantCode: 'message_malformed',
    wantStatus: status.INVALID_ARGUMENT,
  },
  {
    name: 'an empty message',
    request: () => new Uint8Array(0),
    wantCode: 'csr_malformed',
    wantStatus: status.INVALID_ARGUMENT,
  },
  {
    name: 'a CSR over 16 KiB',
    request: () => csrRequest(new Uint8Array(17 * 1024)),
    wantCode: 'csr_too_large',
    wantStatus: status.INVALID_ARGUMENT,
  },
  {
    name: 'a CSR that is not DER',
    request: () => csrRequest(Buffer.from('-----BEGIN CERTIFICATE REQUEST-----')),
    wantCode: 'csr_malformed',
    wantStatus: status.INVALID_ARGUMENT,
  },
  {
    name: 'a truncated CSR',
    request: () => csrRequest(freshCsr().subarray(0, 100)),
    wantCode: 'csr_malformed',
    wantStatus: status.INVALID_ARGUMENT,
  },
  {
    name: 'a CSR with a trailing byte',
    request: () => csrRequest(Buffer.concat([freshCsr(), Buffer.from([0])])),
    wantCode: 'csr_malformed',
    wantStatus: status.INVALID_ARGUMENT,
  },
  {
    name: 'a CSR without proof of possession',
    request: () =>
      csrRequest(
        mapped(freshCsr(), (der) => {
          // Within the last integer of the signature.
          der[der.length - 5] = (der[der.length - 5] ?? 0) ^ 1;
        }),
      ),
    wantCode: 'csr_signature_invalid',
    wantStatus: status.INVALID_ARGUMENT,
  },
];

describe('IssueX509Svid refuses, and goes on, after', () => {
  for (const { name, request = good, metadata, wantCode, wantStatus } of rows) {
    it(name, async () => {
      const sent = metadata?.() ?? bearer(under.token());
      const refusal = await refusalFrom(rawCall(client, ISSUE, request(), sent));
      assert.deepEqual([refusal.code, refusal.status], [wantCode, wantStatus], refusal.message);
      await assertAlive();
    });
  }

  it('a message so large that gRPC itself stops reading it', async () => {
    const refusal = await refusalFrom(
      rawCall(client, ISSUE, new Uint8Array(300 * 1024), bearer(under.token())),
    );
    assert.equal(refusal.status, status.RESOURCE_EXHAUSTED);
    await assertAlive();
  });

  it('a method that there is not, server reflection among them', async () => {
    for (const path of [
      '/kedge.v1.Admin/GetStatus',
      '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo',
    ]) {
      const refusal = await refusalFrom(rawCall(client, path, new Uint8Array(0), bearer(under.token())));
      assert.equal(refusal.status, status.UNIMPLEMENTED, path);
    }
  });
});

/** The error that ends a stream. */
async function endOf(call: ReturnType<typeof openWatch>): Promise<ReturnType<typeof failureOf>> {
  call.resume();
  const [error] = (await once(call, 'error')) as [Error];
  return failureOf(error);
}

describe('Watch refuses, and the CA goes on, after', () => {
  const streams: readonly (Omit<Row, 'request'> & { readonly messages: () => readonly Uint8Array[] })[] = [
    {
      name: 'a stream without a token',
      metadata: () => new Metadata(),
      messages: () => [reportBytes()],
      wantCode: 'token_missing',
      wantStatus: status.UNAUTHENTICATED,
    },
    {
      name: 'a first message that is no report',
      messages: () => [new Uint8Array(0)],
      wantCode: 'report_invalid',
      wantStatus: status.INVALID_ARGUMENT,
    },
    {
      name: 'a message that is not protobuf',
      messages: () => [Buffer.from('0affff', 'hex')],
      wantCode: 'message_malformed',
      wantStatus: status.INVALID_ARGUMENT,
    },
    {
      name: 'a report with a serial number of 21 bytes',
      messages: () => [
        reportBytes({
          svid: { serialNumber: new Uint8Array(21), authorityKeyId: new Uint8Array(20), notAfterMs: 1n },
        }),
      ],
      wantCode: 'report_invalid',
      wantStatus: status.INVALID_ARGUMENT,
    },
    {
      name: 'a report with 17 feeds',
      messages: () => [
        reportBytes({
          feeds: Array.from({ length: 17 }, (_, i) => ({
            name: `feed-${i}`,
            evidence: 1,
            bundleSequence: 0n,
            svidSerialNumber: new Uint8Array(0),
            errorCode: '',
            consumers: [],
            consumerCount: 0,
          })),
        }),
      ],
      wantCode: 'report_invalid',
      wantStatus: status.INVALID_ARGUMENT,
    },
    {
      name: 'a bundle sequence that goes back',
      messages: () => [reportBytes({ bundleSequence: 3n }), reportBytes({ bundleSequence: 2n })],
      wantCode: 'report_invalid',
      wantStatus: status.INVALID_ARGUMENT,
    },
    {
      name: 'a flood of reports',
      messages: () => Array.from({ length: 50 }, () => reportBytes()),
      wantCode: 'report_rate_exceeded',
      wantStatus: status.RESOURCE_EXHAUSTED,
    },
  ];
  for (const { name, metadata, messages, wantCode, wantStatus } of streams) {
    it(name, async () => {
      const call = openWatch(client, metadata?.() ?? bearer(under.token()));
      const ended = endOf(call);
      for (const message of messages()) call.write(message);
      const refusal = await ended;
      assert.deepEqual([refusal.code, refusal.status], [wantCode, wantStatus], refusal.message);
      await assertAlive();
    });
  }

  it('more streams of one instance than its bound', async () => {
    const token = under.token({ podName: 'greedy-0' });
    const open = Array.from({ length: 4 }, () => openWatch(client, bearer(token)));
    for (const call of open) {
      call.write(reportBytes());
      assert.equal((await nextMessage(call)).message?.$case, 'bundle');
    }
    const refusal = await endOf(openWatch(client, bearer(token)));
    assert.deepEqual([refusal.code, refusal.status], ['too_many_streams', status.RESOURCE_EXHAUSTED]);
    assert.equal(refusal.retryAfterMs, 5_000);
    for (const call of open) call.cancel();
    await assertAlive();
  });
});

describe('the TLS port survives', () => {
  const port = (): number => Number(under.ca.grpcAddress.split(':').at(-1));

  it('bytes that are not TLS', async () => {
    const { connect: connectTcp } = await import('node:net');
    const socket = connectTcp(port(), '127.0.0.1');
    socket.on('error', () => {});
    socket.write('GET / HTTP/1.1\r\nhost: kedge\r\n\r\n');
    socket.resume();
    await once(socket, 'close');
    await assertAlive();
  });

  it('a client that speaks no HTTP/2', async () => {
    const socket = connect({
      port: port(),
      host: '127.0.0.1',
      rejectUnauthorized: false,
      ALPNProtocols: ['http/1.1'],
    });
    const [error] = (await once(socket, 'error')) as [Error];
    assert.match(error.message, /alert no application protocol/i);
    await assertAlive();
  });

  it('a client that offers TLS 1.1 at most', async () => {
    const socket = connect({
      port: port(),
      host: '127.0.0.1',
      rejectUnauthorized: false,
      minVersion: 'TLSv1',
      maxVersion: 'TLSv1.1',
      ciphers: 'DEFAULT@SECLEVEL=0',
    });
    const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException];
    assert.match(error.message, /protocol version|unsupported protocol|no protocols available/i);
    await assertAlive();
  });

  it('calls that are reset as fast as they are opened', async () => {
    const session = connectHttp2(`https://127.0.0.1:${port()}`, { rejectUnauthorized: false });
    session.on('error', () => {});
    const closed = new Promise((resolve) => session.once('close', resolve));
    await once(session, 'connect');
    const authorization = `Bearer ${under.token()}`;
    for (let batch = 0; batch < 400 && !session.destroyed && !session.closed; batch += 1) {
      // With a good token, for a call without one is over before it can be reset. No more than the server takes at once:
      // the client would keep the others to itself.
      const streams = Array.from({ length: 16 }, () =>
        session.request({
          ':method': 'POST',
          ':path': ISSUE,
          authorization,
          'content-type': 'application/grpc',
        }),
      );
      for (const stream of streams) stream.on('error', () => {});
      // Once the server has acknowledged a ping, it has seen them begin.
      await Promise.race([new Promise((resolve) => session.ping(() => resolve(null))), closed]);
      for (const stream of streams) stream.close(8);
    }
    assert.ok(session.closed || session.destroyed, 'the server did not tell the client to go away');
    session.destroy();
    await closed;
    await assertAlive();
  });

  it('two authorization fields, of which the first one counts', async () => {
    const session = connectHttp2(`https://127.0.0.1:${port()}`, {
      rejectUnauthorized: false,
      strictSingleValueFields: false,
    } as never);
    const stream = session.request({
      ':method': 'POST',
      ':path': ISSUE,
      'content-type': 'application/grpc',
      te: 'trailers',
      authorization: ['Bearer first', `Bearer ${under.token()}`] as never,
    });
    const body = good();
    const frame = Buffer.alloc(5 + body.length);
    frame.writeUInt32BE(body.length, 1);
    frame.set(body, 5);
    stream.end(frame);
    const [headers] = (await once(stream, 'response')) as [Record<string, string>];
    assert.equal(headers['grpc-status'], String(status.UNAUTHENTICATED));
    session.destroy();
    await assertAlive();
  });
});

describe('the audit log', () => {
  it('tells of a flood of calls without a token in a bounded number of lines, and of every one', async (t) => {
    const flooded = await runningCa(t);
    const caller = await flooded.connect();
    const [calls, streams] = [3_000, 40];
    for (let done = 0; done < calls; done += 100) {
      const outcomes = Array.from({ length: 100 }, () =>
        refusalFrom(rawCall(caller, ISSUE, good(), new Metadata())),
      );
      for (const { code } of await Promise.all(outcomes)) assert.equal(code, 'token_missing');
    }
    for (let n = 0; n < streams; n += 1) {
      const failure = await once(openWatch(caller, new Metadata()), 'error');
      assert.equal(failureOf(failure[0]).code, 'token_missing');
    }
    await flooded.ca.close();
    const folder = join(flooded.folder, 'audit');
    const verified = await verifyAuditLog(folder);
    assert.equal(verified.brokenAt, null);
    const names = (await readdir(folder)).filter((name) => name.endsWith('.jsonl'));
    const text = (await Promise.all(names.map((name) => readFile(join(folder, name), 'utf8')))).join('');
    const own = text.match(/"event":"(svid|watch)\.refused"/g)?.length ?? 0;
    // More than the burst of one peer only where the flood took minutes.
    assert.ok(own >= 10 && own < 20, `${own} lines`);
    assert.equal(own + verified.suppressedRefusals, calls + streams);
    assert.ok(text.length < 20_000, `${text.length} bytes`);
  });
});
