import type { Clock } from '../../host/clock.ts';
import { errorFields, type Log } from '../../host/log.ts';
import type { Random } from '../../host/random.ts';
import { isKedgeError, KedgeError } from '../../pki/kedge-error.ts';
import { missingRule } from '../kubernetes/api-refusal.ts';
import type { AccessQuestion, KubernetesApi } from '../kubernetes/kubernetes-api.ts';
import { TOKEN_REVIEW } from '../kubernetes/objects.ts';
import type { Attestor, Peer, WorkloadInstance } from './attestor.ts';
import { serviceAccountSubject, type Unbound } from './bound-token.ts';
import { claimInvalid, type JwtClaims } from './jwt-claims.ts';
import { checkClaims, readToken, type UsableClaims, usableClaims } from './jwt.ts';
import { reviewedInstance } from './review-status.ts';
import { ReviewTurns } from './review-turns.ts';
import { VerifiedTokens } from './verified-tokens.ts';

/** What a {@link TokenReviewAttestor} is made of. Times are milliseconds. */
export interface TokenReviewAttestorOptions {
  readonly api: Pick<KubernetesApi, 'create' | 'mayI'>;
  /** Name of the cluster, as it goes into {@link WorkloadInstance}. */
  readonly cluster: string;
  /** What a token must be for. Required: a token for anyone else must not work here. */
  readonly audience: string;
  readonly unbound: Unbound;
  /** Tolerance between the API server's clock and ours. */
  readonly leewayMs: number;
  /** How long one review is good for, at most {@link MAX_REUSE_MS}; 0 = each use is reviewed. */
  readonly reuseMs: number;
  /** How many reviews go on at once. */
  readonly concurrent: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/**
 * kube-apiserver itself goes on accepting a token for 10 s after its pod is gone. No more than that again is added to
 * it here.
 */
export const MAX_REUSE_MS = 10_000;

/** What the CA must be allowed to do. */
export const TOKEN_REVIEW_ACCESS: AccessQuestion = {
  verb: 'create',
  group: 'authentication.k8s.io',
  resource: 'tokenreviews',
};

const WAITING = 4_096;
/** Of one address: a node whose pods share its address may start many at once. */
const PER_ADDRESS = 1_024;
/** When agents are to come back while the API server does not answer; jittered up to twice that. */
const RETRY_AFTER_MS = 1_000;
/** However long the API server asks for: it may be better again sooner, and somebody must look. */
const THROTTLE_CAP_MS = 30_000;

interface Reviewed {
  readonly instance: WorkloadInstance;
  readonly claims: UsableClaims;
  /** Monotonic. */
  readonly reviewedAtMs: number;
}

interface SharedReview {
  readonly answer: Promise<WorkloadInstance>;
  /** How many wait for it. */
  readonly callers: { count: number };
}

/**
 * {@link Attestor} that asks the Kubernetes API server about each token (TokenReview): the one that also knows whether
 * the pod is still there.
 *
 * What a token says of itself, which proves nothing, is looked at first: what is no token of a ServiceAccount for us,
 * or has expired, costs the API server nothing. Calls for the same token at the same time share one review, and a
 * review is remembered for `reuseMs`. While the API server asks for fewer requests, nobody asks.
 */
export class TokenReviewAttestor implements Attestor {
  readonly #options: TokenReviewAttestorOptions;
  readonly #turns: ReviewTurns;
  readonly #known = new VerifiedTokens<Reviewed>();
  readonly #underReview = new Map<string, SharedReview>();
  /** Monotonic: until when the API server asked to be left alone. */
  #throttledUntilMs = 0;
  #isAway = false;

  constructor(options: TokenReviewAttestorOptions) {
    if (options.audience === '') {
      throw new KedgeError('config_invalid', 'attestation by TokenReview needs an audience');
    }
    this.#options = options;
    this.#turns = new ReviewTurns({
      concurrent: options.concurrent,
      waiting: WAITING,
      perAddress: PER_ADDRESS,
    });
  }

  /** Whether the last review had an answer. */
  get isAway(): boolean {
    return this.#isAway;
  }

  /** Reviews under way, and calls that wait for one. */
  get load(): { readonly running: number; readonly waiting: number } {
    return { running: this.#turns.running, waiting: this.#turns.waiting };
  }

  /**
   * Whether these credentials may create TokenReviews. Throws `kubernetes_forbidden`, whose hint is the RBAC rule that
   * is missing, and what {@link KubernetesApi} throws where it cannot be asked.
   */
  async checkAccess(signal: AbortSignal): Promise<void> {
    if (await this.#options.api.mayI(TOKEN_REVIEW_ACCESS, { signal })) return;
    throw new KedgeError(
      'kubernetes_forbidden',
      'this CA may not create TokenReviews, so it can attest nobody',
      {
        hint: missingRule(TOKEN_REVIEW_ACCESS),
      },
    );
  }

  attest(token: string, peer: Peer, signal: AbortSignal): Promise<WorkloadInstance> | WorkloadInstance {
    signal.throwIfAborted();
    const { clock, reuseMs } = this.#options;
    const digest = VerifiedTokens.digest(token);
    const known = this.#known.get(digest);
    if (known !== undefined) {
      if (clock.monotonic() - known.reviewedAtMs < Math.min(reuseMs, MAX_REUSE_MS)) {
        this.#checkTimes(known.claims);
        return known.instance;
      }
      this.#known.forget(digest);
    }
    const { claims } = readToken(token);
    this.#checkTimes(claims);
    const shared = this.#underReview.get(digest) ?? this.#begin(token, digest, claims, peer);
    const { callers } = shared;
    callers.count += 1;
    return leavable(shared.answer, signal).finally(() => {
      callers.count -= 1;
    });
  }

  #checkTimes(claims: UsableClaims): void {
    const { audience, leewayMs, clock } = this.#options;
    checkClaims(claims, { audience, leewayMs, nowMs: clock.now() });
  }

  /** One review for all that ask about the same token: it ends by its own deadline, not because one of them leaves. */
  #begin(token: string, digest: string, claims: JwtClaims, { address }: Peer): SharedReview {
    const host = address.replace(/:\d+$/, '');
    const callers = { count: 0 };
    const work = async (): Promise<WorkloadInstance> => {
      // Whoever begins it counts from the next turn of the event loop on.
      await Promise.resolve();
      if (callers.count > 0) return this.#review(token, digest, claims);
      throw new KedgeError('cancelled', 'whoever asked about the token has left');
    };
    const answer = this.#turns.run(host, work).finally(() => this.#underReview.delete(digest));
    const shared: SharedReview = { answer, callers };
    this.#underReview.set(digest, shared);
    return shared;
  }

  async #review(token: string, digest: string, claims: JwtClaims): Promise<WorkloadInstance> {
    const { api, cluster, audience, unbound, clock, reuseMs } = this.#options;
    const waitMs = this.#throttledUntilMs - clock.monotonic();
    if (waitMs > 0) throw this.#unavailable('asks for fewer requests', waitMs);
    const startMs = clock.monotonic();
    let status: unknown;
    try {
      const signal = new AbortController().signal;
      const review = await api.create(TOKEN_REVIEW, { spec: { token, audiences: [audience] } }, { signal });
      status = review['status'];
    } catch (error) {
      throw this.#failed(error);
    }
    this.#noteAnswer();
    const instance = reviewedInstance(status, {
      cluster,
      audience,
      unbound,
      tokenExpiresAtMs: claims.expiresAtMs,
    });
    // The claims are proved by now: they must say the same.
    if (claims.subject !== serviceAccountSubject(instance.namespace, instance.serviceAccount)) {
      throw claimInvalid('sub', 'not the user that the API server names');
    }
    // From when it was asked: the answer may be as old as that.
    if (reuseMs > 0)
      this.#known.put(digest, { instance, claims: usableClaims(claims), reviewedAtMs: startMs });
    return instance;
  }

  #noteAnswer(): void {
    if (this.#isAway) this.#options.log.info('attest.recovered', { cluster: this.#options.cluster });
    this.#isAway = false;
  }

  #failed(error: unknown): unknown {
    if (!isKedgeError(error)) return error;
    const { clock, log, cluster } = this.#options;
    if (!this.#isAway) log.error('attest.unavailable', { cluster, error: errorFields(error) });
    this.#isAway = true;
    if (error.code === 'kubernetes_throttled') {
      const waitMs = Math.min(error.retryAfterMs ?? RETRY_AFTER_MS, THROTTLE_CAP_MS);
      this.#throttledUntilMs = clock.monotonic() + waitMs;
      return this.#unavailable('asks for fewer requests', waitMs, error);
    }
    return this.#unavailable('does not answer as it should', error.retryAfterMs ?? 0, error);
  }

  #unavailable(why: string, waitMs: number, cause?: KedgeError): KedgeError {
    const { cluster, random } = this.#options;
    return new KedgeError(
      'attestation_unavailable',
      `the API server of cluster ${cluster} must be asked about the token, and ${why}`,
      {
        hint: 'come back after the time given; the log of the CA has the reason',
        retryAfterMs: Math.max(RETRY_AFTER_MS, waitMs) + random.fraction() * RETRY_AFTER_MS,
        cause,
      },
    );
  }
}

/** The same, or the signal's reason as soon as it aborts. */
function leavable<T>(shared: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const leave = (): void => reject(signal.reason as Error);
    signal.addEventListener('abort', leave, { once: true });
    shared.then(resolve, reject).finally(() => signal.removeEventListener('abort', leave));
  });
}
