import assert from 'node:assert/strict';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterEach, before, beforeEach, describe, it } from 'node:test';
import { type ServiceError, status } from '@grpc/grpc-js';
import { SDS_SERVICE, SdsFeed } from '../../../../agent/feed/sds-feed.ts';
import { DEFAULT_SDS_NAMES } from '../../../../agent/feed/sds-names.ts';
import { SECRET_TYPE_URL } from '../../../../agent/feed/sds-resources.ts';
import { WorkloadEndpoint } from '../../../../agent/feed/workload-endpoint.ts';
import type { IdentitySnapshot } from '../../../../agent/snapshot.ts';
import { type Clock, systemClock } from '../../../../host/clock.ts';
import { type Log, silentLog } from '../../../../host/log.ts';
import { systemRandom } from '../../../../host/random.ts';
import type { DiscoveryResponse } from '../../../../proto/gen/envoy/service/discovery/v3/discovery.ts';
import { feedConformance } from '../../../conformance/feed.ts';
import { SVID_ID } from '../../../support/certificates.ts';
import { NO_REFUSALS } from '../../../support/endpoint-refusals.ts';
import { ManualClock, settle } from '../../../support/manual-clock.ts';
import {
  chainOf,
  ENVOY_NODE,
  privateKeyOf,
  SdsClient,
  secretsOf,
  type SotwStream,
} from '../../../support/sds-client.ts';
import { SnapshotFactory } from '../../../support/snapshots.ts';
import { suiteFolder } from '../../../support/suite-folder.ts';

const TD = 'spiffe://example.org';
const signal = new AbortController().signal;
const folder = suiteFolder();
let sockets = 0;

interface Served {
  readonly feed: SdsFeed;
  readonly endpoint: WorkloadEndpoint;
  readonly socketPath: string;
}

async function serve({
  clock = systemClock,
  log = silentLog,
  maxStreams = 8,
  isValidatorDisabled = false,
  onConsumersChange = () => {},
  onNack = () => {},
}: {
  readonly clock?: Clock;
  readonly log?: Log;
  readonly maxStreams?: number;
  readonly isValidatorDisabled?: boolean;
  readonly onConsumersChange?: () => void;
  readonly onNack?: (kind: string) => void;
} = {}): Promise<Served> {
  sockets += 1;
  const socketPath = join(folder, `${sockets}.sock`);
  const endpoint = new WorkloadEndpoint({
    socketPaths: [socketPath],
    socketMode: 0o660,
    maxStreams,
    clock,
    ...NO_REFUSALS,
    log,
  });
  const feed = new SdsFeed({
    endpoint,
    clock,
    log,
    random: systemRandom,
    names: DEFAULT_SDS_NAMES,
    isValidatorDisabled,
    onConsumersChange,
    onNack,
  });
  await endpoint.listen();
  return { feed, endpoint, socketPath };
}

feedConformance('SDS', async () => {
  const { feed, endpoint, socketPath } = await serve();
  const served = async (): Promise<DiscoveryResponse | null> => {
    const client = new SdsClient(socketPath);
    try {
      return await client.fetch({ resourceNames: ['default'] });
    } catch {
      return null;
    } finally {
      client.close();
    }
  };
  return {
    feed,
    close: () => endpoint.close(),
    async servedSerial() {
      const response = await served();
      if (response === null) return null;
      return new X509Certificate(chainOf(secretsOf(response).get('default'))).serialNumber.toLowerCase();
    },
    async isConsistent() {
      const response = await served();
      assert.ok(response !== null);
      const secret = secretsOf(response).get('default');
      return new X509Certificate(chainOf(secret)).checkPrivateKey(createPrivateKey(privateKeyOf(secret)));
    },
  };
});

describe('SDS', () => {
  let factory: SnapshotFactory;
  let snapshots: IdentitySnapshot[];
  let feed: SdsFeed;
  let endpoint: WorkloadEndpoint;
  let socketPath: string;
  let client: SdsClient;
  let clock: ManualClock;
  let changes: number;
  let nacks: string[];
  let logged: unknown[];

  before(async () => {
    factory = await SnapshotFactory.make(Date.now());
    snapshots = await Promise.all([1, 2, 3].map((generation) => factory.snapshot(generation)));
  });

  beforeEach(async () => {
    clock = new ManualClock();
    changes = 0;
    logged = [];
    const log = {
      ...silentLog,
      warn: (event: string, fields: object = {}) => logged.push({ event, ...fields }),
    };
    const onConsumersChange = (): void => {
      changes += 1;
    };
    nacks = [];
    const onNack = (kind: string): void => void nacks.push(kind);
    ({ feed, endpoint, socketPath } = await serve({ clock, log, onConsumersChange, onNack }));
    client = new SdsClient(socketPath);
  });
  afterEach(async () => {
    client.close();
    await feed.close();
    await endpoint.close();
  });

  const snapshot = (generation: number): IdentitySnapshot => {
    const found = snapshots[generation - 1];
    assert.ok(found !== undefined);
    return found;
  };
  /** Another SVID, the bundle as it was. */
  const renewed = (): IdentitySnapshot => ({ ...snapshot(2), bundle: snapshot(1).bundle });
  const publish = async (generation: number): Promise<void> => {
    await feed.publish(snapshot(generation), signal);
  };
  const consumer = (): readonly unknown[] => {
    const [first] = feed.consumers();
    assert.ok(first !== undefined, 'there is no consumer');
    return [first.delivered?.generation ?? null, first.loaded?.generation ?? null, first.errorCode];
  };
  const until = async (isDone: () => boolean): Promise<void> => {
    for (let i = 0; !isDone(); i += 1) {
      assert.ok(i < 500, 'it does not happen');
      await settle();
    }
  };
  const codeOf = async (ending: Promise<ServiceError>): Promise<string | undefined> => {
    const { code } = await ending;
    return status[code];
  };
  const fetchFailure = async (names: readonly string[], more = {}): Promise<ServiceError> =>
    await client.fetch({ resourceNames: [...names], ...more }).then(
      () => assert.fail('it was answered'),
      (error: unknown) => error as ServiceError,
    );
  const start = async (
    names: readonly string[],
  ): Promise<{ stream: SotwStream; first: DiscoveryResponse }> => {
    const stream = client.stream();
    stream.request(names);
    return { stream, first: await stream.next() };
  };

  describe('rule 1: the service and its methods', () => {
    it('StreamSecrets, DeltaSecrets and FetchSecrets serve the same secret, without a security header', async () => {
      await publish(1);
      const stream = client.stream();
      stream.request(['default']);
      const delta = client.delta();
      delta.request({ resourceNamesSubscribe: ['default'] });
      const chains = [
        await stream.next(),
        await delta.next(),
        await client.fetch({ resourceNames: ['default'] }),
      ]
        .map((response) => secretsOf(response).get('default'))
        .map(chainOf);
      assert.equal(new Set(chains).size, 1);
      const leaf = new X509Certificate(chains[0] ?? '');
      assert.equal(leaf.subjectAltName, `URI:${SVID_ID}`);
    });

    it('says of what type its resources are', async () => {
      await publish(1);
      const { first } = await start(['default', 'ROOTCA']);
      assert.equal(first.typeUrl, SECRET_TYPE_URL);
      assert.deepEqual(
        first.resources.map(({ typeUrl }) => typeUrl),
        [SECRET_TYPE_URL, SECRET_TYPE_URL],
      );
    });

    it('takes an empty type URL for its own', async () => {
      await publish(1);
      const response = await client.fetch({ resourceNames: ['default'], typeUrl: '' });
      assert.equal(response.resources.length, 1);
    });
  });

  describe('rule 2: names', () => {
    const CASES: readonly { name: string; names: readonly string[]; want: readonly string[] }[] = [
      { name: 'none', names: [], want: [TD, SVID_ID] },
      { name: 'the empty one', names: [''], want: [TD, SVID_ID] },
      { name: 'the SPIFFE ID', names: [SVID_ID], want: [SVID_ID] },
      { name: 'default', names: ['default'], want: ['default'] },
      { name: 'the trust domain', names: [TD], want: [TD] },
      { name: 'ROOTCA', names: ['ROOTCA'], want: ['ROOTCA'] },
      { name: 'ALL', names: ['ALL'], want: ['ALL'] },
      {
        name: 'all of them in one request',
        names: ['default', SVID_ID, TD, 'ROOTCA', 'ALL'],
        want: ['default', SVID_ID, TD, 'ROOTCA', 'ALL'],
      },
    ];
    for (const { name, names, want } of CASES) {
      it(`serves ${name}, by all methods`, async () => {
        await publish(1);
        const { first } = await start(names);
        assert.deepEqual([...secretsOf(first).keys()], want);
        const delta = client.delta();
        delta.request({ resourceNamesSubscribe: [...names] });
        assert.deepEqual([...secretsOf(await delta.next()).keys()], want);
        const fetched = await client.fetch({ resourceNames: [...names] });
        assert.deepEqual([...secretsOf(fetched).keys()], want);
      });
    }

    it('refuses an unknown one with INVALID_ARGUMENT in the words of SPIRE, by all methods', async () => {
      await publish(1);
      const stream = client.stream();
      stream.request(['default', 'nobody']);
      const delta = client.delta();
      delta.request({ resourceNamesSubscribe: ['nobody'] });
      for (const error of [await stream.failure(), await delta.failure(), await fetchFailure(['nobody'])]) {
        assert.equal(status[error.code], 'INVALID_ARGUMENT');
        assert.match(error.details, /^workload is not authorized for the requested identities \["nobody"\]/);
      }
    });

    it("refuses Istio's own with INVALID_ARGUMENT and says what to do, before there is an identity too", async () => {
      const stream = client.stream();
      stream.request(['file-root:system']);
      const error = await stream.failure();
      assert.equal(status[error.code], 'INVALID_ARGUMENT');
      assert.match(error.details, /file-root:system.*let Envoy read the file itself/);
    });
  });

  describe('rule 3: the SPIFFE validator', () => {
    const disabling = {
      ...ENVOY_NODE,
      metadata: {
        fields: { disable_spiffe_cert_validation: { kind: { $case: 'boolValue', value: true } as const } },
      },
    };
    const isPlain = (response: DiscoveryResponse): boolean => {
      const type = secretsOf(response).get('ROOTCA')?.type;
      return type?.$case === 'validationContext' && type.value.trustedCa !== undefined;
    };

    it('is what validation contexts are for, unless the node metadata says otherwise', async () => {
      await publish(1);
      assert.equal(isPlain(await client.fetch({ resourceNames: ['ROOTCA'] })), false);
      assert.equal(isPlain(await client.fetch({ resourceNames: ['ROOTCA'], node: disabling })), true);
    });

    it('refuses ALL where it is off', async () => {
      await publish(1);
      const error = await fetchFailure(['ALL'], { node: disabling });
      assert.equal(status[error.code], 'FAILED_PRECONDITION');
    });

    it('can be off by the setting', async () => {
      const other = await serve({ isValidatorDisabled: true });
      await other.feed.publish(snapshot(1), signal);
      const otherClient = new SdsClient(other.socketPath);
      assert.equal(isPlain(await otherClient.fetch({ resourceNames: ['ROOTCA'], node: undefined })), true);
      otherClient.close();
      await other.feed.close();
      await other.endpoint.close();
    });
  });

  describe('rule 4: versions and nonces', () => {
    it('count the responses of the stream from 0; each nonce is new', async () => {
      await publish(1);
      const { stream, first } = await start(['default']);
      await publish(2);
      const second = await stream.next();
      const other = (await start(['default'])).first;
      assert.deepEqual([first.versionInfo, second.versionInfo, other.versionInfo], ['0', '1', '0']);
      for (const { nonce } of [first, second, other]) assert.match(nonce, /^[0-9a-f]{16}$/);
      assert.equal(new Set([first.nonce, second.nonce, other.nonce]).size, 3);
    });

    it('a request with a stale nonce is ignored', async () => {
      await publish(1);
      const { stream, first } = await start(['default']);
      await publish(2);
      const second = await stream.next();
      stream.ack(first, ['default', 'nobody']);
      stream.ack(second, ['default']);
      await until(() => consumer()[1] === 2);
      assert.equal(stream.received.length, 2);
    });

    it('FetchSecrets has the generation as version and no nonce', async () => {
      await publish(2);
      const { versionInfo, nonce } = await client.fetch({ resourceNames: ['default'] });
      assert.deepEqual([versionInfo, nonce], ['2', '']);
    });
  });

  describe('rule 5: when something is sent', () => {
    it('on the first request, on added names, and on a new snapshot; not on an ACK', async () => {
      await publish(1);
      const { stream, first } = await start(['default']);
      stream.ack(first, ['default']);
      await until(() => consumer()[1] === 1);
      stream.ack(first, ['default', 'ROOTCA']);
      const second = await stream.next();
      assert.deepEqual([...secretsOf(second).keys()], ['ROOTCA']);
      await until(() => consumer()[0] === 1 && consumer()[1] === null);
      stream.ack(second, ['default', 'ROOTCA']);
      await until(() => consumer()[1] === 1);
      await feed.publish(renewed(), signal);
      const third = await stream.next();
      assert.deepEqual([...secretsOf(third).keys()], ['default']);
      assert.equal(stream.received.length, 3);
    });

    it('a node that is left out is remembered', async () => {
      await publish(1);
      const { stream, first } = await start(['default']);
      stream.ack(first, ['default']);
      await until(() => consumer()[1] === 1);
      assert.equal(feed.consumers()[0]?.name, 'envoy-1');
    });
  });

  describe('rule 6: ACK and NACK', () => {
    it('an ACK makes a snapshot loaded, its delivery alone does not', async () => {
      await publish(1);
      const { stream, first } = await start(['default', 'ROOTCA']);
      await until(() => consumer()[0] === 1);
      assert.deepEqual(consumer(), [1, null, null]);
      const before = changes;
      stream.ack(first, ['default', 'ROOTCA']);
      await until(() => consumer()[1] === 1);
      assert.ok(changes > before);
      assert.deepEqual(
        feed.consumers().map(({ name, best }) => ({ name, best })),
        [{ name: 'envoy-1', best: 'loaded' }],
      );
    });

    it('a NACK is told, logged without material, and what was refused is sent again only when it has changed', async () => {
      await publish(1);
      const { stream, first } = await start(['default', 'ROOTCA']);
      const key = privateKeyOf(secretsOf(first).get('default'));
      stream.nack(first, ['default', 'ROOTCA'], `cannot use ${key}`);
      await until(() => consumer()[2] === 'sds_nack');
      assert.deepEqual(logged, [
        {
          event: 'sds.nack',
          consumer: 'envoy-1',
          resources: ['default', 'ROOTCA'],
          reason: 'cannot use [...]',
        },
      ]);
      assert.deepEqual(nacks.toSorted(), ['tls_certificate', 'validation_context']);
      await publish(1);
      await feed.publish(renewed(), signal);
      const second = await stream.next();
      assert.deepEqual([...secretsOf(second).keys()], ['default']);
      assert.equal(stream.received.length, 2);
      stream.ack(second, ['default', 'ROOTCA']);
      await settle();
      assert.deepEqual(consumer(), [2, null, 'sds_nack']);
    });

    it('a client that refuses over and over gets one line a second in the log', async () => {
      await publish(1);
      const { stream, first } = await start(['default']);
      let response = first;
      for (const names of [['ROOTCA'], ['default'], ['ROOTCA'], ['default']]) {
        stream.nack(response, names);
        response = await stream.next();
      }
      assert.equal(logged.length, 1);
      await until(() => nacks.length === 4);
      assert.deepEqual(nacks, [
        'tls_certificate',
        'validation_context',
        'tls_certificate',
        'validation_context',
      ]);
    });
  });

  describe('rule 7: DeltaSecrets', () => {
    it('sends by resource, with versions that hold over streams, and takes ACKs', async () => {
      await publish(1);
      const stream = client.delta();
      stream.request({ resourceNamesSubscribe: ['default', 'ROOTCA'] });
      const first = await stream.next();
      assert.equal(first.systemVersionInfo, '0');
      const versions = Object.fromEntries(first.resources.map(({ name, version }) => [name, version]));
      stream.ack(first);
      await until(() => consumer()[1] === 1);
      stream.cancel();
      await until(() => endpoint.streams === 0);
      await feed.publish(renewed(), signal);
      const again = client.delta();
      again.request({ resourceNamesSubscribe: ['default', 'ROOTCA'], initialResourceVersions: versions });
      const second = await again.next();
      assert.deepEqual(
        second.resources.map(({ name }) => name),
        ['default'],
      );
      again.ack(second);
      await until(() => consumer()[1] === 2);
    });

    it('follows subscribe and unsubscribe', async () => {
      await publish(1);
      const stream = client.delta();
      stream.request({ resourceNamesSubscribe: ['default'] });
      await stream.next();
      stream.request({ resourceNamesSubscribe: ['ROOTCA'], resourceNamesUnsubscribe: ['default'] });
      assert.deepEqual([...secretsOf(await stream.next()).keys()], ['ROOTCA']);
      await feed.publish(renewed(), signal);
      await publish(3);
      assert.equal(stream.received.length, 2, 'the bundle is the same');
    });

    it('tells in removed_resources what is gone', async () => {
      await publish(1);
      const stream = client.delta();
      stream.request({ resourceNamesSubscribe: [SVID_ID] });
      await stream.next();
      const svid = await factory.svid({ id: `${TD}/other` });
      await feed.publish({ ...snapshot(2), svid }, signal);
      const second = await stream.next();
      assert.deepEqual([second.resources, second.removedResources], [[], [SVID_ID]]);
    });
  });

  describe('rule 8: without an identity', () => {
    it('streams are held, and served the moment there is one', async () => {
      const [stream, delta] = [client.stream(), client.delta()];
      stream.request(['default']);
      delta.request({ resourceNamesSubscribe: ['default'] });
      await until(() => feed.consumers().length === 2);
      await publish(1);
      assert.equal(secretsOf(await stream.next()).size, 1);
      assert.equal(secretsOf(await delta.next()).size, 1);
    });

    it('FetchSecrets is UNAVAILABLE while the agent is starting, PERMISSION_DENIED when there is none', async () => {
      assert.equal(status[(await fetchFailure(['default'])).code], 'UNAVAILABLE');
      await feed.withdraw();
      const error = await fetchFailure(['default']);
      assert.equal(status[error.code], 'PERMISSION_DENIED');
      assert.match(error.details, /^no identity issued/);
    });

    it('streams that had one are ended when it expires, and those that come then are held', async () => {
      await publish(1);
      const { stream } = await start(['default']);
      await feed.withdraw();
      assert.equal(await codeOf(stream.failure()), 'PERMISSION_DENIED');
      const later = client.stream();
      later.request(['default']);
      await until(() => feed.consumers().length === 1);
      await feed.withdraw();
      await publish(2);
      assert.equal(secretsOf(await later.next()).size, 1);
    });

    it('streams are ended with UNAVAILABLE when the agent closes, and none is opened any more', async () => {
      const stream = client.stream();
      stream.request(['default']);
      await until(() => feed.consumers().length === 1);
      await feed.close();
      assert.equal(await codeOf(stream.failure()), 'UNAVAILABLE');
      assert.equal(await codeOf(client.stream().failure()), 'UNAVAILABLE');
      assert.equal(status[(await fetchFailure(['default'])).code], 'UNAVAILABLE');
    });
  });

  describe('rule 9: bad input ends its own stream and no other', () => {
    const NAMES = Array.from({ length: 10_000 }, (_, i) => `n${i}`);
    const LONG = 'x'.repeat(40_000);
    const CASES: readonly {
      name: string;
      code: keyof typeof status;
      send: (client: SdsClient) => Promise<ServiceError>;
    }[] = [
      {
        name: 'bytes that are no protobuf',
        code: 'INVALID_ARGUMENT',
        send: async (c) => {
          const stream = c.raw('StreamSecrets');
          stream.send(Buffer.from('ffffffff', 'hex'));
          return await stream.failure();
        },
      },
      {
        name: 'the same to DeltaSecrets',
        code: 'INVALID_ARGUMENT',
        send: async (c) => {
          const stream = c.raw('DeltaSecrets');
          stream.send(Buffer.from('ffffffff', 'hex'));
          return await stream.failure();
        },
      },
      {
        name: 'an unknown type URL',
        code: 'INVALID_ARGUMENT',
        send: async (c) => {
          const stream = c.stream();
          stream.request([], { typeUrl: 'type.googleapis.com/envoy.config.cluster.v3.Cluster' });
          return await stream.failure();
        },
      },
      {
        name: '10,000 names',
        code: 'INVALID_ARGUMENT',
        send: async (c) => {
          const stream = c.stream();
          stream.request(NAMES);
          return await stream.failure();
        },
      },
      {
        name: '10,000 subscriptions',
        code: 'INVALID_ARGUMENT',
        send: async (c) => {
          const stream = c.delta();
          stream.request({ resourceNamesSubscribe: NAMES });
          return await stream.failure();
        },
      },
      {
        name: 'a name of 40,000 characters',
        code: 'INVALID_ARGUMENT',
        send: async (c) => {
          const stream = c.stream();
          stream.request([LONG]);
          return await stream.failure();
        },
      },
      {
        name: 'a request of 1 MiB, which gRPC itself refuses',
        code: 'RESOURCE_EXHAUSTED',
        send: async (c) => {
          const stream = c.raw('StreamSecrets');
          stream.send(Buffer.alloc(1024 * 1024));
          return await stream.failure();
        },
      },
    ];
    for (const { name, code, send } of CASES) {
      it(`${name}: ${code}`, async () => {
        await publish(1);
        const { stream, first } = await start(['default']);
        assert.equal(await codeOf(send(client)), code);
        stream.ack(first, ['default']);
        await publish(2);
        assert.equal(secretsOf(await stream.next()).size, 1);
        await until(() => endpoint.streams === 1);
      });
    }

    it('an error_detail of 200 KiB is taken, and a short line of it is logged', async () => {
      await publish(1);
      const { stream, first } = await start(['default']);
      stream.nack(first, ['default'], 'no good '.repeat(25_000));
      await until(() => logged.length === 1);
      assert.ok(JSON.stringify(logged).length < 400);
    });
  });

  describe('rule 10: many and slow clients', () => {
    it('streams over the limit are refused with RESOURCE_EXHAUSTED, and there is room again when one ends', async () => {
      await publish(1);
      const open = await Promise.all(Array.from({ length: 8 }, () => start(['default'])));
      assert.equal(await codeOf(client.stream().failure()), 'RESOURCE_EXHAUSTED');
      open[0]?.stream.cancel();
      await until(() => endpoint.streams === 7);
      await start(['default']);
    });

    it('a stream that the client half-closes is over', async () => {
      await publish(1);
      const { stream } = await start(['default']);
      stream.end();
      await until(() => endpoint.streams === 0);
      assert.deepEqual(feed.consumers(), []);
    });

    it('several streams of one node have names of their own', async () => {
      await publish(1);
      await Promise.all([start(['default']), start(['ROOTCA'])]);
      const anonymous = client.stream();
      anonymous.request(['default'], { node: undefined });
      await anonymous.next();
      const names = feed.consumers().map(({ name }) => name);
      assert.deepEqual(names.toSorted(), ['envoy-1', 'envoy-1#2', 'stream-3']);
    });

    it('a client that does not read delays no other, and is dropped after 2 seconds', async () => {
      // With no window for data, the transport never takes a response.
      const session = connectHttp2('http://localhost', {
        createConnection: () => connect(socketPath),
        settings: { initialWindowSize: 0 },
      });
      session.on('error', () => {});
      const stalled = session.request({
        ':method': 'POST',
        ':path': `/${SDS_SERVICE}/StreamSecrets`,
        'content-type': 'application/grpc',
        te: 'trailers',
      });
      stalled.on('error', () => {});
      await publish(1);
      stalled.write(Buffer.concat([Buffer.alloc(5), Buffer.alloc(0)]));
      await until(() => feed.consumers().length === 1);
      const { stream } = await start(['default']);
      let isDone = false;
      const publishing = publish(2).then(() => {
        isDone = true;
      });
      assert.equal(secretsOf(await stream.next()).size, 1);
      await settle();
      assert.equal(isDone, false);
      await clock.advance(2_000);
      await publishing;
      await until(() => endpoint.streams === 1);
      assert.equal(session.destroyed || session.closed, true);
    });

    it('a secret that waits for a stalled reader never reaches it once the identity has expired', async () => {
      const session = connectHttp2('http://localhost', {
        createConnection: () => connect(socketPath),
        settings: { initialWindowSize: 0 },
      });
      session.on('error', () => {});
      const stalled = session.request({
        ':method': 'POST',
        ':path': `/${SDS_SERVICE}/StreamSecrets`,
        'content-type': 'application/grpc',
        te: 'trailers',
      });
      stalled.on('error', () => {});
      let received = 0;
      stalled.on('data', (chunk: Buffer) => {
        received += chunk.length;
      });
      await publish(1);
      stalled.write(Buffer.alloc(5));
      await until(() => feed.consumers().length === 1);
      await feed.withdraw();
      await until(() => endpoint.streams === 0);
      assert.equal(received, 0);
    });
  });

  it('warns of CRLs that the SPIFFE validator cannot be given', async () => {
    const crls = [await factory.crl('issuer')];
    await feed.publish({ ...snapshot(1), bundle: { ...snapshot(1).bundle, crls } }, signal);
    assert.deepEqual(logged, [{ event: 'sds.crls_incomplete', trustDomain: 'example.org', sequence: 1n }]);
  });
});
