import { backoffMs } from '../../host/backoff.ts';
import type { Clock } from '../../host/clock.ts';
import { errorFields, type Log } from '../../host/log.ts';
import type { Random } from '../../host/random.ts';
import { isKedgeError } from '../../pki/kedge-error.ts';
import type { KubernetesApi } from '../kubernetes/kubernetes-api.ts';
import { CONFIG_MAP } from '../kubernetes/objects.ts';
import type { FleetInstance } from './instance.ts';
import { FLEET_REPORT_KEY, FLEET_REPORT_LABELS } from './peer-reports.ts';
import { encodeReplicaReport, materialKey, type ReplicaReport } from './replica-report.ts';

/** What a {@link ReportPublisher} is made of. */
export interface ReportPublisherOptions {
  readonly api: Pick<KubernetesApi, 'apply'>;
  /** Where the CAs run. */
  readonly namespace: string;
  /** The name of this replica's ConfigMap: see {@link reportName}. */
  readonly name: string;
  readonly replica: string;
  /** What there is to tell at this moment. */
  readonly instances: () => readonly FleetInstance[];
  /** What agents are given at this moment: see `trustMark`. */
  readonly trust: () => string | null;
  /** Whose names the others cannot know by their pods. */
  readonly named: (instance: FleetInstance) => boolean;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/** A change that matters is told after this long on average, milliseconds: at most so often a replica writes. */
export const PUBLISH_MS = 10_000;
/** What nobody waits for (when SVIDs end, that the replica still runs) is told so often, milliseconds. */
export const PUBLISH_IDLE_MS = 300_000;
const BACKOFF = { baseMs: 1_000, capMs: 60_000 } as const;
/** The most that a name of an object may have (RFC 1123 subdomain). */
const NAME_CHARS = 253;

/** The ConfigMap of a replica, by the name of its pod. */
export function reportName(replica: string): string {
  const name = replica.toLowerCase().replaceAll(/[^a-z0-9.-]/g, '-');
  return `kedge-fleet-${name}`.slice(0, NAME_CHARS).replace(/[^a-z0-9]+$/, '');
}

/**
 * Tells the other replicas what the agents that are connected to this one hold, in a ConfigMap of its own.
 *
 * Bounded: one write in ten seconds while something that a gate asks for changes, one in five minutes otherwise, by
 * each replica, however many agents there are. Nobody waits for a write: a report that is behind holds a gate shut.
 */
export class ReportPublisher {
  readonly #options: ReportPublisherOptions;
  /** What was written last; null = nothing yet. */
  #written: { readonly key: string; readonly atMs: number } | null = null;
  #hasEnded = false;

  constructor(options: ReportPublisherOptions) {
    this.#options = options;
  }

  /** Publishes until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, random, log } = this.#options;
    let failures = 0;
    while (!signal.aborted) {
      const waitMs =
        failures === 0
          ? PUBLISH_MS * (0.5 + random.fraction())
          : PUBLISH_MS + backoffMs(failures, BACKOFF, random);
      await clock.sleep(waitMs, signal).catch(() => undefined);
      if (signal.aborted) return;
      try {
        await this.publish(signal);
        if (failures > 0) log.info('fleet.report_resumed', {});
        failures = 0;
      } catch (error) {
        if (signal.aborted) return;
        failures += 1;
        if (failures === 1) log.warn('fleet.report_failed', { error: errorFields(error) });
        // What a mistake in here throws must not end the loop, nor the process: others go on without this report.
        if (!isKedgeError(error)) log.error('fleet.report_failed', { error: errorFields(error) });
      }
    }
  }

  /** Writes the last report, when no agent is served any more: no gate waits for this replica then. */
  async end(signal: AbortSignal): Promise<void> {
    this.#hasEnded = true;
    await this.publish(signal);
  }

  /** Writes the report, unless what matters of it was written of late. */
  async publish(signal: AbortSignal): Promise<void> {
    const { api, namespace, name, replica, instances, trust, named, clock } = this.#options;
    const report: ReplicaReport = {
      replica,
      writtenAtMs: clock.now(),
      trust: trust(),
      ended: this.#hasEnded,
      instances: instances(),
    };
    const key = materialKey(report);
    const atMs = clock.monotonic();
    if (this.#written?.key === key && atMs - this.#written.atMs < PUBLISH_IDLE_MS) return;
    const bytes = encodeReplicaReport(report, named);
    await api.apply(
      CONFIG_MAP,
      {
        metadata: { namespace, name, labels: FLEET_REPORT_LABELS },
        binaryData: { [FLEET_REPORT_KEY]: Buffer.from(bytes).toString('base64') },
      },
      { fieldManager: 'kedge-fleet', force: true, signal },
    );
    this.#written = { key, atMs };
  }
}
