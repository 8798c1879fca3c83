import { formatDuration } from '../../host/duration.ts';
import { KedgeError } from '../../pki/kedge-error.ts';

/** An SVID that would live shorter than this, and shorter than half of what the policy grants, is not issued. */
const USEFUL_MS = 60_000;

/** From when to when a certificate is valid: whole seconds, in milliseconds since the Unix epoch. */
export interface Validity {
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** What the dates of an SVID follow from. */
export interface ValidityInputs {
  /** Wall clock, milliseconds since the Unix epoch. */
  readonly nowMs: number;
  /** Lifetime from now on, as granted. */
  readonly ttlMs: number;
  readonly backdateMs: number;
  /** The issuer's own dates: an SVID never leaves them. */
  readonly issuer: Validity;
}

/**
 * The dates of an SVID: from `backdateMs` ago until the granted lifetime is over, cut to the issuer's own. Throws
 * `issuer_unavailable` when the issuer is not valid now, or not long enough for an SVID to be of use.
 */
export function svidValidity({ nowMs, ttlMs, backdateMs, issuer }: ValidityInputs): Validity {
  if (nowMs < issuer.notBeforeMs) {
    throw unavailable(
      `the issuer is not valid before ${instant(issuer.notBeforeMs)}, and it is ${instant(nowMs)}`,
      "the CA's clock may have jumped back: check it",
    );
  }
  const notBeforeMs = Math.max(wholeSeconds(nowMs - backdateMs), wholeSeconds(issuer.notBeforeMs));
  const notAfterMs = Math.min(wholeSeconds(nowMs + ttlMs), wholeSeconds(issuer.notAfterMs));
  const leftMs = notAfterMs - nowMs;
  if (leftMs < Math.min(USEFUL_MS, ttlMs / 2)) {
    const left = leftMs > 0 ? `only ${formatDuration(leftMs)} left` : 'expired';
    throw unavailable(
      `the issuer is valid until ${instant(issuer.notAfterMs)}: ${left}`,
      'wait for the next issuer; if none comes, the log of the CA says why',
    );
  }
  return { notBeforeMs, notAfterMs };
}

function wholeSeconds(ms: number): number {
  return Math.floor(ms / 1000) * 1000;
}

function instant(ms: number): string {
  return new Date(ms).toISOString();
}

function unavailable(message: string, hint: string): KedgeError {
  return new KedgeError('issuer_unavailable', message, { hint, retryAfterMs: 5_000 });
}
