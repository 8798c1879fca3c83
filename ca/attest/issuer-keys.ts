import { backoffMs } from '../../host/backoff.ts';
import type { Clock } from '../../host/clock.ts';
import { errorFields, type Log } from '../../host/log.ts';
import type { Random } from '../../host/random.ts';
import { isKedgeError, KedgeError } from '../../pki/kedge-error.ts';
import { parseJwkSet } from './jwk-set.ts';
import type { JwsKey } from './jws-algorithms.ts';
import type { KeySource } from './key-source.ts';

/** What {@link IssuerKeys} are made of. Times are milliseconds. */
export interface IssuerKeysOptions {
  readonly source: KeySource;
  /** The issuer, for the log. */
  readonly issuer: string;
  /** How often the keys are fetched without a cause. */
  readonly refreshMs: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/** How soon an unknown `kid` may lead to a fetch after the one before: tokens of nobody must not make traffic. */
export const UNKNOWN_KID_INTERVAL_MS = 10_000;

const BACKOFF = { baseMs: 1_000, capMs: 60_000 };
const RETRY_AFTER_MS = 1_000;

/**
 * The keys of one token issuer, kept current.
 *
 * One fetch at a time, whoever wants it. A `kid` that is not known leads to a fetch, at most one in 10 s. What was
 * fetched last stays in use however long the source is away: an outage of an API server locks nobody out, and a key
 * that the issuer has dropped goes with the first fetch after it.
 */
export class IssuerKeys {
  readonly #options: IssuerKeysOptions;
  #keys: ReadonlyMap<string, JwsKey> | null = null;
  #fetching: Promise<void> | null = null;
  /** Monotonic: when a fetch last began. */
  #begunAtMs = Number.NEGATIVE_INFINITY;
  #failure: unknown = undefined;
  readonly #end = new AbortController();

  constructor(options: IssuerKeysOptions) {
    this.#options = options;
  }

  /** How many keys there are; 0 before the first fetch. */
  get size(): number {
    return this.#keys?.size ?? 0;
  }

  /** Why the last fetch failed; undefined when it did not. */
  get failure(): unknown {
    return this.#failure;
  }

  /** The key, if it is known now. */
  known(kid: string): JwsKey | undefined {
    return this.#keys?.get(kid);
  }

  /** Whether this very key is still one of the issuer's. */
  has(key: JwsKey): boolean {
    return this.#keys?.get(key.kid) === key;
  }

  /**
   * The key, fetched if need be and allowed. Undefined where the issuer does not have it. Throws
   * `attestation_unavailable` where that cannot be known: there were never any keys.
   */
  async find(kid: string): Promise<JwsKey | undefined> {
    const key = this.known(kid);
    if (key !== undefined) return key;
    const isDue = this.#options.clock.monotonic() - this.#begunAtMs >= UNKNOWN_KID_INTERVAL_MS;
    if (this.#fetching !== null || isDue) await this.refresh();
    if (this.#keys === null) {
      throw new KedgeError('attestation_unavailable', 'the keys of the token issuer cannot be fetched', {
        hint: 'come back after the time given; the log of the CA has the reason',
        retryAfterMs: RETRY_AFTER_MS * (1 + this.#options.random.fraction()),
        cause: this.#failure,
      });
    }
    return this.known(kid);
  }

  /** Fetches the keys. Never rejects: what was there before stays. */
  refresh(): Promise<void> {
    return (this.#fetching ??= this.#fetch().finally(() => {
      this.#fetching = null;
    }));
  }

  /** Fetches the keys now and then until the signal aborts, sooner after a failure; then resolves. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, random, refreshMs } = this.#options;
    const stop = (): void => this.#end.abort(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
    let failures = 0;
    while (!signal.aborted) {
      await this.refresh();
      failures = this.#failure === undefined ? 0 : failures + 1;
      const waitMs =
        failures === 0
          ? refreshMs * (0.9 + 0.2 * random.fraction())
          : Math.min(refreshMs, backoffMs(failures, BACKOFF, random));
      await clock.sleep(waitMs, signal).catch(() => undefined);
    }
  }

  async #fetch(): Promise<void> {
    const { source, issuer, clock, log } = this.#options;
    this.#begunAtMs = clock.monotonic();
    try {
      const found = parseJwkSet(await source.fetch(this.#end.signal), 'the JWK Set');
      const kept = this.#keep(found);
      if (this.#failure !== undefined) log.info('attest.keys_recovered', { issuer });
      this.#failure = undefined;
      if (kept !== this.#keys) log.info('attest.keys_changed', { issuer, kids: [...kept.keys()] });
      this.#keys = kept;
    } catch (error) {
      if (this.#end.signal.aborted) return;
      if (!isKedgeError(error)) throw error;
      if (this.#failure === undefined) {
        log.error('attest.keys_unavailable', { issuer, keys: this.size, error: errorFields(error) });
      }
      this.#failure = error;
    }
  }

  /** The same objects for the same keys, so that what they verified stays verified. */
  #keep(found: ReadonlyMap<string, JwsKey>): ReadonlyMap<string, JwsKey> {
    const before = this.#keys;
    if (before === null) return found;
    const merged = new Map(
      [...found].map(([kid, key]) => {
        const old = before.get(kid);
        return [kid, old !== undefined && old.isSameAs(key) ? old : key] as const;
      }),
    );
    const isSame = merged.size === before.size && [...merged].every(([kid, key]) => before.get(kid) === key);
    return isSame ? before : merged;
  }
}
