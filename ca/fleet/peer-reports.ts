import type { Clock } from '../../host/clock.ts';
import { errorFields, type Log } from '../../host/log.ts';
import type { Random } from '../../host/random.ts';
import { isKedgeError } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import { OWN_LABELS } from '../kubernetes/cluster-names.ts';
import { Informer } from '../kubernetes/informer.ts';
import type { KubernetesApi } from '../kubernetes/kubernetes-api.ts';
import { CONFIG_MAP, type KubernetesObject } from '../kubernetes/objects.ts';
import type { FleetInstance } from './instance.ts';
import { parseReplicaReport, type ReplicaReport } from './replica-report.ts';

/** Selects the ConfigMaps with the replicas' reports. */
export const FLEET_REPORT_LABELS = {
  ...OWN_LABELS,
  'app.kubernetes.io/component': 'fleet-report',
} as const;
/** The key of a report in its ConfigMap's binaryData. */
export const FLEET_REPORT_KEY = 'report';

/** A report that was not written anew for so long counts no more, milliseconds. */
export const REPORT_STALE_MS = 900_000;
/** One that was not for so long is removed by whoever sees it, milliseconds. */
const REPORT_REMOVED_MS = 3_600_000;
const REMOVE_EVERY_MS = 600_000;

/** What a {@link PeerReports} is made of. */
export interface PeerReportsOptions {
  readonly api: Pick<KubernetesApi, 'list' | 'watch' | 'delete'>;
  /** Where the CAs run. */
  readonly namespace: string;
  /** The name of this replica's own ConfigMap, which is not read. */
  readonly own: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

interface PeerReport {
  readonly name: string;
  readonly uid: string | undefined;
  readonly resourceVersion: string | undefined;
  /** Null where it cannot be read, and for this replica's own. */
  readonly report: ReplicaReport | null;
  /** When it was written, or seen where it cannot be read or says later; milliseconds since the Unix epoch. */
  readonly atMs: number;
}

/** What the other replicas of the CA know of the agents that are connected to them. */
export class PeerReports {
  readonly #options: PeerReportsOptions;
  readonly #informer: Informer<PeerReport>;

  constructor(options: PeerReportsOptions) {
    this.#options = options;
    const { api, namespace, own, clock, random, log } = options;
    const labelSelector = Object.entries(FLEET_REPORT_LABELS)
      .map(([label, value]) => `${label}=${value}`)
      .join(',');
    this.#informer = new Informer<PeerReport>({
      api,
      type: CONFIG_MAP,
      selection: { namespace, labelSelector },
      read: (object) => this.#read(object, own),
      clock,
      random,
      log,
    });
  }

  /** Whether the reports were read, each of them could be, and they are as they were a short while ago. */
  get complete(): boolean {
    return (
      this.#informer.synced &&
      this.#informer.staleMs < 150_000 &&
      this.#fresh().every(({ report, name }) => report !== null || name === this.#options.own)
    );
  }

  /** What each of the others says. */
  instances(): readonly (readonly FleetInstance[])[] {
    return this.#fresh().flatMap(({ report }) => (report === null ? [] : [report.instances]));
  }

  /** The replicas that give their agents something else than what `mark` stands for, by name. */
  behind(mark: string | null): readonly string[] {
    return this.#fresh().flatMap(({ report }) =>
      report === null || report.ended || report.trust === mark ? [] : [report.replica],
    );
  }

  /** How many other replicas have said something of late. */
  get replicas(): number {
    return this.instances().length;
  }

  /** Follows the reports until the signal aborts, and removes those of replicas that are long gone. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([this.#informer.run(signal), this.#removeOld(signal)]);
  }

  #fresh(): readonly PeerReport[] {
    const nowMs = this.#options.clock.now();
    return [...this.#informer.entries()]
      .map(([, peer]) => peer)
      .filter(({ atMs }) => nowMs - atMs < REPORT_STALE_MS);
  }

  #read(object: KubernetesObject, own: string): PeerReport {
    const { name, uid, resourceVersion } = object.metadata;
    const peer = { name, uid, resourceVersion, report: null, atMs: this.#options.clock.now() };
    if (name === own) return peer;
    try {
      const report = parseReplicaReport(bytesOf(object));
      return { ...peer, report, atMs: Math.min(report.writtenAtMs, peer.atMs) };
    } catch (error) {
      this.#options.log.warn('fleet.peer_report_refused', { name, error: errorFields(error) });
      return peer;
    }
  }

  async #removeOld(signal: AbortSignal): Promise<void> {
    const { api, namespace, own, clock, random, log } = this.#options;
    while (!signal.aborted) {
      await clock.sleep(REMOVE_EVERY_MS * (0.5 + random.fraction()), signal).catch(() => undefined);
      if (signal.aborted) return;
      const nowMs = clock.now();
      const old = [...this.#informer.entries()]
        .map(([, peer]) => peer)
        .filter(({ name, atMs }) => name !== own && nowMs - atMs > REPORT_REMOVED_MS);
      for (const { name, uid, resourceVersion } of old) {
        try {
          const version = {
            ...(uid === undefined ? {} : { uid }),
            ...(resourceVersion === undefined ? {} : { resourceVersion }),
          };
          await api.delete(CONFIG_MAP, { namespace, name }, { ...version, signal });
          log.info('fleet.peer_report_removed', { name });
        } catch (error) {
          // Another replica was faster, or it was written anew; else the next round tries again.
          if (signal.aborted || isKedgeError(error, 'kubernetes_not_found', 'kubernetes_conflict')) continue;
          log.warn('fleet.peer_report_not_removed', { name, error: errorFields(error) });
        }
      }
    }
  }
}

function bytesOf(object: KubernetesObject): Uint8Array {
  const binary = object['binaryData'];
  const text =
    typeof binary === 'object' && binary !== null
      ? (binary as Readonly<Record<string, unknown>>)[FLEET_REPORT_KEY]
      : undefined;
  if (typeof text !== 'string' || text.length > LIMITS.fleetReportBytes * 2) return new Uint8Array(0);
  return Buffer.from(text, 'base64');
}
