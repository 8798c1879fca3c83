import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { laggingReason, statusReport } from '../../../cli/status-report.ts';
import type { GetStatusResponse, InstanceStatus } from '../../../proto/gen/kedge/v1/admin.ts';

const NOW_MS = Date.UTC(2026, 0, 31, 3, 0, 0);
const ISSUER = 'aa'.repeat(20);
const RETIRED = 'bb'.repeat(20);
const TAINTED = 'cc'.repeat(20);

const authority = {
  tainted: false,
  notBeforeMs: BigInt(NOW_MS - 86_400_000),
  notAfterMs: BigInt(NOW_MS + 86_400_000),
  anchorId: 'dd'.repeat(20),
  upstream: 'self',
  instances: 1,
};

const following: InstanceStatus = {
  id: 'uid-1',
  spiffeId: 'spiffe://example.org/ns/demo/sa/web',
  namespace: 'demo',
  podName: 'web-1',
  connected: true,
  lastSeenMs: BigInt(NOW_MS),
  report: {
    agentVersion: '0.1.0',
    bundleSequence: 7n,
    svid: {
      serialNumber: Uint8Array.of(1),
      authorityKeyId: Buffer.from(ISSUER, 'hex'),
      notAfterMs: BigInt(NOW_MS + 3_600_000),
    },
    clockSkewMs: undefined,
    feeds: [],
  },
};

const status: GetStatusResponse = {
  version: '0.1.0',
  trustDomain: 'example.org',
  bundleSequence: 7n,
  serverTimeMs: BigInt(NOW_MS),
  startedAtMs: BigInt(NOW_MS - 1000),
  anchors: [{ ...authority, id: 'dd'.repeat(20), phase: 'active' }],
  issuers: [
    { ...authority, id: ISSUER, phase: 'active' },
    { ...authority, id: RETIRED, phase: 'retired' },
    { ...authority, id: TAINTED, phase: 'active', tainted: true },
  ],
  instances: [following],
  policy: { file: '/etc/kedge/policy.yaml', loadedAtMs: BigInt(NOW_MS), error: '' },
  audit: { records: 12n, head: 'ee'.repeat(32) },
  store: { kind: 'kubernetes', bytes: 12_345n, limitBytes: 921_600n },
  fleet: { complete: true, unheard: 0, instances: 1, behind: 0 },
  lifecycle: 'next issuer at 2026-02-01T03:00:00Z',
};

const report = following.report!;
const svid = report.svid!;
const with_ = (change: Partial<typeof report>): InstanceStatus => ({
  ...following,
  report: { ...report, ...change },
});
const under = (key: string) => with_({ svid: { ...svid, authorityKeyId: Buffer.from(key, 'hex') } });

describe('laggingReason', () => {
  const rows: { name: string; instance: InstanceStatus; want: RegExp | undefined }[] = [
    { name: 'nothing for one that follows', instance: following, want: undefined },
    {
      name: 'a bundle that is ahead as following: it was pushed just now',
      instance: with_({ bundleSequence: 8n }),
      want: undefined,
    },
    {
      name: 'a report that is missing',
      instance: { ...following, report: undefined },
      want: /has not reported/,
    },
    { name: 'an old bundle', instance: with_({ bundleSequence: 6n }), want: /holds bundle 6 of 7/ },
    { name: 'a missing SVID', instance: with_({ svid: undefined }), want: /has no SVID/ },
    {
      name: 'an expired SVID',
      instance: with_({ svid: { ...svid, notAfterMs: BigInt(NOW_MS) } }),
      want: /has expired/,
    },
    { name: 'an SVID of a retired issuer', instance: under(RETIRED), want: /retired issuer bbbbbbbbbbbb$/ },
    { name: 'an SVID of a tainted issuer', instance: under(TAINTED), want: /tainted issuer cccccccccccc$/ },
    {
      name: 'an SVID of an issuer that is gone',
      instance: under('ff'.repeat(20)),
      want: /unknown issuer ffffffffffff$/,
    },
    {
      name: 'a feed that fails',
      instance: with_({
        feeds: [
          {
            name: 'files',
            evidence: 0,
            bundleSequence: 6n,
            svidSerialNumber: Uint8Array.of(),
            errorCode: 'hook_failed',
            consumers: [],
            consumerCount: 0,
          },
        ],
      }),
      want: /feed files fails: hook_failed/,
    },
    {
      name: 'consumers that refuse',
      instance: with_({
        feeds: [
          {
            name: 'sds',
            evidence: 2,
            bundleSequence: 6n,
            svidSerialNumber: Uint8Array.of(),
            errorCode: 'feed_failed',
            consumers: ['envoy-1', 'envoy-2\n'].map((name) => ({
              name,
              best: 2,
              delivered: undefined,
              loaded: undefined,
              proven: undefined,
              errorCode: 'feed_failed',
            })),
            consumerCount: 2,
          },
        ],
      }),
      want: /its sds consumer envoy-1 and 1 more: feed_failed$/,
    },
    {
      name: 'a connection that is gone',
      instance: { ...following, connected: false },
      want: /not connected/,
    },
  ];
  for (const { name, instance, want } of rows) {
    it(`names ${name}`, () => {
      const reason = laggingReason(instance, status);
      if (want === undefined) assert.equal(reason, undefined);
      else assert.match(reason ?? '', want);
    });
  }
});

describe('statusReport', () => {
  it('shows what an on-call engineer asks for', () => {
    const text = statusReport(status);
    for (const line of [
      /^trust domain {2}example\.org$/m,
      /^bundle {8}sequence 7$/m,
      /^instances {5}1 live, 0 behind$/m,
      /^ {2}aaaaaaaaaaaa {2}active {11}2026-02-01T03:00:00Z \(in 1d\) {2}1 instances/m,
      /web-1 .* follows$/m,
      /12 lines, head 0000000000000012:eeee/,
      /next issuer at 2026-02-01/,
    ]) {
      assert.match(text, line);
    }
  });

  it('puts what is wrong first: before any table', () => {
    const text = statusReport({
      ...status,
      issuers: [{ ...authority, id: TAINTED, phase: 'active', tainted: true }],
      policy: { file: '/p', loadedAtMs: 0n, error: 'line 3: unknown key' },
    });
    const [head = ''] = text.split('Trust anchors');
    assert.match(head, /^! no active issuer: nothing can be issued$/m);
    assert.match(head, /^! authority cccccccccccc is tainted/m);
    assert.match(head, /^! the newest policy edit was not taken: line 3: unknown key$/m);
  });

  it('puts those that lag before those that follow', () => {
    const late = { ...with_({ bundleSequence: 6n }), id: 'uid-2', podName: 'late-1' };
    const fleet = { complete: true, unheard: 0, instances: 2, behind: 1 };
    const text = statusReport({ ...status, fleet, instances: [following, late] });
    assert.match(text, /^instances {5}2 live, 1 behind$/m);
    assert.ok(text.indexOf('late-1') < text.indexOf('web-1'));
  });

  it('says how many instances the answer had no room for', () => {
    const fleet = { complete: true, unheard: 0, instances: 12_000, behind: 0 };
    const text = statusReport({ ...status, fleet });
    assert.match(text, /^instances {5}12000 live, 0 behind$/m);
    assert.match(text, /^ {2}and 11999 more, which follow$/m);
    const late = statusReport({ ...status, fleet: { ...fleet, behind: 3_000 } });
    assert.match(late, /^ {2}and 11999 more, 2999 of them behind$/m);
  });

  it('lets no text of an agent or of a file command the terminal', () => {
    const text = statusReport({
      ...status,
      lifecycle: '\u001b[2J',
      instances: [{ ...following, podName: '\u001b[31mred' }],
    });
    assert.equal(text.includes('\u001b'), false);
  });

  it('shows the trust store, and warns before it is full', () => {
    assert.match(statusReport(status), /^trust store {3}kubernetes, 12345 of 921600 bytes$/m);
    assert.doesNotMatch(statusReport(status), /nearly/);
    const full = { ...status, store: { ...status.store!, bytes: 800_000n } };
    assert.match(statusReport(full), /^! the trust state is nearly as large as it may be/m);
  });

  it('warns while the fleet is not known whole, and names a pod that never reported', () => {
    const silent = { ...following, connected: false, lastSeenMs: 0n, report: undefined };
    const text = statusReport({
      ...status,
      instances: [silent],
      fleet: { complete: false, unheard: 1, instances: 1, behind: 1 },
    });
    assert.match(text, /^! the fleet is not known whole/m);
    assert.match(text, /never +BEHIND: never reported/);
  });

  it('shows a CA that has nobody, no policy and no audit log', () => {
    const text = statusReport({
      ...status,
      instances: [],
      policy: undefined,
      store: undefined,
      fleet: undefined,
      audit: undefined,
      lifecycle: '',
    });
    assert.match(text, /^policy {8}built in/m);
    assert.match(text, /^audit log {5}none$/m);
    assert.match(text, /^ {2}none$/m);
  });
});
