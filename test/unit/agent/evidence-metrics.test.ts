import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type EvidenceSource, registerEvidenceMetrics } from '../../../agent/evidence-metrics.ts';
import type { ConsumerStatus } from '../../../agent/feed/feed.ts';
import { judgeCanary } from '../../../agent/canary.ts';
import { heldSnapshot } from '../../../agent/snapshot.ts';
import { MetricsRegistry } from '../../../host/metrics.ts';
import { SnapshotFactory } from '../../support/snapshots.ts';

const NOW_MS = Date.UTC(2026, 0, 1);

describe('the metrics of the evidence', () => {
  const rendered = (source: EvidenceSource): string[] => {
    const registry = new MetricsRegistry();
    registerEvidenceMetrics(registry, () => source);
    return registry
      .render()
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'));
  };

  it('count the consumers of each feed by grade, and those behind', async () => {
    const factory = await SnapshotFactory.make(NOW_MS);
    const [older, newer] = [await factory.snapshot(1), await factory.snapshot(2)];
    const envoy = (change: Partial<ConsumerStatus>): ConsumerStatus => ({
      name: 'envoy-1',
      best: 'loaded',
      delivered: heldSnapshot(newer),
      loaded: heldSnapshot(newer),
      errorCode: null,
      ...change,
    });
    const consumers = [
      envoy({}),
      envoy({ name: 'envoy-2', loaded: heldSnapshot(older) }),
      envoy({ name: 'envoy-3', errorCode: 'feed_failed' }),
      envoy({ name: 'stream-4', best: 'delivered', loaded: null }),
    ];
    const canary = judgeCanary(
      {
        presented: newer.svid.chain,
        asked: true,
        authorities: null,
        answer: 'http_served',
        detail: 'HTTP 200',
      },
      newer,
      NOW_MS,
    );
    assert.deepEqual(
      rendered({ newest: 2, feeds: [{ name: 'sds', inPlace: newer, consumers, errorCode: null }], canary }),
      [
        'kedge_agent_consumers{feed="sds",evidence="delivered"} 4',
        'kedge_agent_consumers{feed="sds",evidence="loaded"} 2',
        'kedge_agent_consumers_behind{feed="sds"} 2',
        'kedge_agent_consumers_oldest_bundle_sequence{feed="sds",evidence="delivered"} 2',
        'kedge_agent_consumers_oldest_bundle_sequence{feed="sds",evidence="loaded"} 1',
        'kedge_agent_canary_verdict{verdict="proven"} 1',
        'kedge_agent_canary_verdict{verdict="refused"} 0',
        'kedge_agent_canary_verdict{verdict="outdated"} 0',
        'kedge_agent_canary_verdict{verdict="untrusted"} 0',
        'kedge_agent_canary_verdict{verdict="unknown"} 0',
        `kedge_agent_canary_timestamp_seconds ${NOW_MS / 1000}`,
      ],
    );
  });

  it('show nothing of a canary that there is not', () => {
    assert.deepEqual(rendered({ newest: 0, feeds: [], canary: null }), [
      'kedge_agent_canary_timestamp_seconds 0',
    ]);
  });
});
