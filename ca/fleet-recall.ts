import type { Clock } from '../host/clock.ts';
import { errorFields, type Log } from '../host/log.ts';
import type { Fleet } from './fleet/fleet.ts';
import type { AuditFolder } from './issue/audit-folder.ts';
import { issuedSince } from './issue/issued-history.ts';

/** What {@link recallFleet} needs. */
export interface FleetRecall {
  readonly fleet: Fleet;
  /** Of the audit log. */
  readonly folder: AuditFolder;
  /** The longest that an SVID lives, milliseconds. */
  readonly ttlMs: number;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Tells the fleet who was issued an SVID before this process: whoever is not known cannot be waited for. Where the log
 * cannot be read, that is known only once every SVID from before the start has ended.
 */
export async function recallFleet(recall: FleetRecall, signal: AbortSignal): Promise<void> {
  const { fleet, folder, ttlMs, clock, log } = recall;
  const nowMs = clock.now();
  try {
    fleet.remember(await issuedSince(folder, nowMs - ttlMs, nowMs, signal));
  } catch (error) {
    if (signal.aborted) return;
    log.error('fleet.history_unreadable', { error: errorFields(error), completeInMs: ttlMs });
    fleet.awaitHistory('the audit log could not be read for SVIDs from before the start');
    await clock.sleep(ttlMs, signal).then(
      () => fleet.remember([]),
      () => undefined,
    );
  }
}
