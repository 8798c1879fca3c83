import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import type { FeedStatus } from '../../../agent/publisher.ts';
import { buildReport } from '../../../agent/report.ts';
import type { IdentitySnapshot } from '../../../agent/snapshot.ts';
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
    evidence: inPlace === null ? null : 'delivered',
    errorCode: null,
    ...rest,
  });
  const report = (feeds: readonly FeedStatus[], clockSkewMs: number | null = null) =>
    buildReport({ agentVersion: '1.2.3', feeds, clockSkewMs });

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

  it('says of each feed what it has, how surely, and what failed', () => {
    const { feeds } = report([
      feed(older, { name: 'files', evidence: 'loaded', errorCode: 'hook_failed' }),
      feed(null),
    ]);
    assert.deepEqual(feeds, [
      {
        name: 'files',
        evidence: Evidence.EVIDENCE_LOADED,
        bundleSequence: 1n,
        svidSerialNumber: older.svid.serialNumber,
        errorCode: 'hook_failed',
      },
      {
        name: 'workload-api',
        evidence: Evidence.EVIDENCE_UNSPECIFIED,
        bundleSequence: 0n,
        svidSerialNumber: new Uint8Array(0),
        errorCode: '',
      },
    ]);
  });

  it('says the skew of the clock in whole milliseconds, where it was measured', () => {
    assert.equal(report([], -12.6).clockSkewMs, -13n);
    assert.ok(!('clockSkewMs' in report([])));
  });
});
