import { backoffMs } from '../../host/backoff.ts';
import type { Clock } from '../../host/clock.ts';
import { errorFields, type Log } from '../../host/log.ts';
import type { Random } from '../../host/random.ts';
import { Wakeup } from '../../host/wakeup.ts';
import { isKedgeError, type KedgeError } from '../../pki/kedge-error.ts';
import type { KubernetesApi, Selection } from './kubernetes-api.ts';
import type { KubernetesObject, ResourceType } from './objects.ts';

/** What happened to one object, as an {@link Informer} tells it. */
export type ObjectChange<T> =
  | { readonly kind: 'set'; readonly key: string; readonly value: T; readonly previous: T | undefined }
  | { readonly kind: 'gone'; readonly key: string; readonly previous: T };

/** What an {@link Informer} is made of. */
export interface InformerOptions<T> {
  readonly api: Pick<KubernetesApi, 'list' | 'watch'>;
  readonly type: ResourceType;
  /** Which objects; default all. */
  readonly selection?: Selection;
  /**
   * What is kept of an object: as little as is needed, for there may be many. Nothing of an object was checked but its
   * metadata, and people edit objects by hand: it must take anything, and must not throw.
   */
  readonly read: (object: KubernetesObject) => T;
  /** Called for each change, in order, while the cache is already changed. Must not throw. */
  readonly onChange?: (change: ObjectChange<T>) => void;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** How long one watch is open, seconds; the API server is asked for this up to twice this. Default 60. */
  readonly watchSeconds?: number;
  /** List again that often even though the watch tells nothing, milliseconds; undefined = never. */
  readonly relistMs?: number;
}

const WATCH_SECONDS = 60;
/** Between failures: soon again at first, and no more than a few calls a minute from each replica in an outage. */
const BACKOFF = { baseMs: 500, capMs: 15_000 };
/** After these a watch cannot go on from where it was. */
const LIST_AGAIN = ['kubernetes_gone', 'kubernetes_answer_invalid', 'kubernetes_refused'] as const;
/** A watch that ended sooner than this without telling anything counts as a failure: no loop without a wait. */
const SHORT_WATCH_MS = 1_000;

/** The name of an object in an {@link Informer}: `namespace/name`, or `name` where there is no namespace. */
export function objectKey({ metadata: { namespace, name } }: Pick<KubernetesObject, 'metadata'>): string {
  return namespace === undefined ? name : `${namespace}/${name}`;
}

/**
 * A copy of a set of objects that follows the API server: list, then watch from there, over and over.
 *
 * - Before the first list it is empty and not {@link Informer.synced}. From then on it holds what was there at some
 *   instant of the past; instants only go forward. A change is seen once, or folded into a later one of its object.
 * - While the API server is away the copy stays as it is: nothing counts as gone because nobody could look. How old
 *   the copy may be is {@link Informer.staleMs}.
 * - A watch that ends goes on from its last event or bookmark. Only `kubernetes_gone`, or a watch that made no sense,
 *   leads to a new list, which is compared with the copy: what is missing in it is gone.
 * - Failures are logged when they begin and when they end, and retried with full jitter for ever; never thrown.
 * - One task writes: reading is safe at any time, and `onChange` sees changes one after the other.
 */
export class Informer<T> {
  readonly #options: InformerOptions<T>;
  readonly #values = new Map<string, T>();
  readonly #woken = new Wakeup();
  #synced = false;
  /** Monotonic: when the API server last told, or showed, that this is how things are. */
  #confirmedAtMs = Number.NEGATIVE_INFINITY;
  /** Where the next watch begins; null = list first. */
  #at: string | null = null;
  /** How many failures there were since a watch told something: for the back-off. */
  #failures = 0;
  #failure: KedgeError | undefined = undefined;

  constructor(options: InformerOptions<T>) {
    this.#options = options;
  }

  /** Whether there was a list yet. */
  get synced(): boolean {
    return this.#synced;
  }

  /** Why the copy does not follow at the moment; undefined when it does. */
  get failure(): KedgeError | undefined {
    return this.#failure;
  }

  /**
   * Milliseconds since the copy was last known to be current; infinite before the first list. Grows up to the length
   * of one watch in the calm.
   */
  get staleMs(): number {
    return this.#options.clock.monotonic() - this.#confirmedAtMs;
  }

  get size(): number {
    return this.#values.size;
  }

  /** By {@link objectKey}. */
  get(key: string): T | undefined {
    return this.#values.get(key);
  }

  entries(): IterableIterator<readonly [key: string, value: T]> {
    return this.#values.entries();
  }

  /** Resolves when {@link Informer.synced}; rejects with the signal's reason. */
  async untilSynced(signal: AbortSignal): Promise<void> {
    while (!this.#synced) {
      const seen = this.#woken.generation;
      await this.#woken.sleep(seen, (end) => this.#options.clock.sleep(60_000, end), signal);
    }
  }

  /** Follows until the signal aborts; then resolves. To be called once. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, relistMs = Number.POSITIVE_INFINITY } = this.#options;
    let listedAtMs = Number.NEGATIVE_INFINITY;
    while (!signal.aborted) {
      try {
        if (this.#at === null || clock.monotonic() - listedAtMs >= relistMs) {
          this.#at = await this.#list(signal);
          listedAtMs = clock.monotonic();
        }
        await this.#watch(this.#at, signal);
      } catch (error) {
        if (signal.aborted) return;
        if (!isKedgeError(error)) throw error;
        if (isKedgeError(error, ...LIST_AGAIN)) this.#at = null;
        this.#noteFailure(error);
        await this.#wait(signal, error.retryAfterMs);
      }
    }
  }

  async #list(signal: AbortSignal): Promise<string> {
    const { api, type, selection = {}, read } = this.#options;
    const found = new Map<string, T>();
    const take = (object: KubernetesObject): void => void found.set(objectKey(object), read(object));
    const { items, resourceVersion } = await api.list(type, { ...selection, take, signal });
    for (const object of items) take(object);
    const missing = new Set(this.#values.keys());
    for (const [key, value] of found) {
      missing.delete(key);
      this.#set(key, value);
    }
    for (const key of missing) this.#remove(key);
    this.#synced = true;
    this.#confirm();
    this.#woken.wake();
    return resourceVersion;
  }

  /** One watch, from `from` to its end. What it told before it failed is kept, and the next goes on from there. */
  async #watch(from: string, signal: AbortSignal): Promise<void> {
    const { api, type, selection = {}, read, random, clock, watchSeconds = WATCH_SECONDS } = this.#options;
    const timeoutSeconds = Math.ceil(watchSeconds * (1 + random.fraction()));
    const startMs = clock.monotonic();
    let toldAnything = false;
    const events = api.watch(type, { ...selection, resourceVersion: from, timeoutSeconds, signal });
    for await (const event of events) {
      this.#confirm();
      if (event.kind === 'opened') continue;
      toldAnything = true;
      this.#failures = 0;
      if (event.kind === 'bookmark') {
        this.#at = event.resourceVersion;
        continue;
      }
      const { object } = event;
      if (event.kind === 'deleted') this.#remove(objectKey(object));
      else this.#set(objectKey(object), read(object));
      this.#at = object.metadata.resourceVersion ?? this.#at;
    }
    if (!toldAnything && clock.monotonic() - startMs < SHORT_WATCH_MS) {
      this.#failures += 1;
      await this.#wait(signal);
    } else {
      this.#failures = 0;
      this.#confirm();
    }
  }

  #set(key: string, value: T): void {
    const previous = this.#values.get(key);
    this.#values.set(key, value);
    this.#options.onChange?.({ kind: 'set', key, value, previous });
  }

  #remove(key: string): void {
    const previous = this.#values.get(key);
    if (previous === undefined) return;
    this.#values.delete(key);
    this.#options.onChange?.({ kind: 'gone', key, previous });
  }

  #confirm(): void {
    const { clock, log, type } = this.#options;
    this.#confirmedAtMs = clock.monotonic();
    if (this.#failure !== undefined) log.info('kubernetes.watch_resumed', { resource: type.plural });
    this.#failure = undefined;
  }

  #noteFailure(error: KedgeError): void {
    this.#failures += 1;
    // A resourceVersion that is too old is part of the calm: nothing of the selection changed for long.
    if (this.#failure !== undefined || error.code === 'kubernetes_gone') return;
    this.#failure = error;
    this.#options.log.warn('kubernetes.watch_failed', {
      resource: this.#options.type.plural,
      error: errorFields(error),
    });
  }

  async #wait(signal: AbortSignal, retryAfterMs?: number): Promise<void> {
    const { clock, random } = this.#options;
    const ms = backoffMs(Math.max(1, this.#failures), BACKOFF, random, retryAfterMs);
    await clock.sleep(ms, signal).catch(() => undefined);
  }
}
