import { KedgeError } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import type { GateEvidence } from './gates.ts';

const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
const DAY_MS = 24 * 60 * MINUTE_MS;

/** What rotations of the trust anchor go by. */
export interface RotationSettings {
  /** Whether one begins by itself: the upstream has another anchor, or is another, or the anchor has come of age. */
  readonly automatic: boolean;
  /** Which evidence gates take. */
  readonly evidence: GateEvidence;
  /** At what age an anchor of our own is replaced, milliseconds; null = never by itself. */
  readonly anchorRenewAfterMs: number | null;
  /**
   * How long after a step the gate behind it stays shut, milliseconds: until every replica of the CA has heard of the
   * step, and all have heard of whom the others serve. 0 where there is one replica.
   */
  readonly settleMs: number;
}

/** The defaults: by themselves, by the best evidence there is, our own anchor never by its age. */
export const DEFAULT_ROTATION_SETTINGS: RotationSettings = {
  automatic: true,
  evidence: 'best',
  anchorRenewAfterMs: null,
  settleMs: 0,
};

/** The times that the lifecycle goes by, milliseconds. */
export interface LifecycleTimes {
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

/** What the lifecycle goes by. */
export interface LifecycleSettings extends LifecycleTimes {
  readonly rotation: RotationSettings;
}

/** The defaults of the design: anchor 5 years, issuer 30 days replaced at 20, SVID 24 hours. */
export const DEFAULT_LIFECYCLE_SETTINGS: LifecycleSettings = {
  anchorLifetimeMs: 5 * 365 * DAY_MS,
  issuerLifetimeMs: 30 * DAY_MS,
  issuerRenewAfterMs: 20 * DAY_MS,
  maxSvidTtlMs: DAY_MS,
  backdateMs: 2 * MINUTE_MS,
  clockSkewMs: 5 * MINUTE_MS,
  rotation: DEFAULT_ROTATION_SETTINGS,
};

/**
 * Refuses settings under which no fleet could live. Throws `config_invalid`; the message says which, and why.
 *
 * Each is a whole number of milliseconds from 1 s to 100 years, but backdate and clock skew from 0.
 */
export function checkLifecycleSettings(settings: LifecycleSettings): void {
  const { anchorLifetimeMs, issuerLifetimeMs, issuerRenewAfterMs, maxSvidTtlMs, clockSkewMs } = settings;
  const mayBeZero: readonly (keyof LifecycleTimes)[] = ['backdateMs', 'clockSkewMs'];
  for (const name of Object.keys(NAMES) as readonly (keyof LifecycleTimes)[]) {
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
  const { anchorRenewAfterMs } = settings.rotation;
  if (anchorRenewAfterMs !== null && anchorRenewAfterMs >= anchorLifetimeMs) {
    throw impossible(
      'a trust anchor would be replaced only after its end',
      'replace it at about two thirds of its lifetime',
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

const NAMES: Readonly<Record<keyof LifecycleTimes, string>> = {
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
