import { KedgeError } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';

const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
const DAY_MS = 24 * 60 * MINUTE_MS;

/** What the lifecycle goes by. All in milliseconds. */
export interface LifecycleSettings {
  /** How long a new trust anchor is to live. */
  readonly anchorLifetimeMs: number;
  /** How long a new issuer is to live; never beyond its anchor. */
  readonly issuerLifetimeMs: number;
  /** At what age an active issuer is replaced; earlier where it would not outlive the SVIDs it signs. */
  readonly issuerRenewAfterMs: number;
  /** The longest TTL that any SVID gets: how long SVIDs of a retired issuer may live on. */
  readonly maxSvidTtlMs: number;
  /** How far before the present a new authority becomes valid, for peers whose clock is behind. */
  readonly backdateMs: number;
  /** How far the clocks of replicas and agents may differ. */
  readonly clockSkewMs: number;
}

/** The defaults of the design: anchor 5 years, issuer 30 days replaced at 20, SVID 24 hours. */
export const DEFAULT_LIFECYCLE_SETTINGS: LifecycleSettings = {
  anchorLifetimeMs: 5 * 365 * DAY_MS,
  issuerLifetimeMs: 30 * DAY_MS,
  issuerRenewAfterMs: 20 * DAY_MS,
  maxSvidTtlMs: DAY_MS,
  backdateMs: 2 * MINUTE_MS,
  clockSkewMs: 5 * MINUTE_MS,
};

/**
 * Refuses settings under which no fleet could live. Throws `config_invalid`; the message says which, and why.
 *
 * Each is a whole number of milliseconds from 1 s to 100 years, but backdate and clock skew from 0.
 */
export function checkLifecycleSettings(settings: LifecycleSettings): void {
  const { anchorLifetimeMs, issuerLifetimeMs, issuerRenewAfterMs, maxSvidTtlMs, clockSkewMs } = settings;
  const mayBeZero: readonly (keyof LifecycleSettings)[] = ['backdateMs', 'clockSkewMs'];
  for (const name of Object.keys(DEFAULT_LIFECYCLE_SETTINGS) as readonly (keyof LifecycleSettings)[]) {
    const leastMs = mayBeZero.includes(name) ? 0 : SECOND_MS;
    const ms = settings[name];
    if (!Number.isInteger(ms) || ms < leastMs || ms > MOST_MS) {
      throw impossible(`${NAMES[name]} is ${ms} ms`, `it may be ${leastMs} to ${MOST_MS} ms`);
    }
  }
  if (issuerRenewAfterMs >= issuerLifetimeMs) {
    throw impossible(
      'an issuer would be replaced only after its end',
      'replace it at about two thirds of its lifetime',
    );
  }
  if (issuerLifetimeMs > anchorLifetimeMs) {
    throw impossible(
      'an issuer would outlive its trust anchor',
      'shorten the issuer lifetime, or lengthen the other',
    );
  }
  if (maxSvidTtlMs > issuerLifetimeMs - issuerRenewAfterMs) {
    throw impossible(
      'an SVID signed just before the issuer is replaced would outlive the issuer',
      'leave at least the longest SVID TTL between the replacement of an issuer and its end',
    );
  }
  const retired = Math.ceil((maxSvidTtlMs + clockSkewMs) / issuerRenewAfterMs);
  // One active, one prepared, and some room for those that a replica gives up.
  if (retired > LIMITS.trustStateIssuers / 2) {
    throw impossible(
      `about ${retired} retired issuers would be kept for SVIDs that are still alive`,
      'replace issuers less often, or shorten the longest SVID TTL',
    );
  }
}

const MOST_MS = 100 * 365 * DAY_MS;

const NAMES: Readonly<Record<keyof LifecycleSettings, string>> = {
  anchorLifetimeMs: 'the lifetime of a trust anchor',
  issuerLifetimeMs: 'the lifetime of an issuer',
  issuerRenewAfterMs: 'the age at which an issuer is replaced',
  maxSvidTtlMs: 'the longest TTL of an SVID',
  backdateMs: 'the backdating',
  clockSkewMs: 'the clock skew',
};

function impossible(what: string, hint: string): KedgeError {
  return new KedgeError('config_invalid', what, { hint });
}
