import { backoffMs } from '../../host/backoff.ts';
import type { Clock } from '../../host/clock.ts';
import { errorFields, type Log } from '../../host/log.ts';
import type { Random } from '../../host/random.ts';
import { isKedgeError } from '../../pki/kedge-error.ts';
import { INJECT_ENABLED, INJECT_KEY, TRUST_BUNDLE_NAME } from '../kubernetes/cluster-names.ts';
import type { EventRecorder } from '../kubernetes/event-recorder.ts';
import { Informer } from '../kubernetes/informer.ts';
import type { KubernetesApi } from '../kubernetes/kubernetes-api.ts';
import { CONFIG_MAP, type KubernetesObject, NAMESPACE } from '../kubernetes/objects.ts';
import { CONFIG_MAP_EVENTS } from './bundle-events.ts';
import { judgeConfigMap, type PublishedBundle } from './bundle-objects.ts';
import { ConfigMapWriter, isLost } from './config-map-writer.ts';
import type { BundleAction, DistributionMetrics, NamespaceCounts } from './distribution-metrics.ts';
import { LookSchedule } from './look-schedule.ts';

/** What {@link NamespaceBundles} is made of. */
export interface NamespaceBundlesOptions {
  readonly api: KubernetesApi;
  /** The bundle that namespaces are to have; null while it is not known. */
  readonly bundle: () => PublishedBundle | null;
  /** Whether this replica has the newest trust state, as far as it can know. */
  readonly upToDate: () => boolean;
  /** Whether a pod with an agent is in the namespace. */
  readonly hasAgents: (namespace: string) => boolean;
  /** Whether the pods were read; until then no bundle is removed. */
  readonly agentsKnown: () => boolean;
  /** The namespace of the CA itself, which has the bundle for people and tools. */
  readonly own: string;
  readonly events: EventRecorder;
  readonly metrics: () => DistributionMetrics;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/** What is known of a namespace. */
interface NamespaceState {
  readonly labelled: boolean;
  readonly terminating: boolean;
}

/** A replica waits up to this before it writes, milliseconds: by then another one has, and nothing is left to do. */
const JITTER_MS = 2_000;
/** Writes follow one another at least so far apart, milliseconds. */
const PACE_MS = 100;
/** Everything is looked at again so often on average, milliseconds. */
const RESYNC_MS = 600_000;
/** A bundle that is newer than ours is believed for so long, milliseconds: we may be behind. Then it was edited. */
const NEWER_MS = 120_000;
const BACKOFF = { baseMs: 1_000, capMs: 60_000 } as const;
const CONFLICT_MS = 1_000;

/**
 * Keeps the ConfigMap with the trust bundle in every namespace that needs it: those that are labelled, those that have
 * pods with an agent, and the CA's own. Made where it is missing, brought up to date, repaired where it was edited,
 * removed where nothing needs it any more. One of the same name that is not Kedge's is never touched.
 *
 * Each replica does all of it with no leader: it compares what the informers tell with what should be, and writes only
 * the version that it has seen. Jitter lets one of them be first, and the others then see that it is done.
 */
export class NamespaceBundles {
  readonly #options: NamespaceBundlesOptions;
  readonly #namespaces: Informer<NamespaceState>;
  readonly #configMaps: Informer<KubernetesObject>;
  readonly #schedule: LookSchedule;
  readonly #writer: ConfigMapWriter;
  readonly #failures = new Map<string, number>();
  /** Namespace -> since when its bundle has been newer than ours, monotonic. */
  readonly #newerSince = new Map<string, number>();

  constructor(options: NamespaceBundlesOptions) {
    this.#options = options;
    const { api, clock, random, log } = options;
    this.#schedule = new LookSchedule(clock);
    this.#writer = new ConfigMapWriter(options);
    this.#namespaces = new Informer({
      api,
      type: NAMESPACE,
      read: ({ metadata }) => ({
        labelled: metadata.labels?.[INJECT_KEY] === INJECT_ENABLED,
        terminating: metadata.deletionTimestamp !== undefined,
      }),
      onChange: ({ key }) => this.look(key),
      clock,
      random,
      log,
    });
    this.#configMaps = new Informer({
      api,
      type: CONFIG_MAP,
      // RBAC can grant this by the name alone, so that no other ConfigMap can be read.
      selection: { fieldSelector: `metadata.name=${TRUST_BUNDLE_NAME}` },
      read: (object) => object,
      onChange: ({ key }) => this.look(key.split('/')[0] ?? ''),
      clock,
      random,
      log,
    });
  }

  /** How the meshed namespaces are. */
  counts(): NamespaceCounts {
    const counts = { current: 0, pending: 0, foreign: 0 };
    const bundle = this.#options.bundle();
    for (const [namespace] of this.#namespaces.entries()) {
      if (bundle === null || !this.#isWanted(namespace)) continue;
      const verdict = judgeConfigMap(this.#existing(namespace), bundle);
      if (verdict === 'foreign') counts.foreign += 1;
      else counts[verdict === 'current' || verdict === 'newer' ? 'current' : 'pending'] += 1;
    }
    return counts;
  }

  /** Something changed about a namespace: it is looked at soon. */
  look(namespace: string): void {
    this.#schedule.dueIn(namespace, this.#options.random.fraction() * JITTER_MS);
  }

  /** The bundle changed: every namespace is looked at, over as long as their writes would take anyway. */
  lookAtAll(): void {
    const namespaces = [...this.#namespaces.entries()].map(([namespace]) => namespace);
    const spreadMs = JITTER_MS + namespaces.length * PACE_MS;
    for (const namespace of namespaces)
      this.#schedule.dueIn(namespace, this.#options.random.fraction() * spreadMs);
  }

  /** Does its work until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([
      this.#namespaces.run(signal),
      this.#configMaps.run(signal),
      this.#work(signal),
      this.#resync(signal),
    ]);
  }

  async #work(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options;
    const known = [this.#namespaces, this.#configMaps].map((informer) => informer.untilSynced(signal));
    await Promise.all(known).catch(() => undefined);
    for (;;) {
      const namespace = await this.#schedule.next(signal).catch(() => null);
      if (namespace === null) return;
      try {
        const wrote = await this.#bring(namespace, signal);
        this.#failures.delete(namespace);
        if (wrote) await clock.sleep(PACE_MS, signal).catch(() => undefined);
      } catch (error) {
        if (signal.aborted) return;
        this.#failed(namespace, error);
        if (!isKedgeError(error)) log.error('trust_bundle.failed', { namespace, error: errorFields(error) });
      }
    }
  }

  async #resync(signal: AbortSignal): Promise<void> {
    const { clock, random } = this.#options;
    while (!signal.aborted) {
      await clock.sleep(RESYNC_MS * (0.5 + random.fraction()), signal).catch(() => undefined);
      if (!signal.aborted) this.lookAtAll();
    }
  }

  /** Does what one namespace needs; true when that was a write. */
  async #bring(namespace: string, signal: AbortSignal): Promise<boolean> {
    const bundle = this.#options.bundle();
    const state = this.#namespaces.get(namespace);
    if (bundle === null || state === undefined || state.terminating) return false;
    const existing = this.#existing(namespace);
    const verdict = judgeConfigMap(existing, bundle);
    if (!this.#isWanted(namespace)) return this.#remove(namespace, existing, verdict === 'foreign', signal);
    if (verdict !== 'newer') this.#newerSince.delete(namespace);
    const write = async (action: BundleAction): Promise<boolean> => {
      await this.#writer.write(namespace, action, existing, bundle, signal);
      return true;
    };
    switch (verdict) {
      case 'current':
        return false;
      case 'missing':
        return write('created');
      case 'older':
        return write('updated');
      case 'edited':
        if (existing !== null) this.#options.events.record(existing, CONFIG_MAP_EVENTS.repaired, signal);
        return write('repaired');
      case 'newer':
        return this.#isBehind(namespace) ? false : write('repaired');
      case 'foreign':
        this.#options.log.warn('trust_bundle.foreign', { namespace, name: TRUST_BUNDLE_NAME });
        if (existing !== null) this.#options.events.record(existing, CONFIG_MAP_EVENTS.foreign, signal);
        return false;
      default:
        return verdict satisfies never;
    }
  }

  async #remove(
    namespace: string,
    existing: KubernetesObject | null,
    foreign: boolean,
    signal: AbortSignal,
  ): Promise<boolean> {
    if (existing === null || foreign) return false;
    if (!this.#options.agentsKnown()) {
      // Before the pods are known, one that still needs it may be there.
      this.#schedule.dueIn(namespace, JITTER_MS);
      return false;
    }
    await this.#writer.remove(namespace, existing, signal);
    return true;
  }

  /** Another replica was faster, or the API server refused: look again, later each time. */
  #failed(namespace: string, error: unknown): void {
    const { random, log } = this.#options;
    if (isLost(error)) {
      this.#schedule.dueIn(namespace, CONFLICT_MS * (1 + random.fraction()));
      return;
    }
    const failures = (this.#failures.get(namespace) ?? 0) + 1;
    this.#failures.set(namespace, failures);
    const retryAfterMs = isKedgeError(error) ? error.retryAfterMs : undefined;
    this.#schedule.dueIn(namespace, backoffMs(failures, BACKOFF, random, retryAfterMs));
    if (failures === 1) log.warn('trust_bundle.write_failed', { namespace, error: errorFields(error) });
  }

  /** Whether a bundle with a higher sequence may be right, and this replica behind. */
  #isBehind(namespace: string): boolean {
    const { clock, upToDate } = this.#options;
    const nowMs = clock.monotonic();
    const sinceMs = this.#newerSince.get(namespace) ?? nowMs;
    this.#newerSince.set(namespace, sinceMs);
    if (upToDate() && nowMs - sinceMs >= NEWER_MS) return false;
    this.#schedule.dueIn(namespace, NEWER_MS);
    return true;
  }

  #isWanted(namespace: string): boolean {
    const { own, hasAgents } = this.#options;
    return namespace === own || this.#namespaces.get(namespace)?.labelled === true || hasAgents(namespace);
  }

  #existing(namespace: string): KubernetesObject | null {
    return this.#configMaps.get(`${namespace}/${TRUST_BUNDLE_NAME}`) ?? null;
  }
}
