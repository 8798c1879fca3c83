import type { Clock } from '../../host/clock.ts';
import type { Log } from '../../host/log.ts';
import { type Random, systemRandom } from '../../host/random.ts';
import { isKedgeError, KedgeError } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import { OWN_LABELS } from '../kubernetes/cluster-names.ts';
import type { EventRecorder } from '../kubernetes/event-recorder.ts';
import type { KubernetesApi } from '../kubernetes/kubernetes-api.ts';
import { CONFIG_MAP, type KubernetesObject, SECRET } from '../kubernetes/objects.ts';
import { closed, conflict, deleted, kubernetesStoreError } from './kubernetes-store-error.ts';
import {
  type ObjectName,
  parseSecretVersion,
  readTrustSecret,
  storedVersion,
  trustSecret,
} from './kubernetes-secret.ts';
import { secretEvents } from './secret-events.ts';
import type { TrustStore, Version, VersionedDocument } from './trust-store.ts';

/** What a {@link KubernetesTrustStore} is made of. It closes none of it. */
export interface KubernetesTrustStoreOptions {
  readonly api: KubernetesApi;
  /** Where the Secret is; the ConfigMap that marks it has the same name. */
  readonly where: ObjectName;
  readonly clock: Clock;
  readonly log: Log;
  /** Says on the Secret, or on its marker, what is wrong with it. */
  readonly events?: Pick<EventRecorder, 'record'>;
  /** Source of version tags. Default: the system's. */
  readonly random?: Random;
  /** How long the API server is asked to keep a watch open, seconds. Default 240. */
  readonly watchSeconds?: number;
}

/**
 * The {@link TrustStore} in the Kubernetes API: one Secret, for the CA replicas of one cluster.
 *
 * `swap` replaces the version that its `resourceVersion` names, or creates; the API server decides who was first, and
 * has it in etcd when it answers. Reads are answered from etcd too, not from a cache.
 *
 * Beside the Secret stands a ConfigMap of the same name, without anything of worth in it: it marks that there is, or
 * was, a trust state. A Secret that somebody deleted is so told from one that never was: the first is an error, and
 * never made anew over agents that trust the old anchors.
 */
export class KubernetesTrustStore implements TrustStore {
  readonly #options: KubernetesTrustStoreOptions;
  readonly #random: Random;
  readonly #closing = new AbortController();
  /** Whether this process has seen the marker: it is looked for until then. */
  #marked = false;

  constructor(options: KubernetesTrustStoreOptions) {
    this.#options = options;
    this.#random = options.random ?? systemRandom;
  }

  async read(signal: AbortSignal): Promise<VersionedDocument | null> {
    this.#check(signal);
    const secret = await this.#secret(signal);
    if (secret === null) return null;
    const read = this.#parsed(secret, signal);
    await this.#mark(signal);
    return read;
  }

  async swap(expected: Version | null, next: Uint8Array, signal: AbortSignal): Promise<Version> {
    this.#check(signal);
    if (next.length > LIMITS.trustStateBytes) {
      throw new KedgeError(
        'message_too_large',
        `a trust state of ${next.length} bytes is over the limit of ${LIMITS.trustStateBytes}`,
      );
    }
    const { where } = this.#options;
    const replaced = expected === null ? null : parseSecretVersion(expected);
    if (expected !== null && replaced === null) throw conflict();
    const tag = Buffer.from(this.#random.bytes(8)).toString('hex');
    const draft = trustSecret(where, next, tag, replaced);
    if (replaced === null && (await this.#secret(signal)) !== null) throw conflict();
    const stored = await this.#swapped((api) =>
      replaced === null ? api.create(SECRET, draft, { signal }) : api.replace(SECRET, draft, { signal }),
    );
    const version = storedVersion(stored, tag, where);
    // The swap stands; should the process end here, the next read makes the marker.
    if (replaced === null) await this.#mark(signal);
    return version;
  }

  async *watch(signal: AbortSignal): AsyncGenerator<VersionedDocument, never> {
    this.#check(signal);
    const leave = new AbortController();
    const stop = (): void => leave.abort(signal.aborted ? signal.reason : closed());
    signal.addEventListener('abort', stop, { once: true });
    this.#closing.signal.addEventListener('abort', stop, { once: true });
    try {
      for await (const versioned of this.#follow(leave.signal)) yield versioned;
      throw new KedgeError('internal', 'a watch of the trust store ended without a reason');
    } finally {
      signal.removeEventListener('abort', stop);
      this.#closing.signal.removeEventListener('abort', stop);
      leave.abort(closed());
    }
  }

  async close(): Promise<void> {
    this.#closing.abort(closed());
  }

  /** Lists, then follows the events; lists again when the API server no longer has what happened since. */
  async *#follow(signal: AbortSignal): AsyncGenerator<VersionedDocument> {
    const { where, watchSeconds = 240 } = this.#options;
    const selection = { namespace: where.namespace, fieldSelector: `metadata.name=${where.name}` };
    let yielded: Version | null = null;
    for (;;) {
      let { resourceVersion, items } = await this.#guarded((api) =>
        api.list(SECRET, { ...selection, signal }),
      );
      let isStale = items.length > 0;
      try {
        for (;;) {
          if (isStale) {
            // Read anew: events come one by one, and who reads slowly is to get the newest, not each.
            const newest = await this.read(signal);
            if (newest !== null && newest.version !== yielded) {
              yielded = newest.version;
              yield newest;
            }
            isStale = false;
          }
          const watch = { ...selection, resourceVersion, timeoutSeconds: watchSeconds, signal };
          for await (const event of secretEvents(this.#options, watch)) {
            if (event.kind === 'opened') continue;
            if (event.kind === 'bookmark') {
              ({ resourceVersion } = event);
              continue;
            }
            resourceVersion = event.object.metadata.resourceVersion ?? resourceVersion;
            if (event.kind === 'deleted') throw deleted(where);
            if (readTrustSecret(event.object, where).version === yielded) continue;
            isStale = true;
            break;
          }
        }
      } catch (error) {
        if (!isKedgeError(error, 'kubernetes_gone')) throw this.#translated(error, signal);
      }
    }
  }

  /** Makes the marker, once. That it cannot is no reason to withhold what was read. */
  async #mark(signal: AbortSignal): Promise<void> {
    if (this.#marked) return;
    const { api, where, log } = this.#options;
    const draft = {
      metadata: { ...where, labels: { ...OWN_LABELS, 'app.kubernetes.io/component': 'trust-state' } },
      data: { about: MARKER_TEXT },
    };
    try {
      await api.create(CONFIG_MAP, draft, { signal });
    } catch (error) {
      if (!isKedgeError(error, 'kubernetes_exists')) {
        signal.throwIfAborted();
        log.warn('trust_store.marker_failed', { error });
        return;
      }
    }
    this.#marked = true;
  }

  /** The Secret; null when there never was one. Throws `store_corrupt` when it was deleted. */
  async #secret(signal: AbortSignal): Promise<KubernetesObject | null> {
    const { where } = this.#options;
    const get = (): Promise<KubernetesObject | null> =>
      this.#orNull((api) => api.get(SECRET, where, { signal }));
    const secret = await get();
    if (secret !== null) return secret;
    const marker = await this.#orNull((api) => api.get(CONFIG_MAP, where, { signal }));
    if (marker === null) return null;
    // Another replica may have made both since we looked.
    const made = await get();
    if (made !== null) return made;
    const error = deleted(where);
    this.#tell(marker, error, signal);
    throw error;
  }

  #parsed(secret: KubernetesObject, signal: AbortSignal): VersionedDocument {
    try {
      return readTrustSecret(secret, this.#options.where);
    } catch (error) {
      if (error instanceof KedgeError) this.#tell(secret, error, signal);
      throw error;
    }
  }

  /** Where an operator would look. The object is named as it was read; its content is not repeated. */
  #tell(object: KubernetesObject, { message, hint = '' }: KedgeError, signal: AbortSignal): void {
    const event = { type: 'Warning', reason: BROKEN, message: `${message}; ${hint}` } as const;
    this.#options.events?.record(object, event, signal);
  }

  async #orNull(call: (api: KubernetesApi) => Promise<KubernetesObject>): Promise<KubernetesObject | null> {
    try {
      return await call(this.#options.api);
    } catch (error) {
      if (isKedgeError(error, 'kubernetes_not_found')) return null;
      throw this.#translated(error);
    }
  }

  async #swapped(call: (api: KubernetesApi) => Promise<KubernetesObject>): Promise<KubernetesObject> {
    try {
      return await call(this.#options.api);
    } catch (error) {
      // Not found: deleted since it was read, which the read that follows will say.
      if (isKedgeError(error, 'kubernetes_conflict', 'kubernetes_exists', 'kubernetes_not_found')) {
        throw conflict(error);
      }
      throw this.#translated(error);
    }
  }

  async #guarded<T>(call: (api: KubernetesApi) => Promise<T>): Promise<T> {
    try {
      return await call(this.#options.api);
    } catch (error) {
      throw this.#translated(error);
    }
  }

  #translated(error: unknown, signal?: AbortSignal): unknown {
    if (signal?.aborted === true) return signal.reason;
    return kubernetesStoreError(error, this.#options.where);
  }

  #check(signal: AbortSignal): void {
    signal.throwIfAborted();
    if (this.#closing.signal.aborted) throw closed();
  }
}

/** The reason of the event on a Secret that is broken, or on the marker of one that was deleted. */
const BROKEN = 'KedgeTrustStateBroken';

const MARKER_TEXT =
  'The Secret of this name holds the trust state of Kedge. While this ConfigMap is here, Kedge makes no new one: a Secret that is gone must be restored. To begin anew, with new trust anchors, delete both.';
