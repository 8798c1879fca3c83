import type { Clock } from '../../host/clock.ts';
import { isKedgeError, KedgeError } from '../../pki/kedge-error.ts';
import { capabilitiesOfServer, type ClusterCapabilities } from '../inject/cluster-capabilities.ts';
import type { SidecarSetting } from '../inject/injection-settings.ts';
import type { KubernetesApi } from '../kubernetes/kubernetes-api.ts';

/** What a {@link ClusterVersion} is made of. */
export interface ClusterVersionOptions {
  readonly api: Pick<KubernetesApi, 'getPath'>;
  readonly sidecar: SidecarSetting;
  readonly clock: Clock;
}

/** How long an answer counts, milliseconds: clusters are upgraded while Kedge runs. */
const FRESH_MS = 600_000;
const TIMEOUT_MS = 2_000;

/** What the cluster can do, asked now and then; several that want to know at once ask once. */
export class ClusterVersion {
  readonly #options: ClusterVersionOptions;
  #known: { readonly capabilities: ClusterCapabilities; readonly atMs: number } | null = null;
  #asking: Promise<ClusterCapabilities> | null = null;

  constructor(options: ClusterVersionOptions) {
    this.#options = options;
  }

  /**
   * The capabilities. What was known once goes on to count while the API server cannot be asked. Rejects as
   * {@link KubernetesApi} does before that, and with `kubernetes_answer_invalid`.
   */
  async capabilities(): Promise<ClusterCapabilities> {
    const { sidecar, clock } = this.#options;
    // Nobody needs to be asked about what is set.
    if (sidecar !== 'auto') return { nativeSidecars: sidecar === 'native' };
    const known = this.#known;
    if (known !== null && clock.monotonic() - known.atMs < FRESH_MS) return known.capabilities;
    this.#asking ??= this.#ask().finally(() => (this.#asking = null));
    if (known === null) return await this.#asking;
    return await this.#asking.catch(() => known.capabilities);
  }

  async #ask(): Promise<ClusterCapabilities> {
    const { api, clock } = this.#options;
    const signal = new AbortController().signal;
    const document = await api.getPath('/version', { signal, timeoutMs: TIMEOUT_MS });
    try {
      const capabilities = capabilitiesOfServer(document);
      this.#known = { capabilities, atMs: clock.monotonic() };
      return capabilities;
    } catch (cause) {
      if (!isKedgeError(cause)) throw cause;
      throw new KedgeError('kubernetes_answer_invalid', cause.message, { cause });
    }
  }
}
