import type { Counter, Gauge, MetricsRegistry } from '../host/metrics.ts';

/** The metrics of an agent. */
export interface AgentMetrics {
  readonly svidNotAfterSeconds: Gauge<never>;
  readonly renewals: Counter<'result'>;
  readonly bundleSequence: Gauge<never>;
  readonly clockSkewSeconds: Gauge<never>;
  readonly publications: Counter<'feed' | 'result'>;
  readonly sdsNacks: Counter<'secret'>;
  readonly refusals: Counter<'code'>;
}

/** Registers the metrics of an agent. `streams` is read at each scrape. */
export function agentMetrics(registry: MetricsRegistry, streams: () => number): AgentMetrics {
  registry.gaugeFrom(
    {
      name: 'kedge_agent_streams',
      help: 'Streams that are open on the sockets of the agent: Workload API, SDS, health.',
    },
    streams,
  );
  return {
    svidNotAfterSeconds: registry.gauge({
      name: 'kedge_agent_svid_not_after_timestamp_seconds',
      help: 'When the SVID that is served expires, seconds since the Unix epoch; 0 = none is served.',
      labels: [],
    }),
    renewals: registry.counter({
      name: 'kedge_agent_renewals_total',
      help: 'Attempts to get an SVID from the CA, by result: ok, failed.',
      labels: ['result'],
    }),
    bundleSequence: registry.gauge({
      name: 'kedge_agent_bundle_sequence',
      help: 'Sequence of the newest trust bundle that the CA gave.',
      labels: [],
    }),
    clockSkewSeconds: registry.gauge({
      name: 'kedge_agent_clock_skew_seconds',
      help: "This machine's clock minus the CA's, as last measured.",
      labels: [],
    }),
    publications: registry.counter({
      name: 'kedge_agent_feed_publications_total',
      help: 'Tries to bring a snapshot to a feed, by feed and result: ok, failed.',
      labels: ['feed', 'result'],
    }),
    sdsNacks: registry.counter({
      name: 'kedge_agent_sds_nacks_total',
      help: 'Secrets that an Envoy refused (NACK), by kind of secret: tls_certificate, validation_context.',
      labels: ['secret'],
    }),
    refusals: registry.counter({
      name: 'kedge_agent_refusals_total',
      help: 'Calls on the sockets of the agent that were refused, by error code.',
      labels: ['code'],
    }),
  };
}
