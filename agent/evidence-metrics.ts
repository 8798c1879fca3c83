import type { MetricsRegistry } from '../host/metrics.ts';
import { CANARY_VERDICTS, type CanaryResult } from './canary.ts';
import { type FeedStatus, isBehind } from './evidence.ts';
import type { ConsumerStatus } from './feed/feed.ts';
import type { HeldSnapshot } from './snapshot.ts';

/** What the metrics are read from, at the moment of a scrape. */
export interface EvidenceSource {
  /** Generation of the newest snapshot; 0 = none was made yet. */
  readonly newest: number;
  readonly feeds: readonly FeedStatus[];
  /** What the canary saw last; null = nothing, or there is no canary. */
  readonly canary: CanaryResult | null;
}

const GRADES = ['delivered', 'loaded'] as const;
type Grade = (typeof GRADES)[number];

/** Registers what the consumers of each feed hold, and what the canary saw. Names of consumers are no labels. */
export function registerEvidenceMetrics(registry: MetricsRegistry, read: () => EvidenceSource): void {
  registry.gaugesFrom(
    {
      name: 'kedge_agent_consumers',
      help: 'Consumers that have the newest snapshot, by feed and evidence: delivered, loaded.',
      labels: ['feed', 'evidence'],
    },
    () => {
      const { feeds, newest } = read();
      return eachGrade(feeds, (consumers, grade) => {
        return consumers.filter((consumer) => consumer[grade]?.generation === newest).length;
      });
    },
  );
  registry.gaugesFrom(
    {
      name: 'kedge_agent_consumers_behind',
      help: 'Consumers without the newest snapshot at the best grade that they can give, by feed.',
      labels: ['feed'],
    },
    () => {
      const { feeds, newest } = read();
      return feeds.map(({ name, consumers }) => [
        { feed: name },
        consumers.filter((consumer) => isBehind(consumer, newest)).length,
      ]);
    },
  );
  registry.gaugesFrom(
    {
      name: 'kedge_agent_consumers_oldest_bundle_sequence',
      help: 'Oldest bundle sequence that a consumer has, by feed and evidence; 0 = one has none.',
      labels: ['feed', 'evidence'],
    },
    () =>
      eachGrade(read().feeds, (consumers, grade) => {
        const givers = grade === 'loaded' ? consumers.filter(({ best }) => best === 'loaded') : consumers;
        return givers.length === 0 ? null : Math.min(...givers.map((consumer) => sequence(consumer[grade])));
      }),
  );
  registry.gaugesFrom(
    {
      name: 'kedge_agent_canary_verdict',
      help: '1 for what the canary saw last, else 0: proven, refused, outdated, untrusted, unknown.',
      labels: ['verdict'],
    },
    () => {
      const { canary } = read();
      return canary === null
        ? []
        : CANARY_VERDICTS.map((verdict) => [{ verdict }, Number(verdict === canary.verdict)]);
    },
  );
  registry.gaugeFrom(
    {
      name: 'kedge_agent_canary_timestamp_seconds',
      help: 'When the canary finished last, seconds since the Unix epoch; 0 = not yet, or there is none.',
    },
    () => (read().canary?.atMs ?? 0) / 1000,
  );
}

function eachGrade(
  feeds: readonly FeedStatus[],
  value: (consumers: readonly ConsumerStatus[], grade: Grade) => number | null,
): (readonly [{ feed: string; evidence: Grade }, number])[] {
  return feeds.flatMap(({ name, consumers }) =>
    GRADES.flatMap((evidence) => {
      const found = value(consumers, evidence);
      return found === null ? [] : [[{ feed: name, evidence }, found] as const];
    }),
  );
}

function sequence(held: HeldSnapshot | null): number {
  return held === null ? 0 : Number(held.bundleSequence);
}
