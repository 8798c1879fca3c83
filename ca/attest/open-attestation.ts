import { backoffMs } from '../../host/backoff.ts';
import type { Clock } from '../../host/clock.ts';
import { errorFields, type Log } from '../../host/log.ts';
import type { MetricsRegistry } from '../../host/metrics.ts';
import type { Random } from '../../host/random.ts';
import { isKedgeError } from '../../pki/kedge-error.ts';
import type { KubernetesApi } from '../kubernetes/kubernetes-api.ts';
import type { AttestSettings, IssuerSettings } from './attest-settings.ts';
import { type AttestationState, registerAttestationMetrics } from './attestation-metrics.ts';
import type { Attestor } from './attestor.ts';
import { IssuerKeys } from './issuer-keys.ts';
import { keySourceOf } from './key-source.ts';
import { OidcAttestor, type TrustedIssuer } from './oidc-attestor.ts';
import { TokenReviewAttestor } from './token-review-attestor.ts';

/** What {@link openAttestation} needs. */
export interface OpenAttestationOptions {
  readonly settings: AttestSettings;
  /** Our own cluster, where the settings need it. */
  readonly api: KubernetesApi | undefined;
  /** Deadline of fetching keys, milliseconds. */
  readonly timeoutMs: number;
  readonly registry: MetricsRegistry;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Ends the start. */
  readonly signal: AbortSignal;
}

/** Attestation at work. */
export interface Attestation {
  readonly attestor: Attestor;
  /** Stops what runs in the background. */
  close(): Promise<void>;
}

/** Keys change seldom and are fetched when one is unknown; a file costs nothing. */
const REFRESH_MS = { remote: 5 * 60_000, file: 10_000 } as const;
/** How long a start waits for an API server that does not answer; then it goes on, and so does the asking. */
const START_WAIT_MS = 20_000;
const CHECK_BACKOFF = { baseMs: 500, capMs: 5_000 };

/**
 * Attestation by TokenReview or by the keys of issuers. At the start it is made sure that TokenReviews may be created:
 * throws `kubernetes_forbidden`, whose hint is the RBAC rule that is missing, and `config_invalid`. An API server that
 * is away does not keep the CA from starting for long.
 */
export async function openAttestation(options: OpenAttestationOptions): Promise<Attestation> {
  const { settings, registry, clock, random, log, signal } = options;
  const end = new AbortController();
  const loops: Promise<void>[] = [];
  const keys: IssuerKeys[] = [];
  const review = isReviewed(settings) ? reviewAttestor(options) : undefined;
  const state: AttestationState = {
    isAvailable: () =>
      settings.kind === 'tokenReview' ? review?.isAway !== true : keys.every(({ size }) => size > 0),
    reviews: () => review?.load ?? { running: 0, waiting: 0 },
  };
  registerAttestationMetrics(registry, state);
  if (review !== undefined) await checkAccess(review, { clock, random, log, signal });
  if (settings.kind === 'tokenReview' && review !== undefined) {
    return { attestor: review, close: () => Promise.resolve() };
  }
  const issuers = settings.issuers.map((issuer): TrustedIssuer => {
    const known = issuerKeys(issuer, options);
    keys.push(known);
    loops.push(known.run(end.signal));
    return {
      issuer: issuer.issuer,
      cluster: issuer.cluster,
      audience: issuer.audience,
      unbound: settings.unbound,
      keys: known,
      ...(issuer.tokenReview && review !== undefined ? { review } : {}),
    };
  });
  return {
    attestor: new OidcAttestor({ issuers, leewayMs: settings.leewayMs, clock }),
    close: async () => {
      end.abort();
      await Promise.all(loops);
    },
  };
}

function isReviewed({ kind, issuers }: AttestSettings): boolean {
  return kind === 'tokenReview' || issuers.some(({ tokenReview }) => tokenReview);
}

function reviewAttestor({ settings, api, clock, random, log }: OpenAttestationOptions): TokenReviewAttestor {
  if (api === undefined)
    throw new TypeError('attestation by TokenReview without a client for the API server');
  return new TokenReviewAttestor({
    api,
    cluster: settings.cluster,
    audience: settings.audience,
    unbound: settings.unbound,
    leewayMs: settings.leewayMs,
    reuseMs: settings.reviewReuseMs,
    concurrent: settings.reviewsAtOnce,
    clock,
    random,
    log,
  });
}

function issuerKeys({ issuer, keys }: IssuerSettings, options: OpenAttestationOptions): IssuerKeys {
  const { api, clock, random, log, timeoutMs } = options;
  return new IssuerKeys({
    source: keySourceOf({ location: keys, api, clock, log, timeoutMs }),
    issuer,
    refreshMs: keys.kind === 'file' ? REFRESH_MS.file : REFRESH_MS.remote,
    clock,
    random,
    log,
  });
}

async function checkAccess(
  review: TokenReviewAttestor,
  { clock, random, log, signal }: Pick<OpenAttestationOptions, 'clock' | 'random' | 'log' | 'signal'>,
): Promise<void> {
  const startMs = clock.monotonic();
  for (let attempt = 1; ; attempt += 1) {
    try {
      await review.checkAccess(signal);
      return;
    } catch (error) {
      signal.throwIfAborted();
      const isAway = isKedgeError(
        error,
        'kubernetes_unreachable',
        'kubernetes_unavailable',
        'kubernetes_throttled',
        'deadline_exceeded',
      );
      if (!isAway) throw error;
      if (clock.monotonic() - startMs >= START_WAIT_MS) {
        log.warn('attest.access_unchecked', { error: errorFields(error) });
        return;
      }
      await clock.sleep(backoffMs(attempt, CHECK_BACKOFF, random, error.retryAfterMs), signal);
    }
  }
}
