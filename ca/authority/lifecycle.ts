import type { KeyHandle } from '../keys/key-manager.ts';
import type { LifecycleSettings } from './lifecycle-settings.ts';
import { isMintable, type Moment, type Pending, pendingAt, shortName, timeText } from './moment.ts';
import { rotationStep, rotationWaits, wantsAnchor } from './rotation-steps.ts';
import { activateAnchor, activateIssuer, removeIssuer, retireIssuer } from './transitions.ts';
import type { Anchor, Authority, Issuer, TrustState } from './trust-state.ts';
import { activeIssuer, isUsable, signingAnchor } from './usable-authority.ts';

/** What only the engine can do, because it needs keys or the upstream. It ends with a swap of the state. */
export type Intent =
  /** Get an anchor from the upstream, check it, and put it into the bundle (`prepareAnchor`, `prepareGoal`). */
  | { readonly kind: 'mint-anchor'; readonly notBeforeMs: number; readonly notAfterMs: number }
  /** Generate a key, have an issuer minted under `anchor`, check it, and add it (`prepareIssuer`). */
  | {
      readonly kind: 'mint-issuer';
      readonly anchor: Anchor;
      readonly notBeforeMs: number;
      readonly notAfterMs: number;
    }
  /** Take the issuer that the upstream gives under `anchor`, with its key, check it, and add it (`prepareIssuer`). */
  | { readonly kind: 'take-issuer'; readonly anchor: Anchor }
  /** Destroy the key in its key manager, then drop it from the state (`forgetKey`). */
  | { readonly kind: 'destroy-key'; readonly key: KeyHandle };

/** What is to be done now. */
export type Decision =
  /** Replace the state by this one. */
  | { readonly kind: 'step'; readonly state: TrustState }
  | { readonly kind: 'intent'; readonly intent: Intent }
  /** Nothing before `untilMs` (always in the future), unless the state changes. `reason` is for people. */
  | { readonly kind: 'wait'; readonly untilMs: number; readonly reason: string };

/** Nothing is waited for longer than this, milliseconds: coverage changes without a word to the lifecycle. */
const LOOK_AGAIN_MS = 3_600_000;

/**
 * The lifecycle of anchors and issuers: what to do with `state`, given what the fleet holds, what the upstream offers,
 * and the time.
 *
 * Pure and total: the same arguments give the same answer, on any replica; whoever carries it out and crashes, or
 * loses the swap to another replica, asks again with what the store then holds.
 *
 * The order is what matters: to be able to sign comes first, then what frees, then what needs outside help that may
 * fail; so a Vault that is away holds up nothing but the new issuer.
 */
export function next(moment: Moment): Decision {
  const { nowMs } = moment;
  const step = activation(moment) ?? rotationStep(moment) ?? retirement(moment) ?? removal(moment);
  if (step !== null) return { kind: 'step', state: step };
  const intent = minting(moment) ?? destruction(moment);
  if (intent !== null) return { kind: 'intent', intent };
  const pending = [
    ...rotationWaits(moment),
    ...waiting(moment).toSorted((a, b) => Math.sign(a.atMs - b.atMs)),
  ];
  const toCome = pending.map(({ atMs }) => atMs).filter((atMs) => atMs > nowMs);
  return {
    kind: 'wait',
    untilMs: Math.min(nowMs + LOOK_AGAIN_MS, ...toCome),
    reason: pending.map(({ what }) => what).join('; '),
  };
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
  if (state.anchors.length === 0 || wantsAnchor(moment)) {
    return { kind: 'mint-anchor', notBeforeMs: fromMs, notAfterMs: nowMs + settings.anchorLifetimeMs };
  }
  const anchor = signingAnchor(state, nowMs);
  if (anchor === undefined || state.issuers.some((issuer) => issuer.phase === 'prepared')) return null;
  if (!isMintable(anchor, moment)) return null;
  const active = activeIssuer(state, nowMs);
  const follows = active === undefined || active.anchorId !== anchor.id;
  if (isGiven(anchor, moment)) {
    const { issuerUnder } = moment.upstream;
    return follows || issuerUnder.includes(anchor.id) ? { kind: 'take-issuer', anchor } : null;
  }
  if (!follows && (nowMs < renewalMs(active, settings) || !canFollow(active, anchor))) return null;
  return {
    kind: 'mint-issuer',
    anchor,
    notBeforeMs: Math.max(fromMs, anchor.notBeforeMs),
    notAfterMs: Math.min(nowMs + settings.issuerLifetimeMs, anchor.notAfterMs),
  };
}

/** Whether issuers under the anchor come from outside with their keys, whenever those outside like. */
function isGiven(anchor: Anchor, { upstream }: Moment): boolean {
  return upstream.givesIssuers && anchor.upstream === upstream.kind;
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
      .map((issuer) => pendingAt(issuer.notBeforeMs, `issuer ${shortName(issuer)} becomes active`)),
    ...state.issuers
      .filter(({ phase }) => phase === 'retired')
      .map((issuer) =>
        pendingAt(lastSvidEndsMs(issuer, moment), `retired issuer ${shortName(issuer)} is removed`),
      ),
  ];
}

/** What comes of the anchor and the issuer that sign now. */
function signing(moment: Moment): readonly Pending[] {
  const { state, nowMs, settings } = moment;
  const anchor = signingAnchor(state, nowMs);
  const active = activeIssuer(state, nowMs);
  const all: Pending[] = [];
  if (anchor === undefined) {
    all.push(noAnchor(state, nowMs));
  } else if (anchor.notAfterMs < nowMs + settings.issuerLifetimeMs && state.rotation === null) {
    all.push(
      pendingAt(anchor.notAfterMs, `trust anchor ${shortName(anchor)} and all below it expire (rotate it)`),
    );
  }
  if (active !== undefined) all.push(endOf(active, anchor, moment));
  return all;
}

/** What comes of the issuer that signs now. */
function endOf(active: Issuer, anchor: Anchor | undefined, moment: Moment): Pending {
  const { settings, upstream } = moment;
  const issuer = `issuer ${shortName(active)}`;
  if (anchor === undefined) return pendingAt(active.notAfterMs, `${issuer} expires and cannot be replaced`);
  if (!isMintable(anchor, moment)) {
    const why = `the upstream authority of its trust anchor (${anchor.upstream}) is not configured`;
    return pendingAt(active.notAfterMs, `${issuer} expires and cannot be replaced, as ${why},`);
  }
  if (isGiven(anchor, moment)) {
    return pendingAt(
      active.notAfterMs,
      `${issuer} expires; the next is given by ${upstream.kind}, until then,`,
    );
  }
  return canFollow(active, anchor)
    ? pendingAt(renewalMs(active, settings), `${issuer} is replaced`)
    : pendingAt(active.notAfterMs, `${issuer} expires and cannot be replaced`);
}

function noAnchor({ anchors }: TrustState, nowMs: number): Pending {
  const begins = anchors.map(({ notBeforeMs }) => notBeforeMs).filter((notBeforeMs) => notBeforeMs > nowMs);
  const why = anchors.map((anchor) => `${shortName(anchor)} is ${condition(anchor, nowMs)}`).join(', ');
  return { atMs: Math.min(...begins), what: `no trust anchor may sign a new issuer: ${why}` };
}

function condition(authority: Authority, nowMs: number): string {
  if (authority.taintedAtMs !== null) return 'tainted';
  if (authority.notBeforeMs > nowMs) return `not valid before ${timeText(authority.notBeforeMs)}`;
  return authority.notAfterMs <= nowMs ? `expired since ${timeText(authority.notAfterMs)}` : authority.phase;
}
