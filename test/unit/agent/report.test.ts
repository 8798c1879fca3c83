import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { type FeedStatus, namedConsumers, worstFirst } from '../../../agent/evidence.ts';
import { type ConsumerStatus, MAX_CONSUMERS } from '../../../agent/feed/feed.ts';
import { judgeCanary } from '../../../agent/canary.ts';
import { buildReport } from '../../../agent/report.ts';
import { readReport } from '../../../ca/fleet/reported-state.ts';
import { heldSnapshot, type IdentitySnapshot } from '../../../agent/snapshot.ts';
import { Evidence } from '../../../proto/gen/kedge/v1/identity.ts';
import { SnapshotFactory } from '../../support/snapshots.ts';

describe('the report of an agent', () => {
  let older: IdentitySnapshot;
  let newer: IdentitySnapshot;
  before(async () => {
    const factory = await SnapshotFactory.make(Date.UTC(2026, 0, 1));
    [older, newer] = [await factory.snapshot(1), await factory.snapshot(2)];
  });
  const feed = (inPlace: IdentitySnapshot | null, rest: Partial<FeedStatus> = {}): FeedStatus => ({
    name: 'workload-api',
    inPlace,
    consumers: [],
    errorCode: null,
    ...rest,
  });
  const report = (feeds: readonly FeedStatus[], clockSkewMs: number | null = null) =>
    buildReport({ agentVersion: '1.2.3', feeds, clockSkewMs, canaryResult: null });

  it('says nothing is held where no feed has anything', () => {
    const { agentVersion, bundleSequence, svid } = report([feed(null)]);
    assert.deepEqual(
      { agentVersion, bundleSequence, svid },
      { agentVersion: '1.2.3', bundleSequence: 0n, svid: undefined },
    );
  });

  it('says what the one feed has', () => {
    const { bundleSequence, svid } = report([feed(newer)]);
    assert.equal(bundleSequence, 2n);
    assert.deepEqual(svid, {
      serialNumber: newer.svid.serialNumber,
      authorityKeyId: newer.svid.authorityKeyId,
      notAfterMs: BigInt(newer.svid.notAfterMs),
    });
  });

  it('says the oldest that any feed has: that is all that is proven', () => {
    const { bundleSequence, svid } = report([feed(newer), feed(older, { name: 'files' })]);
    assert.equal(bundleSequence, 1n);
    assert.deepEqual(svid?.serialNumber, older.svid.serialNumber);
  });

  it('says nothing is held while one feed has nothing', () => {
    assert.equal(report([feed(newer), feed(null, { name: 'files' })]).svid, undefined);
  });

  const consumer = (change: Partial<ConsumerStatus>): ConsumerStatus => ({
    name: 'envoy-1',
    best: 'loaded',
    delivered: heldSnapshot(newer),
    loaded: heldSnapshot(newer),
    errorCode: null,
    ...change,
  });

  it('says the oldest that any consumer has acknowledged, at the best grade that it can give', () => {
    const rows: readonly (readonly [change: Partial<ConsumerStatus>, sequence: bigint])[] = [
      [{}, 2n],
      [{ loaded: heldSnapshot(older) }, 1n],
      [{ loaded: heldSnapshot(older), best: 'delivered' }, 2n],
      [{ delivered: heldSnapshot(older), loaded: null, best: 'delivered' }, 1n],
      // It has answered for nothing, and may go on with what it had before we knew it: come just now or long ago,
      // whatever was written to it, and whether it refused that or not.
      [{ delivered: null, loaded: null }, 0n],
      [{ loaded: null }, 0n],
      [{ delivered: heldSnapshot(older), loaded: null }, 0n],
      [{ loaded: null, errorCode: 'feed_failed' }, 0n],
      // The same of one that cannot answer, until something was written to it.
      [{ best: 'delivered', delivered: null, loaded: null }, 0n],
      [{ loaded: heldSnapshot(older), errorCode: 'feed_failed' }, 1n],
    ];
    for (const [change, sequence] of rows) {
      const { bundleSequence } = report([feed(newer, { consumers: [consumer(change)] })]);
      assert.equal(bundleSequence, sequence, JSON.stringify(Object.keys(change)));
    }
  });

  it('says nothing is held until every consumer that can has acknowledged: one that came again counts anew', () => {
    const loaded = consumer({});
    const again = consumer({ name: 'envoy-1#2', loaded: null });
    const [refused, gone] = [report([feed(newer, { consumers: [loaded, again] })]), report([feed(newer)])];
    assert.deepEqual([refused.bundleSequence, refused.svid], [0n, undefined]);
    assert.equal(refused.feeds[0]?.evidence, Evidence.EVIDENCE_UNSPECIFIED);
    assert.deepEqual(
      refused.feeds[0]?.consumers.map(({ name }) => name),
      ['envoy-1#2', 'envoy-1'],
    );
    assert.equal(gone.bundleSequence, 2n);
  });

  it('names refusals first, then consumers of whom nothing is proven, then the oldest', () => {
    const consumers = [
      consumer({ name: 'newest' }),
      consumer({ name: 'older', loaded: heldSnapshot(older) }),
      consumer({ name: 'silent', loaded: null }),
      consumer({ name: 'refuses', errorCode: 'feed_failed' }),
    ];
    assert.deepEqual(
      worstFirst(consumers).map(({ name }) => name),
      ['refuses', 'silent', 'older', 'newest'],
    );
  });

  it('counts one consumer that is behind, however many came before it that are not', () => {
    const many = Array.from({ length: MAX_CONSUMERS + 1 }, (_, i) => consumer({ name: `envoy-${i}` }));
    const late = consumer({ name: 'late', loaded: null });
    const named = namedConsumers([...many, late]);
    assert.equal(named.length, MAX_CONSUMERS);
    assert.equal(named[0], late);
    assert.equal(report([feed(newer, { consumers: named })]).bundleSequence, 0n);
    assert.deepEqual(namedConsumers(many.slice(0, 3)), many.slice(0, 3));
  });

  it('says of each feed what all its consumers have, at which grade, and what failed', () => {
    const { feeds } = report([
      feed(newer, {
        name: 'sds',
        consumers: [
          consumer({}),
          consumer({ name: 'envoy-2', loaded: heldSnapshot(older), errorCode: 'feed_failed' }),
        ],
      }),
      feed(null, { errorCode: 'file_unwritable' }),
    ]);
    const held = (sequence: bigint, { svid }: IdentitySnapshot) => ({
      bundleSequence: sequence,
      svidSerialNumber: svid.serialNumber,
    });
    const common = { best: Evidence.EVIDENCE_LOADED, proven: undefined };
    assert.deepEqual(feeds, [
      {
        name: 'sds',
        evidence: Evidence.EVIDENCE_LOADED,
        ...held(1n, older),
        errorCode: 'feed_failed',
        consumers: [
          {
            ...common,
            name: 'envoy-2',
            delivered: held(2n, newer),
            loaded: held(1n, older),
            errorCode: 'feed_failed',
          },
          { ...common, name: 'envoy-1', delivered: held(2n, newer), loaded: held(2n, newer), errorCode: '' },
        ],
        consumerCount: 2,
      },
      {
        name: 'workload-api',
        evidence: Evidence.EVIDENCE_UNSPECIFIED,
        bundleSequence: 0n,
        svidSerialNumber: new Uint8Array(0),
        errorCode: 'file_unwritable',
        consumers: [],
        consumerCount: 0,
      },
    ]);
  });

  it('names the weakest grade among the consumers, and at most eight of them', () => {
    const many = Array.from({ length: 20 }, (_, index) => consumer({ name: `envoy-${index}` }));
    const [mixed] = report([
      feed(newer, { consumers: [consumer({}), consumer({ best: 'delivered' })] }),
    ]).feeds;
    const [full] = report([feed(newer, { consumers: many })]).feeds;
    assert.equal(mixed?.evidence, Evidence.EVIDENCE_DELIVERED);
    assert.deepEqual([full?.consumers.length, full?.consumerCount], [8, 20]);
  });

  it('says the skew of the clock in whole milliseconds, where it was measured', () => {
    assert.equal(report([], -12.6).clockSkewMs, -13n);
    assert.ok(!('clockSkewMs' in report([])));
  });

  it('tells what the canary saw as a feed of its own, which counts for nothing in what the agent holds', () => {
    const observation = {
      asked: true,
      authorities: null,
      answer: 'http_served',
      detail: 'HTTP 200',
    } as const;
    const seen = (presented: readonly Uint8Array[]) =>
      buildReport({
        agentVersion: '1.2.3',
        feeds: [feed(newer)],
        clockSkewMs: null,
        canaryResult: judgeCanary({ ...observation, presented }, newer, Date.UTC(2026, 0, 1)),
      });
    const proven = seen(newer.svid.chain);
    assert.equal(proven.bundleSequence, 2n);
    assert.deepEqual(proven.feeds[1], {
      name: 'canary',
      evidence: Evidence.EVIDENCE_PROVEN,
      bundleSequence: 0n,
      svidSerialNumber: newer.svid.serialNumber,
      errorCode: '',
      consumers: [
        {
          name: 'proxy',
          best: Evidence.EVIDENCE_PROVEN,
          delivered: undefined,
          loaded: undefined,
          proven: { bundleSequence: 0n, svidSerialNumber: newer.svid.serialNumber },
          errorCode: '',
        },
      ],
      consumerCount: 1,
    });
    const behind = seen(older.svid.chain);
    assert.equal(behind.bundleSequence, 2n);
    assert.equal(behind.feeds[1]?.errorCode, 'canary_outdated');
    assert.equal(behind.feeds[1]?.consumers[0]?.proven, undefined);
    assert.deepEqual(readReport(proven).feeds[1]?.consumers[0]?.proven?.bundleSequence, 0);
    assert.equal(readReport(behind).feeds[1]?.errorCode, 'canary_outdated', 'the CA takes it');
  });
});
