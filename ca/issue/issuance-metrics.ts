import type { MetricsRegistry } from '../../host/metrics.ts';
import type { ErrorCode } from '../../pki/error-table.ts';
import type { AuditApi, RefusedEvent } from './audit-record.ts';

/** What the issuing path counts. */
export interface IssuanceMetrics {
  /** An SVID was released, `durationMs` after its request came. */
  issued(api: AuditApi, durationMs: number): void;
  /** A request for an SVID, or a Watch stream, was refused. */
  refused(event: RefusedEvent, code: ErrorCode): void;
  /** A refusal got no line of its own on the audit log. */
  refusalSuppressed(): void;
  auditCommitted(commit: { readonly records: number; readonly durationMs: number }): void;
  /** Says where the queue's depth is read at each scrape. Once. */
  observeQueue(depth: () => number): void;
  /** Says where the audit log's state is read at each scrape. Once. */
  observeAudit(available: () => boolean): void;
}

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const BATCHES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];

/** Registers the metrics of the issuing path. */
export function registerIssuanceMetrics(registry: MetricsRegistry): IssuanceMetrics {
  const issued = registry.counter({
    name: 'kedge_svid_issued_total',
    help: 'X.509-SVIDs released, by the interface that asked.',
    labels: ['api'],
  });
  const counters = {
    'svid.refused': registry.counter({
      name: 'kedge_svid_refused_total',
      help: 'Requests for an X.509-SVID refused, by error code.',
      labels: ['code'],
    }),
    'watch.refused': registry.counter({
      name: 'kedge_watch_refused_total',
      help: 'Watch streams refused, when they were opened or later, by error code.',
      labels: ['code'],
    }),
  };
  const suppressed = registry.counter({
    name: 'kedge_audit_suppressed_refusals_total',
    help: 'Refusals that the audit log tells only in a summary, because they came too often.',
    labels: [],
  });
  const duration = registry.histogram({
    name: 'kedge_svid_issuance_duration_seconds',
    help: 'Time from a request for an X.509-SVID to its release, queue and audit log included.',
    labels: [],
    buckets: SECONDS,
  });
  const commitDuration = registry.histogram({
    name: 'kedge_audit_commit_duration_seconds',
    help: 'Time of one write and sync of the audit log.',
    labels: [],
    buckets: SECONDS,
  });
  const commitRecords = registry.histogram({
    name: 'kedge_audit_commit_records',
    help: 'Records that one sync of the audit log covered.',
    labels: [],
    buckets: BATCHES,
  });
  const issuedBy: Readonly<Record<AuditApi, () => void>> = {
    'kedge.v1': issued.adder({ api: 'kedge.v1' }),
    'istio.v1': issued.adder({ api: 'istio.v1' }),
    linkerd: issued.adder({ api: 'linkerd' }),
    internal: issued.adder({ api: 'internal' }),
  };
  return {
    issued(api, durationMs) {
      issuedBy[api]();
      duration.observe({}, durationMs / 1000);
    },
    refused(event, code) {
      counters[event].add({ code });
    },
    refusalSuppressed() {
      suppressed.add({});
    },
    auditCommitted({ records, durationMs }) {
      commitDuration.observe({}, durationMs / 1000);
      commitRecords.observe({}, records);
    },
    observeQueue(depth) {
      registry.gaugeFrom(
        {
          name: 'kedge_issuance_queue_requests',
          help: 'Requests for an X.509-SVID that wait for their turn.',
        },
        depth,
      );
    },
    observeAudit(available) {
      registry.gaugeFrom(
        { name: 'kedge_audit_available', help: '1 while the audit log can be written, else 0.' },
        () => (available() ? 1 : 0),
      );
    },
  };
}
