import { backoffMs } from '../../host/backoff.ts';
import type { Clock } from '../../host/clock.ts';
import { errorFields, type Log } from '../../host/log.ts';
import type { Random } from '../../host/random.ts';
import { Wakeup } from '../../host/wakeup.ts';
import { isKedgeError } from '../../pki/kedge-error.ts';
import { TRUST_BUNDLE_NAME } from '../kubernetes/cluster-names.ts';
import type { EventRecorder } from '../kubernetes/event-recorder.ts';
import type { KubernetesApi } from '../kubernetes/kubernetes-api.ts';
import type { KubernetesObject, ResourceType } from '../kubernetes/objects.ts';
import { CLUSTER_TRUST_BUNDLE_EVENTS } from './bundle-events.ts';
import { clusterTrustBundle, judgeClusterTrustBundle, type PublishedBundle } from './bundle-objects.ts';
import type { BundleAction, DistributionMetrics } from './distribution-metrics.ts';

/** What a {@link ClusterBundle} is made of. */
export interface ClusterBundleOptions {
  readonly api: KubernetesApi;
  readonly bundle: () => PublishedBundle | null;
  /** Whether this replica has the newest trust state, as far as it can know. */
  readonly upToDate: () => boolean;
  readonly events: EventRecorder;
  readonly metrics: () => DistributionMetrics;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/** The versions in which the API has been served, newest first: KEP-3257. */
const VERSIONS = ['v1', 'v1beta1', 'v1alpha1'] as const;
const PLURAL = 'clustertrustbundles';
/** The object is looked at so often on average, milliseconds: it is one, and nobody waits for it. */
const LOOK_MS = 60_000;
/** A cluster without the API is asked again so often, milliseconds: it may be upgraded. */
const ABSENT_MS = 3_600_000;
const JITTER_MS = 5_000;
/** One that is newer than ours is believed for so long, milliseconds. */
const NEWER_MS = 120_000;
const BACKOFF = { baseMs: 5_000, capMs: 300_000 } as const;

/**
 * Keeps the ClusterTrustBundle with the trust anchors, where the cluster has that API. Every replica does it, with no
 * leader: the one that looks first after a change writes, and the others see that it is done.
 */
export class ClusterBundle {
  readonly #options: ClusterBundleOptions;
  readonly #changes = new Wakeup();
  /** Since when it has been newer than ours, monotonic. */
  #newerSinceMs: number | null = null;

  constructor(options: ClusterBundleOptions) {
    this.#options = options;
  }

  /** The bundle changed: it is looked at soon. */
  look(): void {
    this.#changes.wake();
  }

  /** Does its work until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, random, log } = this.#options;
    let type: ResourceType | null = null;
    let failures = 0;
    while (!signal.aborted) {
      const generation = this.#changes.generation;
      let waitMs = LOOK_MS * (0.5 + random.fraction());
      try {
        // Every time, while it has none: an upgrade of the cluster may bring it, or bring a newer version.
        type ??= await this.#served(signal);
        if (type === null) waitMs = ABSENT_MS * (0.5 + random.fraction());
        else await this.#bring(type, signal);
        failures = 0;
      } catch (error) {
        if (signal.aborted) return;
        type = null;
        // Another replica was faster: look again at the usual time.
        if (!isKedgeError(error, 'kubernetes_conflict', 'kubernetes_exists')) {
          failures += 1;
          waitMs = backoffMs(failures, BACKOFF, random, isKedgeError(error) ? error.retryAfterMs : undefined);
          if (failures === 1) log.warn('cluster_trust_bundle.failed', { error: errorFields(error) });
        }
      }
      const sleep = (end: AbortSignal): Promise<void> => clock.sleep(waitMs, end);
      const woken = await this.#changes.sleep(generation, sleep, signal).catch(() => false);
      if (woken) await clock.sleep(random.fraction() * JITTER_MS, signal).catch(() => undefined);
    }
  }

  /** The API as this cluster serves it; null = it does not. */
  async #served(signal: AbortSignal): Promise<ResourceType | null> {
    for (const version of VERSIONS) {
      const apiVersion = `certificates.k8s.io/${version}`;
      const served = await this.#options.api.servedResources(apiVersion, { signal });
      if (served.has(PLURAL)) {
        return { apiVersion, kind: 'ClusterTrustBundle', plural: PLURAL, namespaced: false };
      }
    }
    return null;
  }

  async #bring(type: ResourceType, signal: AbortSignal): Promise<void> {
    const { api, events, log, clock, upToDate } = this.#options;
    const existing = await this.#existing(type, signal);
    const bundle = this.#options.bundle();
    if (bundle === null) return;
    const verdict = judgeClusterTrustBundle(existing, bundle);
    if (verdict !== 'newer') this.#newerSinceMs = null;
    const replace = (action: BundleAction): Promise<void> =>
      this.#counted(action, () => api.replace(type, clusterTrustBundle(bundle, existing), { signal }));
    switch (verdict) {
      case 'current':
        return;
      case 'older':
        await replace('updated');
        return;
      case 'newer':
        // We may be behind. If we are not, and it stays, it was edited.
        this.#newerSinceMs ??= clock.monotonic();
        if (upToDate() && clock.monotonic() - this.#newerSinceMs >= NEWER_MS) await replace('repaired');
        return;
      case 'missing':
        await this.#counted('created', () => api.create(type, clusterTrustBundle(bundle, null), { signal }));
        return;
      case 'edited':
        if (existing !== null) events.record(existing, CLUSTER_TRUST_BUNDLE_EVENTS.repaired, signal);
        await replace('repaired');
        return;
      case 'foreign':
        log.warn('cluster_trust_bundle.foreign', { name: TRUST_BUNDLE_NAME });
        if (existing !== null) events.record(existing, CLUSTER_TRUST_BUNDLE_EVENTS.foreign, signal);
        return;
      default:
        verdict satisfies never;
    }
  }

  async #existing(type: ResourceType, signal: AbortSignal): Promise<KubernetesObject | null> {
    try {
      return await this.#options.api.get(type, { name: TRUST_BUNDLE_NAME }, { signal });
    } catch (error) {
      if (isKedgeError(error, 'kubernetes_not_found')) return null;
      throw error;
    }
  }

  async #counted(action: BundleAction, write: () => Promise<unknown>): Promise<void> {
    const { metrics, log } = this.#options;
    try {
      await write();
      metrics().written(action, 'ok');
      log.info(`cluster_trust_bundle.${action}`);
    } catch (error) {
      const lost = isKedgeError(error, 'kubernetes_conflict', 'kubernetes_exists');
      metrics().written(action, lost ? 'conflict' : 'failed');
      throw error;
    }
  }
}
