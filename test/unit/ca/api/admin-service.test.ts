import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Metadata } from '@grpc/grpc-js';
import { getStatus, STATUS_INSTANCES, type StatusSources } from '../../../../ca/api/admin-service.ts';
import type { TrustState } from '../../../../ca/authority/trust-state.ts';
import type { FleetInstance } from '../../../../ca/fleet/instance.ts';
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

async function statusOf(instances: readonly FleetInstance[], complete = true): Promise<GetStatusResponse> {
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
  const call = { metadata: new Metadata(), peerAddress: 'unix', signal: new AbortController().signal };
  return GetStatusResponse.decode(await getStatus(sources)(Buffer.alloc(0), call));
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
    assert.deepEqual(fleet, { complete: false, unheard: 1 });
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

  it('lists those who lag first, and at most so many', async () => {
    const followers = Array.from({ length: STATUS_INSTANCES }, (_, i) =>
      instance(`f${i}`, { report: report(4, 'cc') }),
    );
    const behind = [
      instance('old', { report: report(3, 'cc') }),
      instance('away', { connected: false, report: report(4, 'cc') }),
      instance('silent'),
    ];
    const { instances } = await statusOf([...followers, ...behind]);
    assert.equal(instances.length, STATUS_INSTANCES);
    assert.deepEqual(
      instances.slice(0, 4).map(({ id }) => id),
      ['old', 'away', 'silent', 'f0'],
    );
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
