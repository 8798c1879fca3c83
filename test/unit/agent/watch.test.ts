import assert from 'node:assert/strict';
import { status } from '@grpc/grpc-js';
import { afterEach, before, beforeEach, describe, it } from 'node:test';
import { CaClient } from '../../../agent/ca-client.ts';
import type { RenewalRequest } from '../../../agent/renewal.ts';
import { runWatch } from '../../../agent/watch.ts';
import { silentLog } from '../../../host/log.ts';
import { Wakeup } from '../../../host/wakeup.ts';
import { KedgeError } from '../../../pki/kedge-error.ts';
import type { Report, TrustBundle } from '../../../proto/gen/kedge/v1/identity.ts';
import { FakeCa, newAuthority, type TestAuthority } from '../../fakes/fake-ca.ts';
import { fixedRandom } from '../../fakes/fixed-random.ts';
import { ManualClock, settle } from '../../support/manual-clock.ts';
import { EXAMPLE_ORG } from '../../support/snapshots.ts';

const reportOf = (bundleSequence: bigint): Report => ({
  agentVersion: '0.0.0',
  bundleSequence,
  svid: undefined,
  feeds: [],
});

describe('watching the CA', () => {
  let authority: TestAuthority;
  let ca: FakeCa;
  let client: CaClient;
  let clock: ManualClock;
  let wakeup: Wakeup;
  let report: Report;
  let bundles: TrustBundle[];
  let requests: { request: RenewalRequest; caNowMs: number }[];
  let stop: AbortController;
  let running: Promise<void>;
  let readToken: () => Promise<string>;

  before(async () => {
    authority = await newAuthority();
  });
  beforeEach(async () => {
    ca = await FakeCa.start({ authority });
    // TLS knows only the real time, so the certificates are of now.
    clock = new ManualClock(Date.now());
    wakeup = new Wakeup();
    report = reportOf(1n);
    [bundles, requests] = [[], []];
    stop = new AbortController();
    readToken = () => Promise.resolve('the.token');
    client = new CaClient({
      address: ca.address,
      trustDomain: EXAMPLE_ORG,
      readBootstrap: () => Promise.resolve([authority.anchor.der]),
      clock,
    });
  });
  afterEach(async () => {
    stop.abort();
    await running;
    client.close();
    ca.close();
  });
  const start = (): void => {
    running = runWatch(
      {
        client,
        readToken: () => readToken(),
        report: () => report,
        wakeup,
        onBundle: (bundle) => bundles.push(bundle),
        onRenewalRequest: (request, caNowMs) => requests.push({ request, caNowMs }),
        clock,
        random: fixedRandom(0.5),
        log: silentLog,
      },
      stop.signal,
    );
  };
  const until = async (condition: () => boolean): Promise<void> => {
    while (!condition()) await settle();
  };
  const sequences = (): bigint[] => ca.reports.map(({ bundleSequence }) => bundleSequence);

  it('begins with a report, and hands on the bundle that comes at once', async () => {
    start();
    await until(() => ca.reports.length === 1 && bundles.length === 1);
    assert.deepEqual(sequences(), [1n]);
    assert.equal(bundles[0]?.sequence, 1n);
  });

  it('begins a new stream when what is held went back for good: evidence on one stream only grows', async () => {
    report = reportOf(3n);
    start();
    await until(() => ca.reports.length === 1 && bundles.length === 1);
    const [first] = ca.watches;
    report = reportOf(0n);
    wakeup.wake();
    await clock.advance(1_499);
    assert.deepEqual(sequences(), [3n]);
    // Meanwhile the stream brings what the CA has to say.
    ca.pushBundle();
    await until(() => bundles.length === 2);
    await clock.advance(1);
    await until(() => ca.reports.length === 2);
    assert.deepEqual(sequences(), [3n, 0n]);
    await until(() => ca.watches.size === 1);
    assert.ok(first !== undefined && !ca.watches.has(first));
  });

  it('keeps its stream while consumers come and answer, or leave, over and over', async () => {
    report = reportOf(3n);
    start();
    await until(() => ca.reports.length === 1);
    const streams = [...ca.watches];
    for (let round = 0; round < 30; round += 1) {
      report = reportOf(0n);
      wakeup.wake();
      await clock.advance(500);
      report = reportOf(3n);
      wakeup.wake();
      await clock.advance(500);
    }
    assert.deepEqual([...ca.watches], streams);
    assert.deepEqual(sequences(), [3n]);
  });

  it('reports each change, and nothing that is no change', async () => {
    start();
    await until(() => ca.reports.length === 1);
    wakeup.wake();
    await settle();
    report = reportOf(2n);
    wakeup.wake();
    await until(() => ca.reports.length === 2);
    assert.deepEqual(sequences(), [1n, 2n]);
  });

  it('reports a crowd of changes at a pace that the CA takes, the newest of them', async () => {
    const envoys = (count: number): Report => ({
      ...reportOf(1n),
      feeds: [
        {
          name: 'sds',
          evidence: 0,
          bundleSequence: 0n,
          svidSerialNumber: new Uint8Array(0),
          errorCode: '',
          consumers: [],
          consumerCount: count,
        },
      ],
    });
    start();
    await until(() => ca.reports.length === 1);
    for (let count = 1; count <= 64; count += 1) {
      report = envoys(count);
      wakeup.wake();
      await settle();
    }
    const counts = (): (number | undefined)[] => ca.reports.map(({ feeds }) => feeds[0]?.consumerCount);
    assert.deepEqual(counts(), [undefined, 1, 2, 3]);
    // A bundle does not wait behind them.
    report = { ...report, bundleSequence: 2n };
    wakeup.wake();
    await until(() => ca.reports.length === 5);
    assert.deepEqual(sequences(), [1n, 1n, 1n, 1n, 2n]);
    report = { ...report, feeds: envoys(65).feeds };
    wakeup.wake();
    await settle();
    assert.equal(ca.reports.length, 5);
    await clock.advance(10_000);
    await until(() => ca.reports.length === 6);
    assert.equal(counts().at(-1), 65);
  });

  it('hands on requests to renew, with the clock of the CA', async () => {
    start();
    await until(() => ca.watches.size === 1 && bundles.length === 1);
    ca.push({
      $case: 'renewal',
      value: { authorityKeyId: Uint8Array.of(1, 2), window: { notBeforeMs: 5n, notAfterMs: 6n } },
    });
    ca.push({ $case: 'renewal', value: { authorityKeyId: new Uint8Array(0), window: undefined } });
    await until(() => requests.length === 2);
    assert.deepEqual(requests[0]?.request, {
      authorityKeyId: Uint8Array.of(1, 2),
      window: { notBeforeMs: 5, notAfterMs: 6 },
    });
    assert.equal(requests[1]?.request.window, undefined);
    assert.ok(Math.abs((requests[0]?.caNowMs ?? 0) - Date.now()) < 60_000);
  });

  it('takes no notice of a message that says nothing', async () => {
    start();
    await until(() => bundles.length === 1);
    ca.push(undefined);
    ca.pushBundle();
    await until(() => bundles.length === 2);
    assert.equal(ca.watches.size, 1);
  });

  it('comes back with back-off when the CA ends the stream, and reports again', async () => {
    start();
    await until(() => ca.reports.length === 1);
    ca.endWatches();
    await until(() => clock.sleeping === 1 && ca.watches.size === 0);
    await clock.advance(249);
    assert.equal(ca.reports.length, 1);
    await clock.advance(1);
    await until(() => ca.reports.length === 2);
  });

  it('comes back after an error, too', async () => {
    start();
    await until(() => ca.reports.length === 1);
    ca.endWatches({ code: status.UNAVAILABLE, details: 'draining' });
    await until(() => clock.sleeping === 1 && ca.watches.size === 0);
    await clock.advance(500);
    await until(() => ca.reports.length === 2);
  });

  it('waits longer after each failure, up to its limit', async () => {
    readToken = () => Promise.reject(new KedgeError('token_missing', 'there is none'));
    start();
    const waits: number[] = [];
    const tries: number[] = [];
    readToken = () => {
      tries.push(clock.monotonic());
      return Promise.reject(new KedgeError('token_missing', 'there is none'));
    };
    for (let failure = 1; failure <= 8; failure += 1) {
      await until(() => clock.sleeping === 1);
      const [before, seen] = [clock.monotonic(), tries.length];
      while (tries.length === seen) await clock.advance(250);
      waits.push(clock.monotonic() - before);
    }
    assert.deepEqual(waits, [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
    readToken = () => Promise.resolve('the.token');
    await clock.advance(15_000);
    await until(() => ca.reports.length === 1);
  });

  it('moves to a connection that is checked with the newest bundle, within a spread', async () => {
    start();
    await until(() => bundles.length === 1);
    const other = await newAuthority();
    client.trust({
      trustDomain: EXAMPLE_ORG,
      sequence: 2n,
      refreshHintSeconds: 300,
      x509Authorities: [authority.anchor.der, other.anchor.der],
      crls: [],
    });
    wakeup.wake();
    await settle();
    assert.equal(ca.reports.length, 1);
    await clock.advance(5_000);
    await until(() => ca.reports.length === 2);
    await until(() => ca.watches.size === 1);
  });

  it('ends when it is told to, and ends its stream', async () => {
    start();
    await until(() => ca.watches.size === 1 && ca.reports.length === 1);
    stop.abort();
    await running;
    await until(() => ca.watches.size === 0);
  });
});
