import { after, type Deadline, earlier, type Instant, msUntil } from './deadline.ts';

/**
 * When an SVID is renewed.
 *
 * One instant is drawn per SVID, once, uniformly in a window; drawing again at each look would let the earliest
 * draw win and collapse the spread of a fleet to the early edge. The window is counted from the moment the SVID
 * arrived to its notAfter, never from its notBefore: the CA backdates that (2 min by default), and with a short
 * lifetime half of it would already lie behind. The CA's clock measures the lifetime where it is known, so that a
 * wrong clock here moves nothing but the moment at which this machine believes the SVID expired.
 */

/** The part of the lifetime left at receipt after which an SVID may be renewed. */
export const EARLIEST_SHARE = 0.5;
/** The part of the lifetime left at receipt after which an SVID is renewed at the latest. */
export const LATEST_SHARE = 0.65;
/** The CA may ask for a later renewal, but never beyond this part: the rest is for retries. */
export const LATEST_ASKED_SHARE = 0.9;
/** A renewal that the CA asks for waits at least this long after the SVID arrived, so that no CA makes a busy loop. */
export const MIN_HELD_MS = 1_000;

/** A window of the CA's clock, milliseconds since the Unix epoch. */
export interface RenewalWindow {
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** The CA asks every agent whose SVID does not hang under this issuer to renew. */
export interface RenewalRequest {
  /** Authority key identifier of the issuer that new SVIDs come from. */
  readonly authorityKeyId: Uint8Array;
  /** When; absent = now. */
  readonly window: RenewalWindow | undefined;
}

/** The one instant of renewal of one SVID, and why. */
export interface Renewal {
  readonly at: Deadline;
  readonly reason: 'lifetime' | 'hint' | 'request';
  /** The request that was drawn for already; a repetition of it draws no second time. */
  readonly answered: string | null;
}

/**
 * When an SVID expires here: at its notAfter on the wall clock, or when the lifetime that it had left by the CA's
 * clock has passed on the monotonic clock, whichever comes first.
 */
export function expiryOf(notAfterMs: number, now: Instant, caNowMs?: number): Deadline {
  return { wallMs: notAfterMs, monotonicMs: now.monotonicMs + (notAfterMs - (caNowMs ?? now.wallMs)) };
}

/** What {@link drawRenewal} decides on. */
export interface RenewalDraw {
  /** When the SVID arrived. */
  readonly now: Instant;
  readonly expiry: Deadline;
  /** The CA's clock at `now`, milliseconds since the Unix epoch. */
  readonly caNowMs: number;
  /** When the CA would like to see the SVID renewed. */
  readonly hint: RenewalWindow | undefined;
  /** Uniform in [0, 1). */
  readonly fraction: number;
}

/** The renewal instant of an SVID that just arrived: never in the past, always before its expiry. */
export function drawRenewal(draw: RenewalDraw): Renewal {
  const { now, expiry, caNowMs, hint, fraction } = draw;
  const leftMs = Math.max(0, msUntil(expiry, now));
  if (hint === undefined || !isWindow(hint)) {
    const share = EARLIEST_SHARE + fraction * (LATEST_SHARE - EARLIEST_SHARE);
    return { at: after(now, leftMs * share), reason: 'lifetime', answered: null };
  }
  const waitMs = drawIn(hint, caNowMs, fraction);
  return {
    at: after(now, clamp(waitMs, Math.min(MIN_HELD_MS, leftMs / 2), leftMs * LATEST_ASKED_SHARE)),
    reason: 'hint',
    answered: null,
  };
}

/** What {@link answerRenewalRequest} decides on. */
export interface RenewalAnswer {
  readonly current: Renewal;
  readonly request: RenewalRequest;
  /** Of the SVID held. */
  readonly authorityKeyId: Uint8Array;
  readonly now: Instant;
  readonly expiry: Deadline;
  /** The CA's clock at `now`, milliseconds since the Unix epoch. */
  readonly caNowMs: number;
  /** Uniform in [0, 1). */
  readonly fraction: number;
}

/**
 * The renewal after a request of the CA: unchanged when the SVID already hangs under the issuer named, or when
 * this very request was answered before; else the earlier of the instant planned and one drawn in the window.
 */
export function answerRenewalRequest(answer: RenewalAnswer): Renewal {
  const { current, request, now, expiry, caNowMs, fraction } = answer;
  if (equalBytes(request.authorityKeyId, answer.authorityKeyId)) return current;
  const key = requestKey(request);
  if (current.answered === key) return current;
  const leftMs = Math.max(0, msUntil(expiry, now));
  const { window } = request;
  const waitMs = window !== undefined && isWindow(window) ? drawIn(window, caNowMs, fraction) : 0;
  const at = after(now, clamp(waitMs, Math.min(MIN_HELD_MS, leftMs / 2), leftMs * LATEST_ASKED_SHARE));
  const isEarlier = earlier(current.at, at, now) === at;
  return isEarlier ? { at, reason: 'request', answered: key } : { ...current, answered: key };
}

function drawIn(window: RenewalWindow, caNowMs: number, fraction: number): number {
  // What is left of the window, so that a late agent does not join all the others at its end.
  const startMs = Math.max(window.notBeforeMs, caNowMs);
  const endMs = Math.max(window.notAfterMs, startMs);
  return startMs + fraction * (endMs - startMs) - caNowMs;
}

function isWindow(window: RenewalWindow): boolean {
  return (
    Number.isFinite(window.notBeforeMs) &&
    Number.isFinite(window.notAfterMs) &&
    window.notAfterMs > 0 &&
    window.notAfterMs >= window.notBeforeMs
  );
}

function requestKey({ authorityKeyId, window }: RenewalRequest): string {
  return `${Buffer.from(authorityKeyId).toString('hex')}/${window?.notBeforeMs ?? ''}/${window?.notAfterMs ?? ''}`;
}

function clamp(value: number, min: number, max: number): number {
  return Math.max(min, Math.min(value, max));
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.length > 0 && a.every((byte, i) => byte === b[i]);
}
