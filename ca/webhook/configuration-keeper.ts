import { backoffMs } from '../../host/backoff.ts';
import type { Clock } from '../../host/clock.ts';
import { errorFields, type Log } from '../../host/log.ts';
import type { Random } from '../../host/random.ts';
import { Wakeup } from '../../host/wakeup.ts';
import { isKedgeError, KedgeError, quote } from '../../pki/kedge-error.ts';
import type { JsonMap } from '../inject/json.ts';
import { Informer } from '../kubernetes/informer.ts';
import type { KubernetesApi } from '../kubernetes/kubernetes-api.ts';
import type { KubernetesObject, ResourceType } from '../kubernetes/objects.ts';
import { type ConfigurationVerdict, judgeConfiguration, trustsAnchors } from './configuration-verdict.ts';

/** The kind of object that tells the API server about the webhook. */
export const MUTATING_WEBHOOK_CONFIGURATION: ResourceType = {
  apiVersion: 'admissionregistration.k8s.io/v1',
  kind: 'MutatingWebhookConfiguration',
  plural: 'mutatingwebhookconfigurations',
  namespaced: false,
};

/** What a {@link ConfigurationKeeper} is made of. */
export interface ConfigurationKeeperOptions {
  readonly api: Pick<KubernetesApi, 'list' | 'watch' | 'replace'>;
  readonly name: string;
  /** The webhooks that are to be in it, without caBundle. */
  readonly webhooks: readonly JsonMap[];
  /** The trust anchors of the moment, PEM. */
  readonly anchorsPem: () => string;
  /** Called when it became as it should be, or is no longer. */
  readonly onCurrent: (current: boolean) => void;
  /** Called when {@link ConfigurationKeeper.trustsAnchors} may have become true. */
  readonly onTrusted: () => void;
  readonly onWrite: () => void;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/** Before a write, up to so many milliseconds: of several replicas that see the same, one writes. */
const JITTER_MS = 500;
/** Between writes: with somebody who undoes each of them, Kedge does not fight, it repeats itself slowly. */
const REPEATED = { baseMs: 2_000, capMs: 60_000 };
/** As long without a write, milliseconds, and the next one is a first one again. */
const CALM_MS = 300_000;
const FAILED = { baseMs: 500, capMs: 30_000 };
/** How long an anchor that this replica does not know stays in the caBundle. */
const UNKNOWN_ANCHOR_MS = 10_000;
/** Nothing wakes a loop that has nothing to wait for but this, milliseconds. */
const IDLE_MS = 600_000;

/**
 * Keeps the MutatingWebhookConfiguration as it should be, in every replica at once: the trust anchors in its caBundle,
 * and everything that decides which pods the webhook is asked about.
 *
 * A write replaces the version that was read, so that nobody's change is lost unseen; who loses looks again. What others
 * put beside our webhooks stays. It is never made anew: that is the installation's, and the CA need not have the right.
 */
export class ConfigurationKeeper {
  readonly #options: ConfigurationKeeperOptions;
  readonly #informer: Informer<KubernetesObject>;
  readonly #changes = new Wakeup();
  #isCurrent = false;
  #isMissing = false;
  /** Writes since the last calm, and when the last one was. */
  #writes = 0;
  #wroteAtMs = Number.NEGATIVE_INFINITY;
  /** Since when the caBundle holds an anchor that we do not know; null = it holds none. */
  #unknownSinceMs: number | null = null;

  constructor(options: ConfigurationKeeperOptions) {
    this.#options = options;
    const { api, name, clock, random, log } = options;
    this.#informer = new Informer({
      api,
      type: MUTATING_WEBHOOK_CONFIGURATION,
      // RBAC gives the right to this one alone, and then asks for this selector.
      selection: { fieldSelector: `metadata.name=${name}` },
      read: (object) => object,
      onChange: () => this.#changes.wake(),
      clock,
      random,
      log,
    });
  }

  /** Whether all of it was as it should be at the last look. */
  get isCurrent(): boolean {
    return this.#isCurrent;
  }

  /** Whether the API server trusts every anchor of the present bundle, as far as is known. */
  get trustsAnchors(): boolean {
    const { name, webhooks, anchorsPem } = this.#options;
    const object = this.#informer.get(name);
    return object !== undefined && trustsAnchors(object['webhooks'], webhooks, anchorsPem());
  }

  /** The trust anchors may be others now. */
  trustChanged(): void {
    this.#changes.wake();
  }

  /** Keeps it, until the signal aborts. Call it once. */
  async run(signal: AbortSignal): Promise<void> {
    const following = this.#informer.run(signal);
    await this.#informer.untilSynced(signal).catch((error: unknown) => {
      if (!signal.aborted) throw error;
    });
    let failures = 0;
    while (!signal.aborted) {
      const generation = this.#changes.generation;
      let waitMs: number;
      try {
        waitMs = await this.#keep(signal);
        failures = 0;
      } catch (error) {
        if (signal.aborted) break;
        if (!isKedgeError(error)) throw error;
        failures += 1;
        waitMs = backoffMs(failures, FAILED, this.#options.random, error.retryAfterMs);
        // Another replica was first: what it wrote comes by itself.
        if (error.code !== 'kubernetes_conflict') {
          this.#options.log.warn('webhook_configuration.failed', { error: errorFields(error), failures });
        }
      }
      const sleep = (end: AbortSignal): Promise<void> => this.#options.clock.sleep(waitMs, end);
      await this.#changes.sleep(generation, sleep, signal).catch((error: unknown) => {
        if (!signal.aborted) throw error;
      });
    }
    await following;
  }

  /** Looks, and writes where that is needed and it is time. Gives how long it may wait for the next look. */
  async #keep(signal: AbortSignal): Promise<number> {
    const { name, webhooks, anchorsPem } = this.#options;
    const object = this.#informer.get(name);
    if (object === undefined) return this.#missing();
    this.#isMissing = false;
    if (this.trustsAnchors) this.#options.onTrusted();
    const verdict = judgeConfiguration(object['webhooks'], webhooks, anchorsPem());
    if (verdict.kind === 'current') {
      this.#unknownSinceMs = null;
      this.#show(true);
      return IDLE_MS;
    }
    this.#show(false);
    const waitMs = this.#untilWriteMs(verdict);
    if (waitMs > 0) return waitMs;
    await this.#options.clock.sleep(this.#options.random.fraction() * JITTER_MS, signal);
    // Somebody else was faster: look again, at once.
    if (this.#informer.get(name) !== object) return 0;
    await this.#write(object, verdict.webhooks, signal);
    return IDLE_MS;
  }

  #untilWriteMs({ removesAnchors }: Extract<ConfigurationVerdict, { kind: 'drifted' }>): number {
    const nowMs = this.#options.clock.monotonic();
    this.#unknownSinceMs = removesAnchors ? (this.#unknownSinceMs ?? nowMs) : null;
    const forAnchors = this.#unknownSinceMs === null ? 0 : this.#unknownSinceMs + UNKNOWN_ANCHOR_MS - nowMs;
    if (nowMs - this.#wroteAtMs >= CALM_MS) this.#writes = 0;
    const pauseMs =
      this.#writes === 0 ? 0 : Math.min(REPEATED.capMs, REPEATED.baseMs * 2 ** (this.#writes - 1));
    return Math.max(forAnchors, this.#wroteAtMs + pauseMs - nowMs, 0);
  }

  async #write(object: KubernetesObject, webhooks: readonly JsonMap[], signal: AbortSignal): Promise<void> {
    const { api, name, log, clock, onWrite } = this.#options;
    this.#writes += 1;
    this.#wroteAtMs = clock.monotonic();
    const { managedFields: _, ...metadata } = object.metadata;
    await api.replace(MUTATING_WEBHOOK_CONFIGURATION, { ...object, metadata, webhooks }, { signal });
    onWrite();
    log.info('webhook_configuration.written', { name, writes: this.#writes });
  }

  #missing(): number {
    const { name, log } = this.#options;
    this.#show(false);
    if (!this.#isMissing) {
      this.#isMissing = true;
      const error = new KedgeError(
        'webhook_configuration_missing',
        `there is no MutatingWebhookConfiguration ${quote(name)}`,
        { hint: 'kedge install prints it; without it no pod gets an agent' },
      );
      log.warn('webhook_configuration.missing', { error: errorFields(error) });
    }
    return IDLE_MS;
  }

  #show(current: boolean): void {
    if (current === this.#isCurrent) return;
    this.#isCurrent = current;
    this.#options.onCurrent(current);
  }
}
