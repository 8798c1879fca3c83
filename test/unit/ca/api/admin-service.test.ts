import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Metadata } from '@grpc/grpc-js';
import { getStatus, type StatusSources } from '../../../../ca/api/admin-service.ts';
import { listInstances } from '../../../../ca/api/instance-status.ts';
import { NO_ROTATION, type TrustState } from '../../../../ca/authority/trust-state.ts';
import type { FleetInstance } from '../../../../ca/fleet/instance.ts';
import { laggingReason } from '../../../../cli/status-report.ts';
import { LIMITS } from '../../../../pki/limits.ts';
import { GetStatusResponse } from '../../../../proto/gen/kedge/v1/admin.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const clock = new ManualClock(1_000);
const key = {
  id: 'k',
  manager: 'store',
  algorithm: 'ec-p256',
  spki: new Uint8Array(1),
  reference: new Uint8Array(1),
} as const;
const authority = {
  phaseSinceMs: 0,
  taintedAtMs: null,
  certificate: new Uint8Array(1),
  notBeforeMs: 1,
  notAfterMs: 9_000,
};
const state: TrustState = {
  trustDomain: 'example.org',
  sequence: 4,
  anchors: [
    { ...authority, id: 'a1', phase: 'active', upstream: 'self', sinceSequence: 1, key },
    { ...authority, id: 'a2', phase: 'prepared', upstream: 'self', sinceSequence: 4, key: null },
  ],
  issuers: [
    { ...authority, id: 'cc', phase: 'active', anchorId: 'a1', intermediates: [], key },
    { ...authority, id: 'dd', phase: 'retired', taintedAtMs: 5, anchorId: 'a1', intermediates: [], key },
  ],
  discardedKeys: [],
  ...NO_ROTATION,
};

const instance = (id: string, change: Partial<FleetInstance> = {}): FleetInstance => ({
  id,
  cluster: 'c1',
  spiffeId: 'spiffe://example.org/ns/shop/sa/cart',
  namespace: 'shop',
  podName: `pod-${id}`,
  issued: { serialNumber: '01', authorityKeyId: 'cc', notAfterMs: 5_000 },
  report: null,
  connected: true,
  lastSeenMs: 900,
  pod: 'unknown',
  unheardUntilMs: 0,
  ...change,
});
const report = (bundleSequence: number, authorityKeyId: string): FleetInstance['report'] => ({
  agentVersion: '0.1.0',
  bundleSequence,
  svid: { serialNumber: '7f01', authorityKeyId, notAfterMs: 5_000 },
  clockSkewMs: -3,
  feeds: [
    {
      name: 'files',
      evidence: 2,
      bundleSequence,
      svidSerialNumber: '7f01',
      errorCode: 'hook_failed',
      consumers: [
        {
          name: 'reload',
          best: 2,
          delivered: { bundleSequence, svidSerialNumber: '7f01' },
          loaded: null,
          proven: null,
          errorCode: 'hook_failed',
        },
      ],
      consumerCount: 1,
    },
  ],
});

async function encodedStatusOf(instances: readonly FleetInstance[], complete = true): Promise<Uint8Array> {
  const sources: StatusSources = {
    trustState: () => state,
    instances: () => instances,
    policy: () => ({ file: 'p.yaml', loadedAtMs: 7n, error: 'bad' }),
    audit: () => ({ records: 3n, head: 'ab' }),
    store: () => ({ kind: 'kubernetes', bytes: 10n, limitBytes: 20n }),
    fleetComplete: () => complete,
    lifecycle: () => 'issuer cc is replaced',
    clock,
    startedAtMs: 500,
  };
  const call = {
    metadata: new Metadata(),
    peer: 'unix',
    peerAddress: 'unix',
    signal: new AbortController().signal,
  };
  return await getStatus(sources)(Buffer.alloc(0), call);
}

async function statusOf(instances: readonly FleetInstance[], complete = true): Promise<GetStatusResponse> {
  return GetStatusResponse.decode(await encodedStatusOf(instances, complete));
}

describe('the status', () => {
  it('does not list an instance whose pod is gone, though its stream is still open', async () => {
    const { instances } = await statusOf([instance('u1', { pod: 'gone' }), instance('u2')]);
    assert.deepEqual(
      instances.map(({ id }) => id),
      ['u2'],
    );
  });

  it('tells how full the trust store is, and what is known of the fleet', async () => {
    const silent = instance('u1', { issued: null, connected: false, lastSeenMs: 0, unheardUntilMs: 5_000 });
    const { store, fleet, instances } = await statusOf([silent, instance('u2')], false);
    assert.deepEqual(store, { kind: 'kubernetes', bytes: 10n, limitBytes: 20n });
    assert.deepEqual(fleet, { complete: false, unheard: 1, instances: 2, behind: 2 });
    assert.deepEqual(instances.map(({ id }) => id).toSorted(), ['u1', 'u2']);
  });

  it('tells who holds each anchor and each issuer', async () => {
    const status = await statusOf([
      instance('u1', { report: report(4, 'cc') }),
      instance('u2', { report: report(3, 'dd') }),
      instance('u3'),
    ]);
    assert.deepEqual(
      status.anchors.map(({ id, phase, upstream, instances }) => [id, phase, upstream, instances]),
      [
        ['a1', 'active', 'self', 2],
        ['a2', 'prepared', 'self', 1],
      ],
    );
    assert.deepEqual(
      status.issuers.map(({ id, anchorId, tainted, instances }) => [id, anchorId, tainted, instances]),
      [
        ['cc', 'a1', false, 1],
        ['dd', 'a1', true, 1],
      ],
    );
  });

  it('gives back what an agent reported', async () => {
    const { instances } = await statusOf([instance('u1', { report: report(4, 'cc') })]);
    const [first] = instances;
    assert.equal(Buffer.from(first?.report?.svid?.serialNumber ?? []).toString('hex'), '7f01');
    assert.deepEqual(
      [first?.report?.bundleSequence, first?.report?.clockSkewMs, first?.report?.feeds[0]?.errorCode],
      [4n, -3n, 'hook_failed'],
    );
  });

  const following = (id: string): FleetInstance => {
    const whole = report(4, 'cc');
    return instance(id, {
      report: whole && { ...whole, feeds: whole.feeds.map((feed) => ({ ...feed, errorCode: '' })) },
    });
  };

  it('lists those who are behind first, and says how many there are', async () => {
    const away = { ...following('away'), connected: false };
    const behind = [
      instance('old', { report: report(3, 'cc') }),
      away,
      instance('silent'),
      instance('retired', { report: report(4, 'dd') }),
      instance('fails', { report: report(4, 'cc') }),
    ];
    const status = await statusOf([following('f'), ...behind]);
    const { instances, fleet } = status;
    assert.deepEqual(
      instances.map(({ id }) => id),
      ['old', 'away', 'silent', 'retired', 'fails', 'f'],
    );
    assert.deepEqual([fleet?.instances, fleet?.behind], [6, 5]);
    // The CLI finds the reason of each by itself.
    assert.equal(instances.filter((one) => laggingReason(one, status) !== undefined).length, 5);
    // What each consumer has is of interest where something is wrong.
    assert.equal(instances[0]?.report?.feeds[0]?.consumers.length, 1);
    assert.equal(instances[5]?.report?.feeds[0]?.consumers.length, 0);
    assert.equal(instances[5]?.report?.feeds[0]?.consumerCount, 1);
  });

  it('lists as many as fit, the followers left out first', async () => {
    const all = [following('f1'), instance('old', { report: report(3, 'cc') }), following('f2')];
    const whole = await listInstances(all, state, clock.now());
    const bytes = whole.fields.map(({ length }) => length);
    const [first = 0, second = 0] = bytes;
    for (const [maxBytes, count] of [
      [first - 1, 0],
      [first, 1],
      [first + second, 2],
    ] as const) {
      const listed = await listInstances(all, state, clock.now(), maxBytes);
      assert.deepEqual([listed.fields.length, listed.count, listed.behind], [count, 3, 1]);
    }
  });

  it('fits into one message, however many instances there are and whatever they say', async () => {
    const consumers = (name: string, count: number) =>
      Array.from({ length: count }, (_, i) => ({
        name: name.padEnd(62, 'x') + i,
        best: 2 as const,
        delivered: { bundleSequence: 3, svidSerialNumber: 'ab'.repeat(20) },
        loaded: { bundleSequence: 3, svidSerialNumber: 'ab'.repeat(20) },
        proven: null,
        errorCode: 'report_rate_exceeded',
      }));
    const base = report(3, 'cc');
    const talk = base && {
      ...base,
      feeds: Array.from({ length: LIMITS.reportFeeds }, (_, i) => ({
        name: `feed-${i}`.padEnd(64, 'x'),
        evidence: 2 as const,
        bundleSequence: 3,
        svidSerialNumber: 'ab'.repeat(20),
        errorCode: 'report_rate_exceeded',
        consumers: consumers('envoy', LIMITS.reportConsumers),
        consumerCount: LIMITS.reportConsumers,
      })),
    };
    const follower = following('f');
    const all = Array.from({ length: 2_600 }, (_, i) =>
      i >= 100 ? instance(`t${i}`, { report: talk }) : { ...follower, id: `f${i}` },
    );
    const answer = await encodedStatusOf(all);
    assert.ok(answer.length < LIMITS.caMessageBytes, `${answer.length} bytes`);
    const { instances, fleet } = GetStatusResponse.decode(answer);
    assert.deepEqual([fleet?.instances, fleet?.behind], [2_600, 2_500]);
    assert.ok(instances.length > 1_000 && instances.length < 2_500, `${instances.length} instances`);
    const [first] = instances;
    const listed = first?.report?.feeds.flatMap((feed) => feed.consumers) ?? [];
    assert.equal(listed.length, 8);
  });

  it('leaves out who holds nothing any more and is not connected', async () => {
    const gone = { issued: null, report: null, connected: false } as const;
    const { instances } = await statusOf([
      instance('gone', gone),
      instance('new', { ...gone, connected: true }),
    ]);
    assert.deepEqual(
      instances.map(({ id }) => id),
      ['new'],
    );
  });

  it('tells about the process, the policy, the audit log and the lifecycle', async () => {
    const { version, trustDomain, bundleSequence, serverTimeMs, startedAtMs, policy, audit, lifecycle } =
      await statusOf([]);
    assert.match(version, /^\d+\.\d+\.\d+$/);
    assert.deepEqual(
      { trustDomain, bundleSequence, serverTimeMs, startedAtMs, policy, audit, lifecycle },
      {
        trustDomain: 'example.org',
        bundleSequence: 4n,
        serverTimeMs: 1_000n,
        startedAtMs: 500n,
        policy: { file: 'p.yaml', loadedAtMs: 7n, error: 'bad' },
        audit: { records: 3n, head: 'ab' },
        lifecycle: 'issuer cc is replaced',
      },
    );
  });
});
