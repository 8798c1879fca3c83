/** What connections and calls that stall can keep from others on the agent's socket: nothing. */
import assert from 'node:assert/strict';
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2 } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import { FIRST_MESSAGE_MS, MAX_OWING_CALLS } from '../../../../agent/feed/endpoint-calls.ts';
import { SDS_SERVICE, SdsFeed } from '../../../../agent/feed/sds-feed.ts';
import { DEFAULT_SDS_NAMES } from '../../../../agent/feed/sds-names.ts';
import { WorkloadApiFeed } from '../../../../agent/feed/workload-api-feed.ts';
import { WorkloadEndpoint } from '../../../../agent/feed/workload-endpoint.ts';
import type { IdentitySnapshot } from '../../../../agent/snapshot.ts';
import { silentLog } from '../../../../host/log.ts';
import { systemRandom } from '../../../../host/random.ts';
import { NO_REFUSALS } from '../../../support/endpoint-refusals.ts';
import { ManualClock, settle } from '../../../support/manual-clock.ts';
import { SdsClient } from '../../../support/sds-client.ts';
import { SnapshotFactory } from '../../../support/snapshots.ts';
import { suiteFolder } from '../../../support/suite-folder.ts';
import { WorkloadClient } from '../../../support/workload-client.ts';

const signal = new AbortController().signal;
const folder = suiteFolder();
const FETCH = '/SpiffeWorkloadAPI/FetchX509SVID';
const STREAM_SECRETS = `/${SDS_SERVICE}/StreamSecrets`;

describe('the sockets of the agent', () => {
  let snapshot: IdentitySnapshot;
  let clock: ManualClock;
  let endpoint: WorkloadEndpoint;
  let socketPath: string;
  let sockets = 0;
  const undo: (() => unknown)[] = [];
  const responses = new WeakSet<ClientHttp2Stream>();

  const open = async (maxStreams: number): Promise<void> => {
    sockets += 1;
    socketPath = join(folder, `${sockets}.sock`);
    const onConsumersChange = (): void => {};
    const own = new WorkloadEndpoint({
      socketPaths: [socketPath],
      socketMode: 0o600,
      maxStreams,
      clock,
      ...NO_REFUSALS,
    });
    endpoint = own;
    const feed = new WorkloadApiFeed({ endpoint, clock, onConsumersChange });
    const sds = new SdsFeed({
      endpoint,
      clock,
      onConsumersChange,
      onNack: () => {},
      random: systemRandom,
      log: silentLog,
      names: DEFAULT_SDS_NAMES,
      isValidatorDisabled: false,
    });
    await endpoint.listen();
    await Promise.all([feed.publish(snapshot, signal), sds.publish(snapshot, signal)]);
    undo.push(() => own.close());
  };
  const until = async (holds: () => boolean): Promise<void> => {
    while (!holds()) await settle();
  };
  const silent = async (): Promise<{ readonly socket: Socket; readonly isCut: () => boolean }> => {
    const socket = connect(socketPath);
    let isCut = false;
    socket.on('error', () => {});
    socket.once('close', () => (isCut = true));
    socket.resume();
    undo.push(() => socket.destroy());
    await new Promise((resolve) => socket.once('connect', resolve));
    await settle();
    return { socket, isCut: () => isCut };
  };
  const session = async (): Promise<ClientHttp2Session> => {
    const opened = connectHttp2('http://localhost', { createConnection: () => connect(socketPath) });
    opened.on('error', () => {});
    undo.push(() => opened.destroy());
    await new Promise((resolve) => opened.once('localSettings', resolve));
    return opened;
  };
  const call = (
    on: ClientHttp2Session,
    path: string,
    more: Record<string, string> = {},
  ): ClientHttp2Stream => {
    const stream = on.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
      'workload.spiffe.io': 'true',
      ...more,
    });
    stream.on('error', () => {});
    stream.once('response', () => responses.add(stream));
    return stream;
  };
  /** Headers, and a message of 100 bytes of which one is missing. */
  const halfCall = async (
    on: ClientHttp2Session,
    path: string,
    more: Record<string, string> = {},
  ): Promise<ClientHttp2Stream> => {
    const stream = call(on, path, more);
    const message = Buffer.alloc(5 + 99);
    message.writeUInt32BE(100, 1);
    stream.write(message);
    // The server has seen it once it has acknowledged this.
    await new Promise((resolve) => on.ping(() => resolve(null)));
    await settle();
    return stream;
  };
  /** Resolves once the call has its status. */
  const answered = async (stream: ClientHttp2Stream): Promise<void> => {
    await until(() => responses.has(stream));
  };
  const assertServes = async (): Promise<void> => {
    const client = new WorkloadClient(socketPath);
    const stream = client.fetchX509Svid();
    assert.equal((await stream.next()).svids.length, 1);
    stream.cancel();
    client.close();
  };

  before(async () => {
    snapshot = await (await SnapshotFactory.make(Date.now())).snapshot(1);
  });
  beforeEach(() => {
    clock = new ManualClock();
  });
  after(async () => {
    for (const one of undo.toReversed()) await one();
  });

  it('give up the connection that has been silent for longest when there is one too many', async () => {
    await open(3);
    const all = [await silent(), await silent(), await silent()];
    await assertServes();
    await until(() => all[0]?.isCut() === true);
    assert.deepEqual(
      all.map(({ isCut }) => isCut()),
      [true, false, false],
    );
  });

  it('count a connection as silent again once its call is over', async () => {
    await open(2);
    const first = await session();
    const stream = call(first, FETCH);
    stream.end(Buffer.alloc(5));
    await until(() => endpoint.streams === 1);
    const second = await silent();
    await assertServes();
    await until(second.isCut);
    assert.equal(first.destroyed, false);
    stream.close();
    await until(() => endpoint.streams === 0);
    // The one with the call that is over, and this.
    await silent();
    await assertServes();
    await until(() => first.destroyed);
  });

  it('drop a connection that comes while each of the others has a call', async () => {
    await open(2);
    for (const on of [await session(), await session()]) call(on, FETCH).end(Buffer.alloc(5));
    await until(() => endpoint.streams === 2);
    const extra = await silent();
    await until(extra.isCut);
    assert.equal(endpoint.streams, 2);
  });

  for (const path of [FETCH, STREAM_SECRETS]) {
    it(`cut the connection of a ${path} whose message is not whole in ${FIRST_MESSAGE_MS} ms`, async () => {
      await open(8);
      const on = await session();
      await halfCall(on, path);
      await clock.advance(FIRST_MESSAGE_MS - 1);
      assert.equal(on.destroyed, false);
      await clock.advance(1);
      await until(() => on.destroyed);
      await assertServes();
    });
  }

  for (const path of [FETCH, STREAM_SECRETS]) {
    it(`hold a half-sent ${path} against its client also after its deadline: what has come is still there`, async () => {
      await open(8);
      const on = await session();
      await answered(await halfCall(on, path, { 'grpc-timeout': '1m' }));
      await clock.advance(2 * FIRST_MESSAGE_MS);
      await until(() => on.destroyed);
      await assertServes();
    });
  }

  it('leave a connection alone whose calls were ended by the client', async () => {
    await open(8);
    const on = await session();
    (await halfCall(on, FETCH)).close();
    const late = await halfCall(on, STREAM_SECRETS, { 'grpc-timeout': '1m' });
    await answered(late);
    late.close();
    await until(() => late.destroyed);
    await new Promise((resolve) => on.ping(() => resolve(null)));
    await clock.advance(2 * FIRST_MESSAGE_MS);
    assert.equal(on.destroyed, false);
  });

  it('cut the connection of a call of one message that the client does not end', async () => {
    await open(8);
    const on = await session();
    call(on, FETCH).write(Buffer.alloc(5));
    await new Promise((resolve) => on.ping(() => resolve(null)));
    await settle();
    await clock.advance(FIRST_MESSAGE_MS);
    await until(() => on.destroyed);
  });

  it('leave a discovery stream alone that has sent its first request', async () => {
    await open(8);
    const client = new SdsClient(socketPath);
    const stream = client.stream();
    stream.request(['default']);
    const response = await stream.next();
    stream.ack(response, ['default']);
    await until(() => endpoint.streams === 1);
    await clock.advance(2 * FIRST_MESSAGE_MS);
    assert.equal(endpoint.streams, 1);
    client.close();
  });

  it(`hold ${MAX_OWING_CALLS} calls without their message, and cut the oldest when there is one more`, async () => {
    await open(8);
    const [first, second, third] = [await session(), await session(), await session()];
    // A connection may have 24 calls here.
    for (const [on, count] of [
      [first, 24],
      [second, 24],
      [third, MAX_OWING_CALLS - 48],
    ] as const) {
      for (let n = 0; n < count; n += 1) await halfCall(on, FETCH);
    }
    assert.equal(first.destroyed, false);
    await halfCall(third, FETCH);
    await until(() => first.destroyed);
    assert.equal(second.destroyed || third.destroyed, false);
    await assertServes();
  });

  for (const { path, message } of [
    { path: FETCH, message: 'the SVID' },
    { path: STREAM_SECRETS, message: 'its secrets' },
  ]) {
    it(`cut the connection of a ${path} that does not take ${message} in 2 s, without any rotation`, async () => {
      await open(8);
      const on = connectHttp2('http://localhost', {
        createConnection: () => connect(socketPath),
        settings: { initialWindowSize: 0 },
      });
      on.on('error', () => {});
      await new Promise((resolve) => on.once('localSettings', resolve));
      const stream = call(on, path);
      if (path === FETCH) stream.end(Buffer.alloc(5));
      else stream.write(Buffer.alloc(5));
      await until(() => clock.sleeping > 0 && endpoint.streams === 1);
      await settle();
      await clock.advance(1_999);
      assert.equal(endpoint.streams, 1);
      await clock.advance(1);
      await until(() => endpoint.streams === 0);
      await until(() => on.destroyed);
    });
  }
});
