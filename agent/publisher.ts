import { backoffMs } from '../host/backoff.ts';
import type { Clock } from '../host/clock.ts';
import { errorFields, type Log } from '../host/log.ts';
import type { Random } from '../host/random.ts';
import { Wakeup } from '../host/wakeup.ts';
import type { ErrorCode } from '../pki/error-table.ts';
import { isKedgeError } from '../pki/kedge-error.ts';
import {
  after,
  type Deadline,
  earlier,
  type Instant,
  instantOf,
  msUntil,
  sleepUntilDeadline,
} from './deadline.ts';
import type { FeedStatus } from './evidence.ts';
import type { Feed } from './feed/feed.ts';
import type { IdentitySnapshot } from './snapshot.ts';

/** Waits between tries to publish one snapshot. */
const PUBLISH_BACKOFF = { baseMs: 200, capMs: 15_000 };
/** Longest that one publication may take, hook included, in milliseconds. */
export const PUBLISH_TIMEOUT_MS = 60_000;
/** Waits between tries to withdraw: short, since what has expired is in a consumer's reach until it succeeds. */
const WITHDRAW_BACKOFF = { baseMs: 100, capMs: 1_000 };
/** Longest that one withdrawal may take before it is tried again, in milliseconds. */
const WITHDRAW_TIMEOUT_MS = 5_000;

/** Failures after which the new one is in place or partly so, only not loaded by all. */
const EXPOSED_BY_FAILURE = [
  'hook_failed',
  'haproxy_unreachable',
  'haproxy_refused',
  'haproxy_answer_invalid',
  'haproxy_payload_too_large',
  'haproxy_reload_needed',
  'haproxy_config_unusable',
] as const;

/** Failures in a row of one kind of act, and until when the next try waits. Owned by the publisher's loop. */
interface Retry {
  failures: number;
  /** Null = nothing holds the next try back. */
  at: Deadline | null;
}

/** A snapshot and when its SVID expires here. */
export interface Publication {
  readonly snapshot: IdentitySnapshot;
  readonly expiry: Deadline;
}

/** What a {@link FeedPublisher} is made of. */
export interface FeedPublisherOptions {
  readonly feed: Feed;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Called after each change of {@link FeedPublisher.status}. */
  readonly onChange: () => void;
  /** Called after each try to publish. */
  readonly onPublication: (result: 'ok' | 'failed') => void;
}

/**
 * Keeps one feed at the newest snapshot, by itself: a slow or failing feed delays no other.
 *
 * The newest wins: what is offered while the feed is busy replaces what waited. A failed publication is tried again
 * with back-off. What is in place is withdrawn when it expires, also when its successor cannot be brought in; and a
 * withdrawal interrupts a publication under way. Publications and withdrawals wait for themselves alone: a feed that
 * cannot be written holds back no withdrawal of what has expired.
 */
export class FeedPublisher {
  readonly #options: FeedPublisherOptions;
  readonly #wakeup = new Wakeup();
  /** What the feed should have; null = no identity; undefined = not known yet, leave the feed alone. */
  #target: Publication | null | undefined;
  /** What the feed acknowledged last. */
  #inPlace: IdentitySnapshot | null = null;
  /** When the newest SVID that a consumer may find at the feed expires; null = there is none. */
  #exposedUntil: Deadline | null = null;
  #errorCode: ErrorCode | null = null;
  #withdrawn = false;
  readonly #publishing: Retry = { failures: 0, at: null };
  readonly #withdrawing: Retry = { failures: 0, at: null };
  #attempt: AbortController | null = null;

  constructor(options: FeedPublisherOptions) {
    this.#options = options;
  }

  /** Replaces what the feed should have. */
  offer(publication: Publication): void {
    this.#target = publication;
    this.#publishing.at = null;
    this.#wakeup.wake();
  }

  /** The feed should serve no identity. */
  withdraw(): void {
    if (this.#target === null) return;
    this.#target = null;
    this.#withdrawing.at = null;
    this.#attempt?.abort(new Error('the identity was withdrawn'));
    this.#wakeup.wake();
  }

  get status(): FeedStatus {
    const { feed } = this.#options;
    return {
      name: feed.name,
      inPlace: this.#inPlace,
      consumers: feed.consumers(),
      errorCode: this.#errorCode,
    };
  }

  /** Works until `signal` is aborted. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const stop = (): void => this.#attempt?.abort(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
    while (!signal.aborted) {
      const seen = this.#wakeup.generation;
      const now = instantOf(this.#options.clock);
      const target = this.#target;
      if (this.#mustWithdraw(now) && isDue(this.#withdrawing, now)) await this.#withdrawNow();
      else if (this.#isNews(target, now) && isDue(this.#publishing, now)) await this.#publish(target);
      else await this.#wait(seen, now, signal);
    }
    signal.removeEventListener('abort', stop);
  }

  #mustWithdraw(now: Instant): boolean {
    if (this.#target === null && !this.#withdrawn) return true;
    return this.#exposedUntil !== null && msUntil(this.#exposedUntil, now) <= 0;
  }

  #isNews(target: Publication | null | undefined, now: Instant): target is Publication {
    if (target === null || target === undefined || msUntil(target.expiry, now) <= 0) return false;
    return this.#inPlace === null || target.snapshot.generation > this.#inPlace.generation;
  }

  async #publish(target: Publication): Promise<void> {
    const { feed, log } = this.#options;
    const { generation, bundle } = target.snapshot;
    this.#withdrawn = false;
    try {
      await this.#attempted(PUBLISH_TIMEOUT_MS, target.expiry, (signal) =>
        feed.publish(target.snapshot, signal),
      );
      this.#inPlace = target.snapshot;
      this.#exposedUntil = target.expiry;
      this.#succeeded(this.#publishing);
      // Older ones are out of everyone's reach: what could not be withdrawn has been replaced.
      this.#withdrawing.at = null;
      log.info('feed.published', { feed: feed.name, generation, sequence: bundle.sequence });
      this.#options.onPublication('ok');
    } catch (error) {
      // After these the new one is in place, only not loaded; after any other failure the one before is.
      if (this.#exposedUntil === null || isKedgeError(error, ...EXPOSED_BY_FAILURE))
        this.#exposedUntil = target.expiry;
      if (this.#target === null) return;
      this.#failed(error, 'feed.publication_failed', this.#publishing, PUBLISH_BACKOFF);
      this.#options.onPublication('failed');
    }
    this.#options.onChange();
  }

  async #withdrawNow(): Promise<void> {
    const { feed, log } = this.#options;
    const generation = this.#inPlace?.generation;
    try {
      await this.#attempted(WITHDRAW_TIMEOUT_MS, null, (signal) => feed.withdraw(signal));
      this.#inPlace = null;
      this.#exposedUntil = null;
      this.#withdrawn = true;
      this.#succeeded(this.#withdrawing);
      log.warn('feed.withdrawn', { feed: feed.name, generation });
    } catch (error) {
      this.#failed(error, 'feed.withdrawal_failed', this.#withdrawing, WITHDRAW_BACKOFF);
    }
    this.#options.onChange();
  }

  /**
   * Runs `action` with a signal that ends after `timeoutMs`, at `expiry`, when what consumers can find now expires, or
   * when the attempt is interrupted; it is waited for no longer than that, whether it obeys or not.
   */
  async #attempted<T>(
    timeoutMs: number,
    expiry: Deadline | null,
    action: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const { clock } = this.#options;
    const now = instantOf(clock);
    const isAhead = (deadline: Deadline | null): deadline is Deadline =>
      deadline !== null && msUntil(deadline, now) > 0;
    const until = [expiry, this.#exposedUntil]
      .filter(isAhead)
      .reduce((a, b) => earlier(a, b, now), after(now, timeoutMs));
    const attempt = new AbortController();
    const timer = new AbortController();
    this.#attempt = attempt;
    void sleepUntilDeadline(clock, until, timer.signal).then(
      () => attempt.abort(new Error('the feed did not finish in time')),
      () => {},
    );
    const interrupted = Promise.withResolvers<never>();
    const interrupt = (): void => interrupted.reject(attempt.signal.reason);
    attempt.signal.addEventListener('abort', interrupt, { once: true });
    try {
      return await Promise.race([action(attempt.signal), interrupted.promise]);
    } finally {
      this.#attempt = null;
      attempt.signal.removeEventListener('abort', interrupt);
      timer.abort();
    }
  }

  #succeeded(retry: Retry): void {
    retry.failures = 0;
    retry.at = null;
    this.#errorCode = null;
  }

  #failed(error: unknown, event: string, retry: Retry, backoff: Parameters<typeof backoffMs>[1]): void {
    const { feed, clock, random, log } = this.#options;
    retry.failures += 1;
    const waitMs = backoffMs(retry.failures, backoff, random);
    retry.at = after(instantOf(clock), waitMs);
    this.#errorCode = isKedgeError(error) ? error.code : 'feed_failed';
    log.warn(event, { feed: feed.name, retryInMs: Math.round(waitMs), error: errorFields(error) });
  }

  async #wait(seen: number, now: Instant, signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    const deadlines = [this.#publishing.at, this.#withdrawing.at, this.#exposedUntil].filter(
      (deadline) => deadline !== null && msUntil(deadline, now) > 0,
    );
    const until = deadlines.reduce(
      (a, b) => (a !== null && b !== null ? earlier(a, b, now) : (a ?? b)),
      null,
    );
    try {
      await this.#wakeup.sleep(seen, (end) => sleepUntilDeadline(clock, until, end), signal);
    } catch {
      // Only the end of the agent ends this sleep early; the loop sees it.
    }
  }
}

function isDue({ at }: Retry, now: Instant): boolean {
  return at === null || msUntil(at, now) <= 0;
}
