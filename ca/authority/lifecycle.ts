import type { KeyHandle } from '../keys/key-manager.ts';
import type { Coverage } from './coverage.ts';
import type { LifecycleSettings } from './lifecycle-settings.ts';
import { activateAnchor, activateIssuer, removeIssuer, retireIssuer } from './transitions.ts';
import type { Anchor, Authority, Issuer, TrustState } from './trust-state.ts';
import { activeIssuer, isUsable, signingAnchor } from './usable-authority.ts';

/** What only the engine can do, because it needs keys or the upstream. It ends with a swap of the state. */
export type Intent =
  /** Get an anchor from the upstream, check it, and put it into the bundle (`prepareAnchor`). */
  | { readonly kind: 'mint-anchor'; readonly notBeforeMs: number; readonly notAfterMs: number }
  /** Generate a key, have an issuer minted under `anchor`, check it, and add it (`prepareIssuer`). */
  | {
      readonly kind: 'mint-issuer';
      readonly anchor: Anchor;
      readonly notBeforeMs: number;
      readonly notAfterMs: number;
    }
  /** Destroy the key in its key manager, then drop it from the state (`forgetKey`). */
  | { readonly kind: 'destroy-key'; readonly key: KeyHandle };

/** What is to be done now. */
export type Decision =
  /** Replace the state by this one. */
  | { readonly kind: 'step'; readonly state: TrustState }
  | { readonly kind: 'intent'; readonly intent: Intent }
  /** Nothing before `untilMs` (always in the future), unless the state changes. `reason` is for people. */
  | { readonly kind: 'wait'; readonly untilMs: number; readonly reason: string };

/** What the lifecycle waits for. */
interface Pending {
  readonly atMs: number;
  readonly what: string;
}

/** Nothing is waited for longer than this, milliseconds: coverage changes without a word to the lifecycle. */
const LOOK_AGAIN_MS = 3_600_000;

/**
 * The lifecycle of anchors and issuers: what to do with `state`, given what the fleet holds and the time.
 *
 * Pure and total: the same arguments give the same answer, on any replica; whoever carries it out and crashes, or
 * loses the swap to another replica, asks again with what the store then holds.
 *
 * The order is what matters: to be able to sign comes first, then what frees, then what needs outside help that may
 * fail; so a Vault that is away holds up nothing but the new issuer.
 */
export function next(
  state: TrustState,
  coverage: Coverage,
  nowMs: number,
  settings: LifecycleSettings,
): Decision {
  const moment: Moment = { state, coverage, nowMs, settings };
  const step = activation(moment) ?? retirement(moment) ?? removal(moment);
  if (step !== null) return { kind: 'step', state: step };
  const intent = minting(moment) ?? destruction(moment);
  if (intent !== null) return { kind: 'intent', intent };
  const pending = waiting(moment).toSorted((a, b) => a.atMs - b.atMs);
  const toCome = pending.map(({ atMs }) => atMs).filter((atMs) => atMs > nowMs);
  return {
    kind: 'wait',
    untilMs: Math.min(nowMs + LOOK_AGAIN_MS, ...toCome),
    reason: pending.map(({ what }) => what).join('; '),
  };
}

interface Moment {
  readonly state: TrustState;
  readonly coverage: Coverage;
  readonly nowMs: number;
  readonly settings: LifecycleSettings;
}

function activation({ state, nowMs }: Moment): TrustState | null {
  const anchor = state.anchors.find(({ phase }) => phase === 'prepared');
  // No issuer yet: no SVID was ever signed under this state, so nobody can be left behind.
  if (anchor !== undefined && state.issuers.length === 0 && isUsable(anchor, nowMs)) {
    return activateAnchor(state, anchor.id, nowMs);
  }
  const issuer = state.issuers.find((issuer) => isNext(issuer, state, nowMs) && issuer.notBeforeMs <= nowMs);
  // Its anchor is in every bundle already, and its certificate travels with each SVID: nothing to wait for.
  return issuer === undefined ? null : activateIssuer(state, issuer.id, nowMs);
}

/** A prepared issuer that can become the active one, perhaps not before its notBefore. */
function isNext(issuer: Issuer, state: TrustState, nowMs: number): boolean {
  return (
    issuer.phase === 'prepared' &&
    isUsable(issuer, Math.max(nowMs, issuer.notBeforeMs)) &&
    issuer.anchorId === signingAnchor(state, nowMs)?.id
  );
}

/** Gives up a prepared issuer that can never sign, or not as soon as clocks may differ. */
function retirement({ state, nowMs, settings }: Moment): TrustState | null {
  const hopeless = state.issuers.find(
    (issuer) =>
      issuer.phase === 'prepared' &&
      (!isNext(issuer, state, nowMs) || issuer.notBeforeMs > nowMs + settings.clockSkewMs),
  );
  return hopeless === undefined ? null : retireIssuer(state, hopeless.id, nowMs);
}

function removal(moment: Moment): TrustState | null {
  const { state, nowMs } = moment;
  const done = state.issuers.find(
    (issuer) => issuer.phase === 'retired' && lastSvidEndsMs(issuer, moment) <= nowMs,
  );
  return done === undefined ? null : removeIssuer(state, done.id);
}

/**
 * When no SVID under a retired issuer can be alive any more: the longest TTL after it signed the last one, later
 * where a live instance says that it holds one (signed under longer TTLs than today's); never after its own end.
 */
function lastSvidEndsMs(issuer: Issuer, { coverage, settings }: Moment): number {
  let lastMs = issuer.phaseSinceMs + settings.maxSvidTtlMs;
  for (const { authorityKeyId, svidNotAfterMs } of coverage.instances) {
    if (authorityKeyId === issuer.id) lastMs = Math.max(lastMs, svidNotAfterMs);
  }
  return Math.min(lastMs, issuer.notAfterMs) + settings.clockSkewMs;
}

function minting(moment: Moment): Intent | null {
  const { state, nowMs, settings } = moment;
  const fromMs = nowMs - settings.backdateMs;
  if (state.anchors.length === 0) {
    return { kind: 'mint-anchor', notBeforeMs: fromMs, notAfterMs: nowMs + settings.anchorLifetimeMs };
  }
  const anchor = signingAnchor(state, nowMs);
  if (anchor === undefined || state.issuers.some((issuer) => issuer.phase === 'prepared')) return null;
  const active = activeIssuer(state, nowMs);
  if (active !== undefined && (nowMs < renewalMs(active, settings) || !canFollow(active, anchor)))
    return null;
  return {
    kind: 'mint-issuer',
    anchor,
    notBeforeMs: Math.max(fromMs, anchor.notBeforeMs),
    notAfterMs: Math.min(nowMs + settings.issuerLifetimeMs, anchor.notAfterMs),
  };
}

/** Whether another issuer below the anchor could live longer than this one. */
function canFollow(active: Issuer, anchor: Anchor): boolean {
  return active.notAfterMs < anchor.notAfterMs;
}

/**
 * When an active issuer is to be replaced: at its age, or when an SVID of the longest TTL would be cut short by the
 * issuer's end. Never in the first half of its time, or one that lives shorter than an SVID would be replaced
 * without end.
 */
function renewalMs(active: Issuer, settings: LifecycleSettings): number {
  const byAgeMs = active.phaseSinceMs + settings.issuerRenewAfterMs;
  const bySvidMs = active.notAfterMs - settings.maxSvidTtlMs - settings.clockSkewMs;
  const halfTimeMs = Math.ceil((active.phaseSinceMs + active.notAfterMs) / 2);
  return Math.max(Math.min(byAgeMs, bySvidMs), halfTimeMs);
}

function destruction({ state }: Moment): Intent | null {
  const [key] = state.discardedKeys;
  return key === undefined ? null : { kind: 'destroy-key', key };
}

/** All that is still to come, in words. Never empty. */
function waiting(moment: Moment): readonly Pending[] {
  const { state } = moment;
  return [
    ...signing(moment),
    ...state.issuers
      .filter(({ phase }) => phase === 'prepared')
      .map((issuer) => pending(issuer.notBeforeMs, `issuer ${name(issuer)} becomes active`)),
    ...state.issuers
      .filter(({ phase }) => phase === 'retired')
      .map((issuer) => pending(lastSvidEndsMs(issuer, moment), `retired issuer ${name(issuer)} is removed`)),
  ];
}

/** What comes of the anchor and the issuer that sign now. */
function signing({ state, nowMs, settings }: Moment): readonly Pending[] {
  const anchor = signingAnchor(state, nowMs);
  const active = activeIssuer(state, nowMs);
  const all: Pending[] = [];
  if (anchor === undefined) {
    all.push(noAnchor(state, nowMs));
  } else if (anchor.notAfterMs < nowMs + settings.issuerLifetimeMs) {
    all.push(pending(anchor.notAfterMs, `trust anchor ${name(anchor)} and all below it expire (rotate it)`));
  }
  if (active !== undefined) {
    all.push(
      anchor !== undefined && canFollow(active, anchor)
        ? pending(renewalMs(active, settings), `issuer ${name(active)} is replaced`)
        : pending(active.notAfterMs, `issuer ${name(active)} expires and cannot be replaced`),
    );
  }
  return all;
}

function noAnchor({ anchors }: TrustState, nowMs: number): Pending {
  const begins = anchors.map(({ notBeforeMs }) => notBeforeMs).filter((notBeforeMs) => notBeforeMs > nowMs);
  const why = anchors.map((anchor) => `${name(anchor)} is ${condition(anchor, nowMs)}`).join(', ');
  return { atMs: Math.min(...begins), what: `no trust anchor may sign a new issuer: ${why}` };
}

function condition(authority: Authority, nowMs: number): string {
  if (authority.taintedAtMs !== null) return 'tainted';
  if (authority.notBeforeMs > nowMs) return `not valid before ${time(authority.notBeforeMs)}`;
  return authority.notAfterMs <= nowMs ? `expired since ${time(authority.notAfterMs)}` : authority.phase;
}

function pending(atMs: number, what: string): Pending {
  return { atMs, what: `${what} at ${time(atMs)}` };
}

/** Enough of an identifier for people to tell a few authorities apart. */
function name(authority: Authority): string {
  return authority.id.slice(0, 8);
}

function time(ms: number): string {
  return new Date(ms).toISOString();
}
