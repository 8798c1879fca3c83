import type { Log } from '../../host/log.ts';
import { isKedgeError } from '../../pki/kedge-error.ts';
import type { KubernetesApi } from '../kubernetes/kubernetes-api.ts';
import { CONFIG_MAP, type KubernetesObject } from '../kubernetes/objects.ts';
import { bundleConfigMap, isImmutable, type PublishedBundle } from './bundle-objects.ts';
import type { BundleAction, DistributionMetrics } from './distribution-metrics.ts';

/** What a {@link ConfigMapWriter} is made of. */
export interface ConfigMapWriterOptions {
  readonly api: Pick<KubernetesApi, 'create' | 'replace' | 'delete'>;
  readonly metrics: () => DistributionMetrics;
  readonly log: Log;
}

/** Writes and removes the ConfigMaps with the trust bundle, each as the version that was seen, and counts that. */
export class ConfigMapWriter {
  readonly #options: ConfigMapWriterOptions;

  constructor(options: ConfigMapWriterOptions) {
    this.#options = options;
  }

  /** Puts the bundle into a namespace, in the place of `existing`. Throws what the API does. */
  async write(
    namespace: string,
    action: BundleAction,
    existing: KubernetesObject | null,
    bundle: PublishedBundle,
    signal: AbortSignal,
  ): Promise<void> {
    const { api } = this.#options;
    await this.#counted(namespace, action, async () => {
      if (existing === null) {
        await api.create(CONFIG_MAP, bundleConfigMap(namespace, bundle, null), { signal });
      } else if (isImmutable(existing)) {
        // Somebody locked it: it can only be made anew, which the event of its deletion brings about.
        await this.#delete(existing, signal);
      } else {
        await api.replace(CONFIG_MAP, bundleConfigMap(namespace, bundle, existing), { signal });
      }
    });
  }

  /** Removes it. Throws what the API does. */
  async remove(namespace: string, existing: KubernetesObject, signal: AbortSignal): Promise<void> {
    await this.#counted(namespace, 'removed', () => this.#delete(existing, signal));
  }

  async #delete({ metadata }: KubernetesObject, signal: AbortSignal): Promise<void> {
    const { name, namespace = '', uid = '', resourceVersion = '' } = metadata;
    await this.#options.api.delete(CONFIG_MAP, { namespace, name }, { uid, resourceVersion, signal });
  }

  async #counted(namespace: string, action: BundleAction, write: () => Promise<unknown>): Promise<void> {
    const { metrics, log } = this.#options;
    try {
      await write();
      metrics().written(action, 'ok');
      log.info(`trust_bundle.${action}`, { namespace });
    } catch (error) {
      metrics().written(action, isLost(error) ? 'conflict' : 'failed');
      throw error;
    }
  }
}

/** Whether another replica was faster. */
export function isLost(error: unknown): boolean {
  return isKedgeError(error, 'kubernetes_conflict', 'kubernetes_exists', 'kubernetes_not_found');
}
