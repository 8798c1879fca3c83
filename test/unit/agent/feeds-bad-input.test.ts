/**
 * What one feed meets and what others make of it: a table of bad input, each with its code, on an agent's feeds as they
 * run, and every other feed at the newest snapshot all the same.
 */
import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { connect as connectHttp2 } from 'node:http2';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { before, describe, it, type TestContext } from 'node:test';
import { loadAgentConfig } from '../../../agent/config.ts';
import { expiryOf } from '../../../agent/renewal.ts';
import { instantOf } from '../../../agent/deadline.ts';
import { failureOfFeed } from '../../../agent/evidence.ts';
import { openFeeds } from '../../../agent/feeds.ts';
import { FeedPublisher } from '../../../agent/publisher.ts';
import type { IdentitySnapshot } from '../../../agent/snapshot.ts';
import { systemClock } from '../../../host/clock.ts';
import { silentLog } from '../../../host/log.ts';
import { systemRandom } from '../../../host/random.ts';
import type { ErrorCode } from '../../../pki/error-table.ts';
import { GetAgentStatusResponse } from '../../../proto/gen/kedge/v1/agent.ts';
import { settle } from '../../support/manual-clock.ts';
import { SdsClient } from '../../support/sds-client.ts';
import { SnapshotFactory } from '../../support/snapshots.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import { WorkloadClient } from '../../support/workload-client.ts';

const NAMES = Array.from({ length: 10_000 }, (_, index) => `name-${index}`);

/** Where everything of one agent is. */
interface Site {
  readonly socket: string;
  readonly files: string;
  readonly t: TestContext;
}

interface BadInput {
  readonly name: string;
  readonly flags?: (site: Site) => Readonly<Record<string, string>>;
  /** Before the first snapshot. */
  readonly prepare?: (site: Site) => Promise<void>;
  /** Between the first snapshot and the second. */
  readonly happen?: (site: Site) => Promise<void>;
  /** The feed that does not get over it; null = all do. */
  readonly feed: string | null;
  /** Of that feed. */
  readonly code?: ErrorCode;
}

const hook = (...argv: readonly string[]) => ({ hook: JSON.stringify(argv), 'hook-timeout': '200ms' });

/** A runtime API that says `answer` to whatever it is asked, and then closes or waits. */
const haproxy =
  (answer: string, closes: boolean) =>
  async ({ socket, t }: Site): Promise<void> => {
    const server = createServer((connection) => {
      connection.on('error', () => {});
      connection.once('data', () => {
        connection.write(answer);
        if (closes) connection.end();
      });
      t.after(() => connection.destroy());
    });
    await new Promise<void>((resolve) => server.listen(`${socket}.haproxy`, resolve));
    t.after(() => server.close());
  };
const haproxyFlags = ({ socket, files }: Site) => ({
  'haproxy-sockets': `${socket}.haproxy`,
  'haproxy-folder': `${files}-haproxy`,
  'haproxy-timeout': '200ms',
});

const sds = (send: (client: SdsClient) => Promise<Error>, words: RegExp) => async (site: Site) => {
  const client = new SdsClient(site.socket);
  site.t.after(() => client.close());
  assert.match((await send(client)).message, words);
};

/** A connection that takes no data, with a call on it. */
async function stalledCall({ socket, t }: Site, path: string, end: boolean): Promise<void> {
  const session = connectHttp2('http://localhost', {
    createConnection: () => connect(socket),
    settings: { initialWindowSize: 0 },
  });
  session.on('error', () => {});
  t.after(() => session.destroy());
  await new Promise((resolve) => session.once('localSettings', resolve));
  const stream = session.request({
    ':method': 'POST',
    ':path': path,
    'content-type': 'application/grpc',
    te: 'trailers',
    'workload.spiffe.io': 'true',
  });
  stream.on('error', () => {});
  stream.write(Buffer.alloc(5));
  if (end) stream.end();
  await new Promise((resolve) => session.ping(() => resolve(null)));
}

const TABLE: readonly BadInput[] = [
  {
    name: 'an SDS request that is no protobuf',
    happen: sds(async (client) => {
      const stream = client.raw('StreamSecrets');
      stream.send(Buffer.from('ffffffff', 'hex'));
      return await stream.failure();
    }, /INVALID_ARGUMENT: the SDS request is not valid protobuf/),
    feed: null,
  },
  {
    name: 'an SDS request of 1 MiB',
    happen: sds(async (client) => {
      const stream = client.raw('DeltaSecrets');
      stream.send(Buffer.alloc(1024 * 1024));
      return await stream.failure();
    }, /RESOURCE_EXHAUSTED/),
    feed: null,
  },
  {
    name: 'an SDS request for another type URL',
    happen: sds(async (client) => {
      const stream = client.stream();
      stream.request([], { typeUrl: 'type.googleapis.com/envoy.config.cluster.v3.Cluster' });
      return await stream.failure();
    }, /INVALID_ARGUMENT: the agent does not serve/),
    feed: null,
  },
  {
    name: 'an SDS request for 10,000 names',
    happen: sds(async (client) => {
      const stream = client.delta();
      stream.request({ resourceNamesSubscribe: NAMES });
      return await stream.failure();
    }, /INVALID_ARGUMENT: 10000 SDS resource names are asked for/),
    feed: null,
  },
  {
    name: 'a reader of the Workload API that takes nothing',
    happen: (site) => stalledCall(site, '/SpiffeWorkloadAPI/FetchX509SVID', true),
    feed: null,
  },
  {
    name: 'a reader of SDS that takes nothing',
    happen: (site) =>
      stalledCall(site, '/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets', false),
    feed: null,
  },
  {
    name: 'a client that speaks no HTTP/2',
    happen: async ({ socket, t }) => {
      const connection: Socket = connect(socket);
      connection.on('error', () => {});
      connection.resume();
      t.after(() => connection.destroy());
      connection.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
      await new Promise((resolve) => connection.once('close', resolve));
    },
    feed: null,
  },
  {
    name: 'a folder that has become a file',
    happen: async ({ files }) => {
      rmSync(files, { recursive: true });
      writeFileSync(files, 'mine');
    },
    feed: 'files',
    code: 'file_unwritable',
  },
  { name: 'a hook that hangs', flags: () => hook('/bin/sleep', '60'), feed: 'files', code: 'hook_failed' },
  {
    name: 'a hook that forks what hangs, and fails',
    flags: () => hook('/bin/sh', '-c', 'sleep 60 & exit 3'),
    feed: 'files',
    code: 'hook_failed',
  },
  {
    name: 'a hook that is not there',
    flags: () => hook('/nowhere/hook'),
    feed: 'files',
    code: 'hook_failed',
  },
  {
    name: 'a HAProxy whose answer is cut in half',
    flags: haproxyFlags,
    prepare: haproxy('Name: HAProxy\nVersion: 2.6.12-1\nPid: 12\nStart_ti', true),
    feed: 'haproxy',
    code: 'haproxy_answer_invalid',
  },
  {
    name: 'a HAProxy that stops in the middle of an answer',
    flags: haproxyFlags,
    prepare: haproxy('Name: HAProxy\nVersion: 2.6.12-1\n', false),
    feed: 'haproxy',
    code: 'haproxy_unreachable',
  },
  {
    name: 'a HAProxy that answers without end',
    flags: haproxyFlags,
    prepare: haproxy('Name: HAProxy\n'.repeat(40_000), false),
    feed: 'haproxy',
    code: 'haproxy_answer_invalid',
  },
  {
    name: 'something else than HAProxy',
    flags: haproxyFlags,
    prepare: haproxy('HTTP/1.1 400 Bad request\r\n\r\n', true),
    feed: 'haproxy',
    code: 'haproxy_refused',
  },
  {
    name: 'a HAProxy that is not there',
    flags: haproxyFlags,
    feed: 'haproxy',
    code: 'haproxy_unreachable',
  },
];

async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 30_000;
  while (!holds()) {
    assert.ok(performance.now() < deadline, `it does not happen: ${what}`);
    await settle();
  }
}

describe('bad input of one feed', () => {
  let snapshots: readonly [IdentitySnapshot, IdentitySnapshot];
  before(async () => {
    const factory = await SnapshotFactory.make(Date.now());
    snapshots = [await factory.snapshot(1), await factory.snapshot(2)];
  });

  for (const { name, flags = () => ({}), prepare, happen, feed: bad, code } of TABLE) {
    it(`${name}${bad === null ? '' : `: ${code} of ${bad}`}; all others are at the newest`, async (t) => {
      const folder = temporaryFolder(t);
      const site: Site = { socket: join(folder, 'a.sock'), files: join(folder, 'files'), t };
      const settings = {
        'trust-domain': 'example.org',
        'token-file': '/token',
        'bootstrap-bundle': '/bundle.pem',
        socket: site.socket,
        'files-folder': site.files,
        ...flags(site),
      };
      const config = await loadAgentConfig({ flags: new Map(Object.entries(settings)), env: {} });
      await prepare?.(site);
      const shared = { clock: systemClock, random: systemRandom, log: silentLog };
      const feeds = await openFeeds({
        ...shared,
        config,
        status: () => GetAgentStatusResponse.decode(new Uint8Array(0)),
        onConsumersChange: () => {},
        isReady: () => true,
        onNack: () => {},
        onRefusal: () => {},
      });
      const stop = new AbortController();
      const publishers = feeds.all.map(
        (feed) => new FeedPublisher({ ...shared, feed, onChange: () => {}, onPublication: () => {} }),
      );
      const running = publishers.map((publisher) => publisher.run(stop.signal));
      t.after(async () => {
        stop.abort(new Error('the test is over'));
        await Promise.all(running);
        await feeds.close();
      });
      const offer = (snapshot: IdentitySnapshot): void => {
        const expiry = expiryOf(snapshot.svid.notAfterMs, instantOf(systemClock));
        for (const publisher of publishers) publisher.offer({ snapshot, expiry });
      };
      const areAt = (generation: number, but = bad): boolean =>
        publishers
          .filter(({ status }) => status.name !== but)
          .every(({ status }) => status.inPlace?.generation === generation);

      offer(snapshots[0]);
      // What happens between the two happens to a feed that has the first.
      await until('all have the first that can', () => areAt(1, happen === undefined ? bad : null));
      const workload = new WorkloadClient(site.socket);
      t.after(() => workload.close());
      const stream = workload.fetchX509Svid();
      await stream.next();
      await happen?.(site);
      offer(snapshots[1]);
      await until('all others have the second', () => areAt(2));
      await stream.next();
      assert.equal(publishers.length, flags === haproxyFlags ? 4 : 3);
      for (const { status } of publishers) {
        if (status.name !== bad) assert.equal(failureOfFeed(status), null, status.name);
      }
      const found = publishers.find(({ status }) => status.name === bad);
      if (found === undefined) return;
      await until(`${bad} says what is wrong`, () => failureOfFeed(found.status) !== null);
      assert.equal(failureOfFeed(found.status), code);
    });
  }
});
