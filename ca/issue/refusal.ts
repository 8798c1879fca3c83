import type { Clock } from '../../host/clock.ts';
import { isKedgeError } from '../../pki/kedge-error.ts';
import type { SpiffeId } from '../../pki/spiffe-id.ts';
import type { Peer, WorkloadInstance } from '../attest/attestor.ts';
import type { AuditLog } from './audit-log.ts';
import { type AuditApi, refusedEntry } from './audit-record.ts';
import type { IssuanceMetrics } from './issuance-metrics.ts';

/** A refused request: all that is known of it at that point. */
export interface Refusal {
  readonly api: AuditApi;
  readonly error: unknown;
  readonly instance?: WorkloadInstance;
  readonly spiffeId?: SpiffeId;
  readonly peer?: Peer;
}

/** Where refusals are counted and recorded. */
export interface RefusalSinks {
  readonly audit: AuditLog;
  readonly metrics: IssuanceMetrics;
  readonly clock: Clock;
}

/**
 * Counts a refusal and puts it on the audit log, without waiting for the disk. An error that is not ours is recorded
 * as `internal`, without its message.
 */
export function recordRefusal(refusal: Refusal, { audit, clock, metrics }: RefusalSinks): void {
  const { api, error, instance, spiffeId, peer } = refusal;
  const [code, message] = isKedgeError(error)
    ? ([error.code, error.message] as const)
    : (['internal', 'a mistake in Kedge; the log has the details'] as const);
  metrics.refused(code);
  audit.note(
    refusedEntry({
      timeMs: clock.now(),
      api,
      code,
      message,
      spiffeId: spiffeId?.toString() ?? null,
      instance: instance ?? null,
      peerAddress: peer?.address ?? null,
    }),
  );
}
