import { backoffMs, type BackoffOptions } from '../host/backoff.ts';
import type { Clock } from '../host/clock.ts';
import { isoTime } from '../host/iso-time.ts';
import { errorFields, type Log } from '../host/log.ts';
import type { Random } from '../host/random.ts';
import { Wakeup } from '../host/wakeup.ts';
import { isKedgeError } from '../pki/kedge-error.ts';
import type { SpiffeId, TrustDomain } from '../pki/spiffe-id.ts';
import type { Report, TrustBundle } from '../proto/gen/kedge/v1/identity.ts';
import type { AgentMetrics } from './agent-metrics.ts';
import { checkBundle, isTrusted } from './ca-answer.ts';
import type { TrustKeeper } from './ca-trust.ts';
import { CacheKeeper } from './cache-keeper.ts';
import type { CanaryRunner } from './canary-runner.ts';
import { after, instantOf, msUntil, sleepUntilDeadline } from './deadline.ts';
import { type FeedStatus, firstEmptyFeed, oldestInPlace } from './evidence.ts';
import { type FailedAttempt, failedAttempt } from './failed-attempt.ts';
import type { Feed } from './feed/feed.ts';
import type { IdentityCache } from './identity-cache.ts';
import type { IdentitySource, IssuedIdentity } from './identity-source.ts';
import { FeedPublisher } from './publisher.ts';
import type { RenewalRequest } from './renewal.ts';
import { buildReport } from './report.ts';
import type { SvidSnapshot } from './snapshot.ts';
import {
  type AgentEvent,
  type AgentState,
  attemptDueAt,
  INITIAL_STATE,
  transition,
  wakeAt,
} from './state.ts';

/** Waits between attempts to get an SVID. */
const ATTEMPT_BACKOFF = { baseMs: 250, capMs: 30_000 };
/** The part of what is left of the SVID that a wait takes at most: a CA that comes back late still finds us asking. */
const ATTEMPT_SHARE = 0.25;
/** A wait that the CA asks for is obeyed up to this, milliseconds. */
const RETRY_AFTER_CAP_MS = 300_000;
/** SVIDs that are kept track of until no feed has them. */
const MAX_HELD = 16;
/** A clock that is off by more than this is warned of, milliseconds. */
export const CLOCK_SKEW_WARN_MS = 10_000;

/** What an {@link Agent} is made of. */
export interface AgentOptions {
  readonly source: IdentitySource;
  readonly feeds: readonly Feed[];
  /** Woken at each change of what {@link Agent.report} says; the feeds wake it for their consumers. */
  readonly reportWakeup: Wakeup;
  readonly trustDomain: TrustDomain;
  /** Absent = whatever the CA attests. */
  readonly expectedId?: SpiffeId;
  /** Told of each bundle that passed the checks: connections to the CA are checked with it from now on. */
  readonly trust: TrustKeeper;
  /** Absent = an agent that restarts while the CA is away has nothing. */
  readonly cache?: IdentityCache;
  /** Absent = nobody dials the proxy. */
  readonly canary?: CanaryRunner;
  readonly agentVersion: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: AgentMetrics;
}

/**
 * One workload's identity: gets it, renews it, keeps every feed at it, and lets it go when it expires.
 *
 * What happens is decided by `state.ts`; this carries it out. One loop looks at the state and at the clock; attempts
 * and publications run beside it and come back as events.
 */
export class Agent {
  readonly #options: AgentOptions;
  readonly #publishers: readonly FeedPublisher[];
  readonly #wakeup = new Wakeup();
  #state: AgentState = INITIAL_STATE;
  #attempt: Promise<void> | null = null;
  #failure: FailedAttempt | null = null;
  /** SVIDs that a feed may still have, oldest first. */
  #held: { readonly generation: number; readonly svid: SvidSnapshot }[] = [];
  readonly #cache: CacheKeeper;

  constructor(options: AgentOptions) {
    this.#options = options;
    const { clock, random, log, metrics, cache, canary, trust } = options;
    this.#cache = new CacheKeeper({ cache, trust, log });
    this.#publishers = options.feeds.map(
      (feed) =>
        new FeedPublisher({
          feed,
          clock,
          random,
          log,
          onChange: () => this.#onFeedChange(),
          onPublication: (result) => {
            metrics.publications.add({ feed: feed.name, result });
            if (result === 'ok') canary?.nudge();
          },
        }),
    );
  }

  get state(): AgentState {
    return this.#state;
  }

  /** What the agent provably holds, for the CA. */
  report(): Report {
    const { agentVersion, canary } = this.#options;
    const { feeds } = this;
    const canaryResult = canary?.result ?? null;
    return buildReport({ agentVersion, feeds, clockSkewMs: this.#state.clockSkewMs, canaryResult });
  }

  /** Why the newest attempt to get an SVID failed; null = it did not. */
  get failure(): FailedAttempt | null {
    return this.#failure;
  }

  /** Why a proxy that starts now may find nothing; null = each feed has an identity for it. */
  get unready(): string | null {
    const { phase } = this.#state;
    if (phase !== 'serving') return `the agent is ${phase}`;
    const empty = firstEmptyFeed(this.feeds);
    return empty === undefined ? null : `the feed ${empty.name} has nothing yet`;
  }

  /** What each feed serves and each of its consumers holds. */
  get feeds(): readonly FeedStatus[] {
    return this.#publishers.map((publisher) => publisher.status);
  }

  /** Takes up what the cache holds, if that is any good. Before {@link Agent.run}. */
  async restore(): Promise<void> {
    const { clock, random, trustDomain, expectedId } = this.#options;
    const now = instantOf(clock);
    const fraction = random.fraction();
    const identity = await this.#cache.restore({ trustDomain, expectedId, now, fraction });
    if (identity !== null) this.#onIssued(identity, 'cache');
  }

  /** Works until `signal` is aborted. Never rejects. What the feeds serve then is left as it is. */
  async run(signal: AbortSignal): Promise<void> {
    const publishing = this.#publishers.map((publisher) => publisher.run(signal));
    const proving = this.#options.canary?.run(signal);
    while (!signal.aborted) {
      const seen = this.#wakeup.generation;
      const now = instantOf(this.#options.clock);
      this.#apply({ type: 'time', now });
      const dueAt = attemptDueAt(this.#state);
      if (this.#attempt === null && (dueAt === null || msUntil(dueAt, now) <= 0)) this.#startAttempt(signal);
      const until = wakeAt(this.#state, now, this.#attempt !== null);
      const sleep = (end: AbortSignal): Promise<void> => sleepUntilDeadline(this.#options.clock, until, end);
      // Only the end of the agent makes this reject; the loop sees it.
      await this.#wakeup.sleep(seen, sleep, signal).catch(() => {});
    }
    await Promise.all([...publishing, proving, this.#attempt]);
    await this.#cache.settled();
  }

  /** The CA pushed a bundle. One that fails the checks is refused, and logged. */
  receiveBundle(message: TrustBundle): void {
    const { trustDomain, log } = this.#options;
    try {
      const bundle = checkBundle(message, trustDomain, this.#state.bundle);
      if (bundle !== this.#state.bundle) this.#apply({ type: 'bundle', bundle });
    } catch (error) {
      log.warn('bundle.refused', { error: errorFields(error) });
    }
  }

  /** The CA asks for a renewal. `caNowMs` is its clock when it asked, milliseconds since the Unix epoch. */
  receiveRenewalRequest(request: RenewalRequest, caNowMs: number): void {
    const { clock, random } = this.#options;
    const now = instantOf(clock);
    this.#apply({ type: 'renewal-requested', request, caNowMs, now, fraction: random.fraction() });
  }

  #startAttempt(signal: AbortSignal): void {
    const { source, log, metrics, clock, random } = this.#options;
    this.#attempt = source
      .issue(this.#state.bundle, signal)
      .then(
        (identity) => {
          metrics.renewals.add({ result: 'ok' });
          this.#failure = null;
          this.#onIssued(identity, 'ca');
        },
        (error: unknown) => {
          if (signal.aborted) return;
          metrics.renewals.add({ result: 'failed' });
          this.#failure = failedAttempt(error);
          const failures = this.#state.failures + 1;
          const known = isKedgeError(error) ? error : undefined;
          const retryAfterMs = Math.min(known?.retryAfterMs ?? 0, RETRY_AFTER_CAP_MS);
          const waitMs = backoffMs(failures, this.#attemptBackoff(), random, retryAfterMs);
          const fields = { failures, retryInMs: Math.round(waitMs), error: errorFields(error) };
          if (this.#state.phase === 'serving') log.warn('svid.renewal_failed', fields);
          else log.error('svid.attempt_failed', fields);
          const denied = known?.spec.status === 'PERMISSION_DENIED';
          this.#apply({ type: 'attempt-failed', retryAt: after(instantOf(clock), waitMs), denied });
        },
      )
      .finally(() => {
        this.#attempt = null;
        this.#wakeup.wake();
      });
  }

  #attemptBackoff(): BackoffOptions {
    if (this.#state.phase !== 'serving') return ATTEMPT_BACKOFF;
    const { baseMs, capMs } = ATTEMPT_BACKOFF;
    const leftMs = msUntil(this.#state.expiry, instantOf(this.#options.clock));
    return { baseMs, capMs: Math.max(baseMs, Math.min(capMs, leftMs * ATTEMPT_SHARE)) };
  }

  #onIssued(identity: IssuedIdentity, from: 'ca' | 'cache'): void {
    const { log } = this.#options;
    const { svid, bundle, renewal, clockSkewMs } = identity;
    this.#apply({ type: 'issued', ...identity });
    log.info('svid.issued', {
      from,
      spiffeId: svid.spiffeId.toString(),
      serial: Buffer.from(svid.serialNumber).toString('hex'),
      notAfter: isoTime(svid.notAfterMs),
      renewAt: isoTime(renewal.at.wallMs),
      sequence: bundle.sequence,
      clockSkewMs,
    });
    if (clockSkewMs !== null && Math.abs(clockSkewMs) > CLOCK_SKEW_WARN_MS) {
      log.warn('clock.skewed', { clockSkewMs, hint: 'set the clock of this machine: SVIDs expire by it' });
    }
  }

  /** The one place where the state changes, and where what follows from a change is set going. */
  #apply(event: AgentEvent): void {
    const before = this.#state;
    const after = transition(before, event);
    if (after === before) return;
    this.#state = after;
    const { log, metrics, clock, trust, canary } = this.#options;
    if (after.bundle !== null && after.bundle !== before.bundle) {
      trust.trust(after.bundle);
      metrics.bundleSequence.set({}, Number(after.bundle.sequence));
    }
    if (after.clockSkewMs !== null) metrics.clockSkewSeconds.set({}, after.clockSkewMs / 1000);
    if (after.phase === 'serving') {
      const { snapshot, expiry } = after;
      if (after.generation !== before.generation) {
        if (this.#held.at(-1)?.svid !== snapshot.svid) {
          this.#held.push({ generation: snapshot.generation, svid: snapshot.svid });
          // Behind a feed that never follows they would pile up; these are left to the garbage collector.
          this.#held = this.#held.slice(-MAX_HELD);
        }
        metrics.svidNotAfterSeconds.set({}, snapshot.svid.notAfterMs / 1000);
        for (const publisher of this.#publishers) publisher.offer({ snapshot, expiry });
        canary?.offer(snapshot);
        this.#cache.keep(after);
        // The anchor of our SVID may have left the bundle: then nobody trusts it any more.
        const now = instantOf(clock);
        if (!isTrusted(snapshot.svid, snapshot.bundle, now.wallMs)) {
          log.warn('svid.untrusted', { sequence: snapshot.bundle.sequence });
          this.#apply({ type: 'svid-untrusted', now });
        }
      }
    } else if (after.phase !== before.phase) {
      if (after.phase === 'expired') log.error('svid.expired', { sequence: after.bundle?.sequence });
      metrics.svidNotAfterSeconds.set({}, 0);
      for (const publisher of this.#publishers) publisher.withdraw();
      canary?.offer(null);
      this.#cache.keep(after);
    } else if (after.bundle !== before.bundle) this.#cache.keep(after);
    this.#wakeup.wake();
    this.#onFeedChange();
  }

  /** An old key is let go only when no feed has it any more. */
  #onFeedChange(): void {
    const { feeds } = this;
    const oldest = oldestInPlace(feeds);
    if (oldest !== null) this.#options.canary?.published(oldest.generation);
    const isAllGone = this.#state.phase !== 'serving' && feeds.every(({ inPlace }) => inPlace === null);
    const isLetGo = (index: number): boolean =>
      isAllGone || (oldest !== null && (this.#held[index + 1]?.generation ?? Infinity) <= oldest.generation);
    while (this.#held.length > 0 && isLetGo(0)) this.#held.shift()?.svid.privateKey.destroy();
    this.#options.reportWakeup.wake();
  }
}
