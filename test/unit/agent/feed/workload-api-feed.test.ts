import assert from 'node:assert/strict';
import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto';
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { type ServiceError, status } from '@grpc/grpc-js';
import type { WorkloadApiFeed } from '../../../../agent/feed/workload-api-feed.ts';
import type { WorkloadEndpoint } from '../../../../agent/feed/workload-endpoint.ts';
import type { IdentitySnapshot } from '../../../../agent/snapshot.ts';
import { systemClock } from '../../../../host/clock.ts';
import { HealthCheckResponse_ServingStatus as Health } from '../../../../proto/gen/grpc/health/v1/health.ts';
import type { X509SVIDResponse } from '../../../../proto/gen/spiffe/workload.ts';
import { feedConformance } from '../../../conformance/feed.ts';
import { SVID_ID } from '../../../support/certificates.ts';
import { expectRejection } from '../../../support/expect-code.ts';
import { ManualClock, settle } from '../../../support/manual-clock.ts';
import { SnapshotFactory } from '../../../support/snapshots.ts';
import { suiteFolder } from '../../../support/suite-folder.ts';
import { openWorkloadApi } from '../../../support/workload-api.ts';
import { headers, WorkloadClient } from '../../../support/workload-client.ts';

const signal = new AbortController().signal;
const folder = suiteFolder();
let sockets = 0;
const newSocketPath = (): string => {
  sockets += 1;
  return join(folder, `${sockets}.sock`);
};

feedConformance('the Workload API', async () => {
  const socketPath = newSocketPath();
  const { feed, endpoint } = await openWorkloadApi({ socketPath, maxStreams: 8, clock: systemClock });
  const served = async (): Promise<X509SVIDResponse | null> => {
    const client = new WorkloadClient(socketPath);
    const stream = client.fetchX509Svid();
    try {
      return await stream.next();
    } catch {
      return null;
    } finally {
      stream.cancel();
      client.close();
    }
  };
  return {
    feed,
    close: () => endpoint.close(),
    async servedSerial() {
      const certificate = leafOf(await served());
      return certificate === null ? null : certificate.serialNumber.toLowerCase();
    },
    async isConsistent() {
      const response = await served();
      const [leaf, key] = [leafOf(response), response?.svids[0]?.x509SvidKey];
      assert.ok(leaf !== null && key !== undefined);
      return leaf.checkPrivateKey(createPrivateKey({ key: Buffer.from(key), format: 'der', type: 'pkcs8' }));
    },
  };
});

function leafOf(response: X509SVIDResponse | null): X509Certificate | null {
  const der = response?.svids[0]?.x509Svid;
  return der === undefined ? null : new X509Certificate(Buffer.from(der));
}

describe('the Workload API', () => {
  let factory: SnapshotFactory;
  let snapshots: IdentitySnapshot[];
  let feed: WorkloadApiFeed;
  let endpoint: WorkloadEndpoint;
  let client: WorkloadClient;
  let clock: ManualClock;
  let socketPath: string;
  let isReady = true;

  before(async () => {
    factory = await SnapshotFactory.make(Date.now());
    snapshots = await Promise.all([1, 2, 3].map((generation) => factory.snapshot(generation)));
  });
  beforeEach(async () => {
    clock = new ManualClock();
    socketPath = newSocketPath();
    isReady = true;
    const options = { socketPath, maxStreams: 4, clock, isReady: () => isReady };
    ({ feed, endpoint } = await openWorkloadApi(options));
    client = new WorkloadClient(socketPath);
  });
  afterEach(async () => {
    client.close();
    await feed.close();
    await endpoint.close();
  });
  const publish = async (generation: number): Promise<IdentitySnapshot> => {
    const snapshot = snapshots[generation - 1];
    assert.ok(snapshot !== undefined);
    await feed.publish(snapshot, signal);
    return snapshot;
  };

  describe('checklist 62, 84: the API is not extended, and served beside nothing but health', () => {
    it('answers UNIMPLEMENTED for a method that the standard does not have', async () => {
      const error = await client.failureOf('FetchEverything');
      assert.equal(error.code, status.UNIMPLEMENTED);
    });
  });

  describe('checklist 63: each message is the full state', () => {
    it('sends SVID, key and bundle again when only the bundle has changed', async () => {
      const { svid } = await publish(1);
      const stream = client.fetchX509Svid();
      const before = await stream.next();
      await feed.publish({ generation: 2, svid, bundle: factory.bundle(2n, factory.anchor) }, signal);
      const after = await stream.next();
      assert.deepEqual(after.svids[0]?.x509Svid, before.svids[0]?.x509Svid);
      assert.deepEqual(after.svids[0]?.x509SvidKey, before.svids[0]?.x509SvidKey);
      assert.equal(after.svids[0]?.bundle.length, 2 * (before.svids[0]?.bundle.length ?? 0));
      stream.cancel();
    });
  });

  describe('checklist 64: the first response comes at once', () => {
    it('to FetchX509SVID', async () => {
      const { svid } = await publish(1);
      const stream = client.fetchX509Svid();
      const { svids } = await stream.next();
      assert.equal(svids.length, 1);
      assert.equal(svids[0]?.spiffeId, svid.spiffeId.toString());
      stream.cancel();
    });

    it('to FetchX509Bundles', async () => {
      await publish(1);
      const stream = client.fetchX509Bundles();
      assert.deepEqual(Object.keys((await stream.next()).bundles), ['spiffe://example.org']);
      stream.cancel();
    });

    it('and the stream stays open for what comes later', async () => {
      await publish(1);
      const stream = client.fetchX509Svid();
      await stream.next();
      const { svid } = await publish(2);
      const [received] = (await stream.next()).svids;
      assert.deepEqual(Buffer.from(received?.x509Svid ?? []), Buffer.concat(svid.chain));
      stream.cancel();
    });
  });

  describe('checklist 66: the encodings of an SVID', () => {
    it('puts the leaf first, the intermediate after it, and no anchor', async () => {
      const { svid } = await publish(1);
      const stream = client.fetchX509Svid();
      const [received] = (await stream.next()).svids;
      assert.deepEqual(Buffer.from(received?.x509Svid ?? []), Buffer.concat(svid.chain));
      assert.ok(!Buffer.from(received?.x509Svid ?? []).includes(Buffer.from(factory.anchor.der)));
      stream.cancel();
    });

    it('gives the key of the leaf as PKCS#8 that is not encrypted', async () => {
      await publish(1);
      const stream = client.fetchX509Svid();
      const [received] = (await stream.next()).svids;
      const key = createPrivateKey({
        key: Buffer.from(received?.x509SvidKey ?? []),
        format: 'der',
        type: 'pkcs8',
      });
      const leaf = new X509Certificate(Buffer.from(received?.x509Svid ?? []));
      assert.deepEqual(
        createPublicKey(key).export({ format: 'der', type: 'spki' }),
        leaf.publicKey.export({ format: 'der', type: 'spki' }),
      );
      stream.cancel();
    });

    it('gives the bundle of the own trust domain as concatenated DER', async () => {
      const { bundle } = await publish(1);
      const stream = client.fetchX509Svid();
      const [received] = (await stream.next()).svids;
      assert.deepEqual(Buffer.from(received?.bundle ?? []), Buffer.concat([...bundle.x509Authorities]));
      stream.cancel();
    });
  });

  describe('checklist 67: without an identity there is no response', () => {
    for (const method of ['fetchX509Svid', 'fetchX509Bundles'] as const) {
      it(`${method} is UNAVAILABLE while the agent is starting`, async () => {
        assert.equal((await client[method]().failure()).code, status.UNAVAILABLE);
      });

      it(`${method} is PERMISSION_DENIED "no identity issued" when there is none`, async () => {
        await feed.withdraw();
        const error = await client[method]().failure();
        assert.equal(error.code, status.PERMISSION_DENIED);
        assert.match(error.details, /^no identity issued/);
      });

      it(`${method} is closed with PERMISSION_DENIED when the identity is lost`, async () => {
        await publish(1);
        const stream = client[method]();
        await stream.next();
        await feed.withdraw();
        assert.equal((await stream.failure()).code, status.PERMISSION_DENIED);
        assert.equal(endpoint.streams, 0);
      });
    }

    it('serves again when there is an identity again', async () => {
      await publish(1);
      await feed.withdraw();
      await publish(2);
      const stream = client.fetchX509Svid();
      assert.equal((await stream.next()).svids.length, 1);
      stream.cancel();
    });
  });

  describe('checklist 68, 76: hints', () => {
    it('are unique and short: there is one SVID, and its hint is empty', async () => {
      await publish(1);
      const stream = client.fetchX509Svid();
      assert.deepEqual(
        (await stream.next()).svids.map(({ hint }) => hint),
        [''],
      );
      stream.cancel();
    });
  });

  describe('checklist 70: FetchX509Bundles', () => {
    it('has the bundle of the own trust domain under its SPIFFE ID', async () => {
      const { bundle } = await publish(1);
      const stream = client.fetchX509Bundles();
      const { bundles } = await stream.next();
      assert.deepEqual(
        Buffer.from(bundles['spiffe://example.org'] ?? []),
        Buffer.concat([...bundle.x509Authorities]),
      );
      stream.cancel();
    });

    it('sends nothing when only the SVID has changed', async () => {
      const { svid } = await publish(1);
      const bundles = client.fetchX509Bundles();
      await bundles.next();
      const renewed = snapshots[1];
      assert.ok(renewed !== undefined);
      await feed.publish({ generation: 2, svid: renewed.svid, bundle: factory.bundle(1n) }, signal);
      await feed.publish({ generation: 3, svid, bundle: factory.bundle(2n, factory.anchor) }, signal);
      const { bundles: received } = await bundles.next();
      assert.equal(received['spiffe://example.org']?.length, factory.anchor.der.length * 2);
      assert.equal(bundles.received.length, 2);
      bundles.cancel();
    });
  });

  describe('checklist 61, 71 to 73, 75: the profiles that are not there yet', () => {
    const methods = [
      { name: 'FetchJWTSVID', isStream: false },
      { name: 'FetchJWTBundles', isStream: true },
      { name: 'ValidateJWTSVID', isStream: false },
      { name: 'FetchWITSVID', isStream: false },
      { name: 'FetchWITBundles', isStream: true },
    ];
    for (const { name, isStream } of methods) {
      it(`${name} is UNIMPLEMENTED`, async () => {
        await publish(1);
        const error = await client.failureOf(name, headers('true'), isStream);
        assert.equal(error.code, status.UNIMPLEMENTED);
      });

      it(`${name} is INVALID_ARGUMENT without the security header`, async () => {
        const error = await client.failureOf(name, headers(), isStream);
        assert.equal(error.code, status.INVALID_ARGUMENT);
      });
    }
  });

  describe('checklist 77, 78: gRPC, and a call without the security header is refused', () => {
    const wrong: readonly { name: string; values: readonly string[] }[] = [
      { name: 'no value', values: [] },
      { name: 'an empty value', values: [''] },
      { name: 'false', values: ['false'] },
      { name: 'True, since the value is true to the letter', values: ['True'] },
      { name: 'two values', values: ['true', 'true'] },
      { name: 'two values in one', values: ['true, true'] },
    ];
    for (const { name, values } of wrong) {
      it(`refuses ${name}`, async () => {
        await publish(1);
        for (const stream of [
          client.fetchX509Svid(headers(...values)),
          client.fetchX509Bundles(headers(...values)),
        ]) {
          const error = await stream.failure();
          assert.equal(error.code, status.INVALID_ARGUMENT);
          assert.match(error.details, /^security header missing from request/);
          assert.equal(stream.received.length, 0);
        }
      });
    }

    it('refuses before it says whether there is an identity', async () => {
      assert.equal((await client.fetchX509Svid(headers()).failure()).code, status.INVALID_ARGUMENT);
    });
  });

  describe('checklist 80, 83: no TLS and no authentication of the caller is asked for', () => {
    it('serves whoever may open the socket', async () => {
      await publish(1);
      const stream = client.fetchX509Svid();
      assert.equal((await stream.next()).svids[0]?.spiffeId, SVID_ID);
      stream.cancel();
    });
  });

  describe('streams', () => {
    it('all get the same newest snapshot', async () => {
      await publish(1);
      const streams = [client.fetchX509Svid(), client.fetchX509Svid(), client.fetchX509Svid()];
      await Promise.all(streams.map((stream) => stream.next()));
      const { svid } = await publish(2);
      for (const stream of streams) {
        const [received] = (await stream.next()).svids;
        assert.deepEqual(Buffer.from(received?.x509SvidKey ?? []), Buffer.from(svid.privateKey.expose()));
        stream.cancel();
      }
    });

    it('over the limit are refused with RESOURCE_EXHAUSTED, and there is room again when one ends', async () => {
      await publish(1);
      const streams = [1, 2, 3, 4].map(() => client.fetchX509Svid());
      await Promise.all(streams.map((stream) => stream.next()));
      const refused = await client.fetchX509Bundles().failure();
      assert.equal(refused.code, status.RESOURCE_EXHAUSTED);
      streams[0]?.cancel();
      while (endpoint.streams === 4) await settle();
      const stream = client.fetchX509Bundles();
      await stream.next();
      for (const open of [...streams, stream]) open.cancel();
    });

    it('that the client cancels are forgotten', async () => {
      await publish(1);
      const stream = client.fetchX509Svid();
      await stream.next();
      stream.cancel();
      while (endpoint.streams > 0) await settle();
    });

    it('of a client that vanishes are forgotten', async () => {
      await publish(1);
      const other = connectHttp2('http://localhost', { createConnection: () => connect(socketPath) });
      const request = other.request({
        ':method': 'POST',
        ':path': '/SpiffeWorkloadAPI/FetchX509SVID',
        'content-type': 'application/grpc',
        'workload.spiffe.io': 'true',
      });
      request.end(Buffer.alloc(5));
      await new Promise((resolve) => request.once('data', resolve));
      assert.equal(endpoint.streams, 1);
      other.destroy();
      while (endpoint.streams > 0) await settle();
    });

    it('end with UNAVAILABLE when the agent closes, and the socket is gone', async () => {
      await publish(1);
      const stream = client.fetchX509Svid();
      await stream.next();
      await feed.close();
      await endpoint.close();
      assert.equal((await stream.failure()).code, status.UNAVAILABLE);
      await assert.rejects(
        new Promise((_resolve, reject) => connect(socketPath).once('error', reject)),
        /ENOENT/,
      );
    });
  });

  describe('its consumers', () => {
    it('are its streams, each with the newest snapshot that was written to it', async () => {
      await publish(1);
      assert.deepEqual(feed.consumers(), []);
      const streams = [client.fetchX509Svid(), client.fetchX509Bundles()];
      await Promise.all(streams.map((stream) => stream.next()));
      const held = (): (readonly [string, number | undefined])[] =>
        feed.consumers().map(({ name, delivered }) => [name, delivered?.generation]);
      assert.deepEqual(held(), [
        ['FetchX509SVID-1', 1],
        ['FetchX509Bundles-1', 1],
      ]);
      const renewed = snapshots[1] ?? assert.fail();
      // To the second stream this is nothing new, so nothing is sent; it holds the newest all the same.
      await feed.publish({ generation: 2, svid: renewed.svid, bundle: factory.bundle(1n) }, signal);
      assert.deepEqual(held(), [
        ['FetchX509SVID-1', 2],
        ['FetchX509Bundles-1', 2],
      ]);
      streams[0]?.cancel();
      while (endpoint.streams > 1) await settle();
      assert.deepEqual(held(), [['FetchX509Bundles-1', 2]]);
      streams[1]?.cancel();
    });
  });

  describe('a reader that does not read', () => {
    /** A client of HTTP/2 that never opens its flow-control window. */
    const stalledStream = async (): Promise<{ closed: Promise<unknown>; destroy: () => void }> => {
      const session = connectHttp2('http://localhost', {
        createConnection: () => connect(socketPath),
        settings: { initialWindowSize: 0 },
      });
      const closed = new Promise((resolve) => session.once('close', resolve));
      session.on('error', () => {});
      await new Promise((resolve) => session.once('localSettings', resolve));
      const request = session.request({
        ':method': 'POST',
        ':path': '/SpiffeWorkloadAPI/FetchX509SVID',
        'content-type': 'application/grpc',
        'workload.spiffe.io': 'true',
      });
      request.on('error', () => {});
      request.end(Buffer.alloc(5));
      while (endpoint.streams === 0) await settle();
      return { closed, destroy: () => session.destroy() };
    };

    it('delays no other reader, and is cut off so that it comes back for the newest', async () => {
      await publish(1);
      const stalled = await stalledStream();
      const stream = client.fetchX509Svid();
      await stream.next();
      const publishing = publish(2);
      await stream.next();
      assert.equal(endpoint.streams, 2);
      await clock.advance(2_000);
      await publishing;
      assert.equal(endpoint.streams, 1);
      await stalled.closed;
      stream.cancel();
    });

    it('holds one message and no more, however many snapshots pass', async () => {
      await publish(1);
      const stalled = await stalledStream();
      for (const generation of [2, 3, 1]) {
        // Each is the newest in its turn; none waits for the reader, since a newer one takes its place.
        void feed.publish(snapshots[generation - 1] ?? assert.fail(), signal);
      }
      const last = publish(2);
      await clock.advance(2_000);
      await last;
      await stalled.closed;
      assert.equal(endpoint.streams, 0);
    });

    it('is cut off when the identity is withdrawn: what is in flight never reaches it', async () => {
      await publish(1);
      const stalled = await stalledStream();
      await feed.withdraw();
      await stalled.closed;
      assert.equal(endpoint.streams, 0);
    });
  });

  describe('hostile clients', () => {
    it('get nowhere with a request over the limit', async () => {
      await publish(1);
      const session = connectHttp2('http://localhost', { createConnection: () => connect(socketPath) });
      const request = session.request({
        ':method': 'POST',
        ':path': '/SpiffeWorkloadAPI/FetchX509SVID',
        'content-type': 'application/grpc',
        'workload.spiffe.io': 'true',
      });
      const frame = Buffer.alloc(5);
      frame.writeUInt32BE(2 ** 31, 1);
      request.end(frame);
      const response = await new Promise<Record<string, unknown>>((resolve) =>
        request.once('response', resolve),
      );
      assert.equal(Number(response['grpc-status']), status.RESOURCE_EXHAUSTED);
      session.destroy();
    });

    it('that speak no HTTP/2 harm nobody else', async () => {
      await publish(1);
      const socket = connect(socketPath);
      socket.on('error', () => {});
      socket.resume();
      socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
      await new Promise((resolve) => socket.once('close', resolve));
      const stream = client.fetchX509Svid();
      await stream.next();
      stream.cancel();
    });
  });

  describe('gRPC health', () => {
    it('is SERVING exactly while an identity is served, and asks for no security header', async () => {
      assert.equal((await client.health()).status, Health.NOT_SERVING);
      await publish(1);
      assert.equal((await client.health()).status, Health.SERVING);
      assert.equal((await client.health('SpiffeWorkloadAPI')).status, Health.SERVING);
      await feed.withdraw();
      assert.equal((await client.health()).status, Health.NOT_SERVING);
    });

    it('tells a watcher of each change', async () => {
      const stream = client.watchHealth();
      assert.equal((await stream.next()).status, Health.NOT_SERVING);
      await publish(1);
      assert.equal((await stream.next()).status, Health.SERVING);
      await feed.withdraw();
      assert.equal((await stream.next()).status, Health.NOT_SERVING);
      stream.cancel();
    });

    it('says of the whole agent that it serves once the other feeds are ready too, and of the Workload API before', async () => {
      isReady = false;
      const [all, api] = [client.watchHealth(), client.watchHealth('SpiffeWorkloadAPI')];
      for (const stream of [all, api]) assert.equal((await stream.next()).status, Health.NOT_SERVING);
      await publish(1);
      assert.equal((await api.next()).status, Health.SERVING);
      assert.equal((await client.health('SpiffeWorkloadAPI')).status, Health.SERVING);
      assert.equal((await client.health()).status, Health.NOT_SERVING);
      isReady = true;
      feed.refreshHealth();
      assert.equal((await all.next()).status, Health.SERVING);
      isReady = false;
      assert.equal((await client.health()).status, Health.NOT_SERVING, 'as of now, whoever was told of it');
      assert.equal((await all.next()).status, Health.NOT_SERVING);
      for (const stream of [all, api]) stream.cancel();
    });

    it('knows no other service', async () => {
      await assert.rejects(client.health('other'), (error: ServiceError) => error.code === status.NOT_FOUND);
      const stream = client.watchHealth('other');
      assert.equal((await stream.next()).status, Health.SERVICE_UNKNOWN);
      stream.cancel();
    });
  });

  after(async () => {
    const error = await expectRejection('feed_failed', feed.publish(snapshots[0] ?? assert.fail(), signal));
    assert.match(error.message, /closed/);
  });
});
