import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { findingsOf } from '../../../cli/agent-status-findings.ts';
import { agentStatusReport } from '../../../cli/agent-status-report.ts';
import type { CanaryStatus, GetAgentStatusResponse } from '../../../proto/gen/kedge/v1/agent.ts';
import { type ConsumerReport, Evidence, type FeedReport } from '../../../proto/gen/kedge/v1/identity.ts';

const NOW_MS = Date.UTC(2026, 0, 1, 3);
const HOUR_MS = 3_600_000;
const SERIAL = Uint8Array.of(0xaa, 1, 2, 3, 4, 5, 6);
const OLD_SERIAL = Uint8Array.of(0xbb, 1, 2, 3, 4, 5, 6);

const consumer = (change: Partial<ConsumerReport> = {}): ConsumerReport => ({
  name: 'envoy-1',
  best: Evidence.EVIDENCE_LOADED,
  delivered: { bundleSequence: 7n, svidSerialNumber: SERIAL },
  loaded: { bundleSequence: 7n, svidSerialNumber: SERIAL },
  proven: undefined,
  errorCode: '',
  ...change,
});
const feed = (change: Partial<FeedReport> = {}): FeedReport => ({
  name: 'sds',
  evidence: Evidence.EVIDENCE_LOADED,
  bundleSequence: 7n,
  svidSerialNumber: SERIAL,
  errorCode: '',
  consumers: [consumer()],
  consumerCount: 1,
  ...change,
});
const canary = (change: Partial<CanaryStatus> = {}): CanaryStatus => ({
  atMs: BigInt(NOW_MS - 12_000),
  verdict: 'proven',
  answer: 'http_served',
  detail: 'HTTP 200',
  errorCode: '',
  serialNumber: SERIAL,
  anchorKeyId: Uint8Array.of(1),
  authorities: 'current',
  ...change,
});
const status = (change: Partial<GetAgentStatusResponse> = {}): GetAgentStatusResponse => ({
  version: '0.1.0',
  timeMs: BigInt(NOW_MS),
  trustDomain: 'example.org',
  phase: 'serving',
  svid: {
    spiffeId: 'spiffe://example.org/ns/shop/sa/cart',
    serialNumber: SERIAL,
    authorityKeyId: new Uint8Array(20).fill(0xcc),
    notBeforeMs: BigInt(NOW_MS - HOUR_MS),
    notAfterMs: BigInt(NOW_MS + 23 * HOUR_MS),
    renewAtMs: BigInt(NOW_MS + 11 * HOUR_MS),
    renewReason: 'lifetime',
  },
  bundleSequence: 7n,
  anchors: [{ subjectKeyId: new Uint8Array(20).fill(0xdd), notAfterMs: BigInt(NOW_MS + 48 * HOUR_MS) }],
  clockSkewMs: 12n,
  lastFailure: undefined,
  feeds: [feed()],
  canary: canary(),
  ...change,
});

describe('the status of an agent', () => {
  it('reads as a whole', () => {
    assert.equal(
      agentStatusReport(status()),
      `trust domain  example.org
phase         serving
SPIFFE ID     spiffe://example.org/ns/shop/sa/cart
SVID          aa010203040506, issuer cccccccccccc
valid until   2026-01-02T02:00:00Z (in 23h)
renewal       2026-01-01T14:00:00Z (in 11h), by lifetime
bundle        sequence 7
last failure  none
clock         12 ms ahead of the CA's
canary        proven 12s ago: the proxy uses the newest SVID and bundle
kedge         0.1.0

Trust anchors
  id            expires
  dddddddddddd  2026-01-03T03:00:00Z (in 2d)

Consumers
  feed  consumer  evidence  bundle  SVID          state
  sds   envoy-1   loaded    7       aa0102030405  newest
`,
    );
    assert.deepEqual(findingsOf(status()), []);
  });

  const refused = consumer({ errorCode: 'feed_failed', loaded: undefined });
  const behind = consumer({ loaded: { bundleSequence: 6n, svidSerialNumber: OLD_SERIAL } });
  const failure = { code: 'ca_unreachable', message: 'nobody there', retryAtMs: BigInt(NOW_MS + 5000) };
  for (const { name, change, want, isBehind = true } of [
    { name: 'an agent that starts', change: { phase: 'starting', svid: undefined }, want: /no SVID yet/ },
    {
      name: 'an agent that is denied',
      change: { phase: 'denied', svid: undefined, lastFailure: failure },
      want: /no identity: ca_unreachable, nobody there/,
    },
    { name: 'an expired SVID', change: { phase: 'expired', svid: undefined }, want: /has expired/ },
    { name: 'a phase of tomorrow', change: { phase: 'dancing' }, want: /unknown phase dancing/ },
    {
      name: 'a failed renewal, which takes nothing from anyone yet',
      change: { lastFailure: failure },
      want: /renew the SVID failed: ca_unreachable/,
      isBehind: false,
    },
    {
      name: 'a consumer that refuses',
      change: { feeds: [feed({ consumers: [refused] })] },
      want: /^sds: envoy-1 refuses it: feed_failed$/,
    },
    {
      name: 'a consumer that was written to and never answered',
      change: { feeds: [feed({ consumers: [consumer({ loaded: undefined })] })] },
      want: /^sds: envoy-1 has acknowledged nothing$/,
    },
    {
      name: 'a consumer that cannot answer and was written nothing',
      change: {
        feeds: [feed({ consumers: [consumer({ best: Evidence.EVIDENCE_DELIVERED, delivered: undefined })] })],
      },
      want: /^sds: envoy-1 was handed nothing$/,
    },
    {
      name: 'consumers with an older bundle',
      change: { feeds: [feed({ consumers: [behind, behind, consumer()] })] },
      want: /^sds: envoy-1 has bundle 6 of 7, and 1 more of its consumers$/,
    },
    {
      name: 'a consumer with an older SVID',
      change: {
        feeds: [
          feed({
            consumers: [consumer({ loaded: { bundleSequence: 7n, svidSerialNumber: OLD_SERIAL } })],
          }),
        ],
      },
      want: /has another SVID$/,
    },
    {
      name: 'a consumer that acknowledged nothing, though it could',
      change: { feeds: [feed({ consumers: [consumer({ loaded: undefined })] })] },
      want: /has acknowledged nothing$/,
    },
    {
      name: 'a feed that fails, without a consumer',
      change: { feeds: [feed({ name: 'files', consumers: [], errorCode: 'file_unwritable' })] },
      want: /^files fails: file_unwritable$/,
    },
    {
      name: 'a feed that is not there yet',
      change: { feeds: [feed({ name: 'files', consumers: [], bundleSequence: 6n })] },
      want: /^files is not at the newest yet$/,
    },
    {
      name: 'a proxy that was not reloaded',
      change: { canary: canary({ verdict: 'outdated', serialNumber: OLD_SERIAL }) },
      want: /presents an older SVID/,
    },
    {
      name: 'a proxy with an older bundle',
      change: { canary: canary({ verdict: 'outdated', authorities: 'missing' }) },
      want: /lacks a trust anchor/,
    },
    {
      name: 'a proxy that refuses',
      change: { canary: canary({ verdict: 'refused', detail: 'unknown_ca' }) },
      want: /refuses its own SVID from a client \(unknown_ca\)/,
    },
    {
      name: 'a proxy of someone else',
      change: { canary: canary({ verdict: 'untrusted', errorCode: 'svid_unexpected_id' }) },
      want: /does not verify: svid_unexpected_id/,
    },
  ] satisfies {
    name: string;
    change: Partial<GetAgentStatusResponse>;
    want: RegExp;
    isBehind?: boolean;
  }[]) {
    it(`says first what is wrong, and what to do: ${name}`, () => {
      const [finding, ...others] = findingsOf(status(change));
      assert.ok(finding !== undefined && others.length === 0);
      assert.match(finding.what, want);
      assert.equal(finding.isBehind, isBehind);
      assert.ok(agentStatusReport(status(change)).startsWith(`! ${finding.what}\n  ${finding.todo}\n`));
    });
  }

  it('calls a canary that cannot tell no fault of anyone', () => {
    const unknown = status({
      canary: canary({ verdict: 'unknown', answer: 'unreachable', detail: 'ECONNREFUSED' }),
    });
    assert.deepEqual(findingsOf(unknown), []);
    assert.match(
      agentStatusReport(unknown),
      /canary +unknown 12s ago: it cannot tell: unreachable \(ECONNREFUSED\)/,
    );
  });

  it('prints nothing that a terminal would obey', () => {
    const hostile = '\u001b[2J\nx';
    const text = agentStatusReport(
      status({
        trustDomain: hostile,
        phase: hostile,
        version: hostile,
        lastFailure: { code: hostile, message: hostile, retryAtMs: 0n },
        feeds: [
          feed({
            name: hostile,
            errorCode: hostile,
            consumers: [consumer({ name: hostile, errorCode: hostile })],
          }),
        ],
        canary: canary({ verdict: hostile, answer: hostile, detail: hostile }),
      }),
    );
    assert.ok(!text.includes('\u001b'));
  });
});
