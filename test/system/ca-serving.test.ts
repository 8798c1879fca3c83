import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { connect } from 'node:tls';
import { setTimeout as delay } from 'node:timers/promises';
import { Client, credentials, status } from '@grpc/grpc-js';
import { parseCertificate } from '../../pki/certificate.ts';
import { verifyX509Svid } from '../../pki/x509-svid-verify.ts';
import { HealthCheckRequest, HealthCheckResponse } from '../../proto/gen/grpc/health/v1/health.ts';
import {
  bearer,
  type CaUnderTest,
  failureOf,
  getBundle,
  getStatus,
  issue,
  nextMessage,
  openWatch,
  rawCall,
  refusalFrom,
  reportBytes,
  runningCa,
} from '../support/running-ca.ts';

/** The chain that a new connection is shown, DER, and what TLS it got. */
async function handshake(
  address: string,
): Promise<{ readonly chain: Uint8Array[]; readonly protocol: string | null }> {
  const socket = connect({
    port: Number(address.split(':').at(-1)),
    rejectUnauthorized: false,
    ALPNProtocols: ['h2'],
  });
  await once(socket, 'secureConnect');
  const leaf = socket.getPeerCertificate(true);
  const chain = [leaf.raw, leaf.issuerCertificate.raw];
  const protocol = socket.getProtocol();
  socket.destroy();
  return { chain, protocol };
}

async function eventually<T>(read: () => Promise<T>, isIt: (value: T) => boolean): Promise<T> {
  for (let i = 0; i < 100; i += 1) {
    const value = await read();
    if (isIt(value)) return value;
    await delay(100);
  }
  throw new TypeError('it did not come to that in 10 seconds');
}

const healthOf = async (client: Client): Promise<number> => {
  const request = HealthCheckRequest.encode({ service: 'kedge.v1.Identity' }).finish();
  return HealthCheckResponse.decode(await rawCall(client, '/grpc.health.v1.Health/Check', request)).status;
};

describe("the CA's serving certificate", () => {
  it('is an SVID of the CA itself, over TLS 1.3', async (t) => {
    const { ca } = await runningCa(t);
    const { chain, protocol } = await handshake(ca.grpcAddress);
    const bundle = await getBundle(ca);
    const verified = verifyX509Svid({ chain, bundles: () => bundle.x509Authorities, nowMs: Date.now() });
    assert.equal(verified.spiffeId.toString(), 'spiffe://example.org/kedge/ca');
    assert.equal(protocol, 'TLSv1.3');
  });

  it('is replaced at half of its life for new connections, while an open stream goes on', async (t) => {
    const under = await runningCa(t, { flags: { 'svid.ttl': '4s' } });
    const client = await under.connect();
    const call = openWatch(client, bearer(under.token()));
    let ended = false;
    call.on('error', () => {
      ended = true;
    });
    call.write(reportBytes());
    assert.equal((await nextMessage(call)).message?.$case, 'bundle');
    const serialOf = async (): Promise<string> =>
      Buffer.from(parseCertificate((await handshake(under.ca.grpcAddress)).chain[0]!).serialNumber).toString(
        'hex',
      );
    const first = await serialOf();
    await eventually(serialOf, (serial) => serial !== first);
    // The first certificate is over by now, and the stream that began under it is not.
    await delay(4_000);
    call.write(reportBytes({ bundleSequence: 1n }));
    const { instances } = await eventually(
      () => getStatus(under.ca),
      (answer) => answer.instances[0]?.report?.bundleSequence === 1n,
    );
    assert.equal(instances[0]?.connected, true);
    assert.equal(ended, false);
    call.cancel();
  });
});

describe('a Watch stream', () => {
  it('gives the bundle at once after the first report, and shows in the status', async (t) => {
    const under = await runningCa(t);
    const client = await under.connect();
    const token = under.token();
    const answer = await issue(client, token);
    const leaf = parseCertificate(answer.x509Svid[0]!);
    const call = openWatch(client, bearer(token));
    const bundleSequence = answer.bundle?.sequence ?? 0n;
    const svid = {
      serialNumber: leaf.serialNumber,
      authorityKeyId: leaf.authorityKeyId!,
      notAfterMs: BigInt(leaf.notAfterMs),
    };
    call.write(reportBytes({ bundleSequence, svid, clockSkewMs: -250n }));
    const { message, serverTimeMs } = await nextMessage(call);
    assert.deepEqual(message, { $case: 'bundle', value: answer.bundle });
    assert.ok(Math.abs(Number(serverTimeMs) - Date.now()) < 60_000);
    const { anchors, issuers, instances } = await getStatus(under.ca);
    assert.equal(anchors[0]?.instances, 1);
    assert.equal(issuers[0]?.instances, 1);
    assert.deepEqual(
      instances.map(({ spiffeId, podName, connected, report }) => ({
        spiffeId,
        podName,
        connected,
        skew: report?.clockSkewMs,
      })),
      [{ spiffeId: 'spiffe://example.org/ns/shop/sa/cart', podName: 'cart-0', connected: true, skew: -250n }],
    );
    call.end();
    await once(call, 'status');
    const after = await eventually(
      () => getStatus(under.ca),
      (answer) => answer.instances[0]?.connected === false,
    );
    assert.equal(after.instances.length, 1);
  });

  it('ends when the token that opened it expires', async (t) => {
    const under = await runningCa(t, { flags: { 'attest.leeway': '0s' } });
    const client = await under.connect();
    const call = openWatch(client, bearer(under.token({ ttlSeconds: 2 })));
    call.write(reportBytes());
    const [error] = (await once(call.resume(), 'error')) as [Error];
    const refusal = failureOf(error);
    assert.deepEqual([refusal.code, refusal.status], ['token_expired', status.UNAUTHENTICATED]);
  });
});

describe('a CA that is told to end', () => {
  async function drained(under: CaUnderTest, client: Client) {
    const call = openWatch(client, bearer(under.token()));
    call.write(reportBytes());
    await nextMessage(call);
    const answers = Array.from({ length: 20 }, (_, i) => issue(client, under.token({ podName: `pod-${i}` })));
    // They have arrived, or the drain would find nothing to finish.
    await answers[0];
    const ended = once(call.resume(), 'error') as Promise<[Error]>;
    const closed = under.ca.close();
    const outcomes = await Promise.allSettled(answers);
    return { refusal: failureOf((await ended)[0]), outcomes, closed };
  }

  it('answers what waits, ends streams with shutting_down, and lets everything go', async (t) => {
    const under = await runningCa(t);
    const client = await under.connect();
    const { refusal, outcomes, closed } = await drained(under, client);
    assert.deepEqual([refusal.code, refusal.status], ['shutting_down', status.UNAVAILABLE]);
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') assert.equal(failureOf(outcome.reason).status, status.UNAVAILABLE);
    }
    await closed;
    const again = await refusalFrom(issue(client, under.token()));
    assert.equal(again.status, status.UNAVAILABLE);
  });

  it('can be started again on the same data folder at once, with the same trust', async (t) => {
    const first = await runningCa(t);
    const before = await getBundle(first.ca);
    await first.ca.close();
    const second = await runningCa(t, { folder: first.folder });
    assert.deepEqual(await getBundle(second.ca), before);
    const answer = await issue(await second.connect(), second.token());
    assert.equal(answer.x509Svid.length, 2);
  });
});

describe('the health service', () => {
  it('answers without a token, and not for services that there are not', async (t) => {
    const under = await runningCa(t);
    const client = await under.connect();
    assert.equal(await healthOf(client), 1);
    const request = HealthCheckRequest.encode({ service: 'nothing' }).finish();
    const refusal = await refusalFrom(rawCall(client, '/grpc.health.v1.Health/Check', request));
    assert.deepEqual([refusal.code, refusal.status], ['health_service_unknown', status.NOT_FOUND]);
  });
});

describe('a health stream', () => {
  it('tells when the CA begins to drain, and ends', async (t) => {
    const under = await runningCa(t);
    const client = await under.connect();
    const call = client.makeServerStreamRequest(
      '/grpc.health.v1.Health/Watch',
      (service: string) => Buffer.from(HealthCheckRequest.encode({ service }).finish()),
      (bytes: Buffer) => HealthCheckResponse.decode(bytes).status,
      '',
    );
    const statuses: number[] = [];
    call.on('data', (status: number) => statuses.push(status));
    call.on('error', () => {});
    await once(call, 'data');
    assert.deepEqual(statuses, [1]);
    const ended = once(call, 'end');
    await under.ca.close();
    await ended;
    assert.deepEqual(statuses, [1, 2]);
  });

  it('of a service that there is not says so, and stays open', async (t) => {
    const under = await runningCa(t);
    const client = await under.connect();
    const call = client.makeServerStreamRequest(
      '/grpc.health.v1.Health/Watch',
      (service: string) => Buffer.from(HealthCheckRequest.encode({ service }).finish()),
      (bytes: Buffer) => HealthCheckResponse.decode(bytes).status,
      'nothing',
    );
    call.on('error', () => {});
    assert.deepEqual(await once(call, 'data'), [3]);
    call.cancel();
  });
});

describe('the admin socket', () => {
  it('serves no workload API', async (t) => {
    const { ca, token } = await runningCa(t);
    const client = new Client(`unix://${ca.adminSocket}`, credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1,
    });
    t.after(() => client.close());
    const refusal = await refusalFrom(issue(client, token()));
    assert.equal(refusal.status, status.UNIMPLEMENTED);
  });
});

describe('overload', () => {
  it('is RESOURCE_EXHAUSTED with the time to wait, and passes', async (t) => {
    const under = await runningCa(t, { flags: {} });
    const client = await under.connect();
    const token = under.token();
    // From here on the client knows how many calls the server takes at once on a connection.
    await issue(client, token);
    const outcomes = await Promise.allSettled(Array.from({ length: 90 }, () => issue(client, token)));
    const refusals = outcomes.flatMap((o) => (o.status === 'rejected' ? [failureOf(o.reason)] : []));
    assert.ok(refusals.length > 0, 'ninety calls at once of one instance fit its share of eight');
    for (const refusal of refusals) {
      assert.deepEqual([refusal.code, refusal.status], ['instance_overloaded', status.RESOURCE_EXHAUSTED]);
      assert.ok((refusal.retryAfterMs ?? 0) >= 50);
    }
    assert.ok(outcomes.some((o) => o.status === 'fulfilled'));
    await issue(client, token);
  });
});
