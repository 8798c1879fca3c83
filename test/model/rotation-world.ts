/**
 * Everything around the lifecycle while a trust anchor is rotated, as a model: replicas with clocks that differ and views
 * that are behind, a store whose swaps may be lost or reported failed, instances that are slow, silent, dead or begin
 * anew, and operators. The lifecycle, the transitions and what operators may ask are the real ones.
 */
import assert from 'node:assert/strict';
import type { Coverage } from '../../ca/authority/coverage.ts';
import { type Decision, type Intent, next } from '../../ca/authority/lifecycle.ts';
import { DEFAULT_LIFECYCLE_SETTINGS, type LifecycleSettings } from '../../ca/authority/lifecycle-settings.ts';
import { type RotationRequest, requestedState } from '../../ca/authority/rotation-request.ts';
import { prepareGoal } from '../../ca/authority/rotation-transitions.ts';
import { forgetKey, prepareAnchor, prepareIssuer } from '../../ca/authority/transitions.ts';
import { type Authority, emptyTrustState, PHASES, type TrustState } from '../../ca/authority/trust-state.ts';
import { activeIssuer } from '../../ca/authority/usable-authority.ts';
import { SELF_SIGHT } from '../../ca/authority/upstream-sight.ts';
import { isKedgeError } from '../../pki/kedge-error.ts';
import { liveInstance } from '../support/coverage.ts';
import { emptyHandle } from '../support/trust-states.ts';

const MINUTE = 60_000;

/** How old a view may be that a replica signs with, or swaps from, and how wrong its clock. */
export const LAG_MS = MINUTE;
export const OFFSET_MS = MINUTE;
/** A gate stays shut so long after the step before it: longer than any replica is behind, by any clock. */
const SETTLE_MS = 2 * LAG_MS + 2 * OFFSET_MS;

export const SETTINGS: LifecycleSettings = {
  ...DEFAULT_LIFECYCLE_SETTINGS,
  rotation: { automatic: true, evidence: 'best', anchorRenewAfterMs: null, settleMs: SETTLE_MS },
};

interface Svid {
  readonly issuerId: string;
  readonly anchorId: string;
  readonly notAfterMs: number;
}

interface Bundle {
  readonly sequence: number;
  readonly anchorIds: readonly string[];
}

interface Instance {
  readonly id: string;
  svid: Svid | null;
  bundle: Bundle;
  /** What the CA was told last; null = nothing. */
  told: { readonly sequence: number; readonly svid: Svid | null } | null;
  /** The newest SVID that it was issued, as the audit log has it. */
  issued: Svid | null;
  /** Whether it tells the CA what it holds. */
  silent: boolean;
  /** Whether somebody chose to leave it behind: excused, or cut off at a deadline. */
  abandoned: boolean;
}

interface Replica {
  readonly offsetMs: number;
  view: { readonly version: number; readonly state: TrustState; readonly readAtMs: number } | null;
  decision: Decision | null;
}

export type Outcome = 'persisted' | 'persisted but reported failed' | 'not persisted';

/** What may happen. Numbers choose among replicas and instances. */
export type Event =
  | { readonly kind: 'time passes'; readonly ms: number }
  | { readonly kind: 'the rotation is left alone'; readonly steps: number }
  | { readonly kind: 'replica looks'; readonly replica: number }
  | {
      readonly kind: 'replica acts';
      readonly replica: number;
      readonly outcome: Outcome;
      readonly minted: boolean;
    }
  | { readonly kind: 'replica crashes'; readonly replica: number }
  | { readonly kind: 'instance renews'; readonly instance: number; readonly replica: number }
  | { readonly kind: 'instance is pushed to'; readonly instance: number; readonly replica: number }
  | { readonly kind: 'instance reports'; readonly instance: number }
  | { readonly kind: 'instance begins anew'; readonly instance: number; readonly replica: number }
  | { readonly kind: 'instance falls silent, or speaks'; readonly instance: number }
  | { readonly kind: 'instance dies'; readonly instance: number }
  | { readonly kind: 'the fleet is forgotten' }
  | {
      readonly kind: 'operator';
      readonly act: RotationRequest['act'];
      readonly choice: number;
      readonly ms: number;
    };

export class RotationWorld {
  readonly #replicas: readonly Replica[];
  readonly #fleet: Instance[];
  readonly #story: string[] = [];
  readonly #settings: LifecycleSettings;
  nowMs = Date.UTC(2026, 0, 1);
  state: TrustState = emptyTrustState('example.org');
  /** How often each thing came to pass, to see that schedules are worth something. */
  readonly seen = new Map<string, number>();
  #version = 0;
  #made = 0;
  #forgotten = false;
  /** The version that the last step past a deadline made; 0 = there was none. */
  #forcedVersion = 0;
  readonly #gone = new Set<string>();

  constructor(offsets: readonly number[], instances: number, settings = SETTINGS) {
    this.#settings = settings;
    this.#replicas = offsets.map((offsetMs) => ({ offsetMs, view: null, decision: null }));
    this.#fleet = Array.from({ length: instances }, (_, i) => newInstance(i));
    this.#alone(20);
    for (const index of this.#fleet.keys())
      this.apply({ kind: 'instance begins anew', instance: index, replica: 0 });
  }

  apply(event: Event): void {
    this.#story.push(JSON.stringify(event));
    this.#happen(event);
    this.#checkNoSplit();
  }

  #happen(event: Event): void {
    switch (event.kind) {
      case 'time passes':
        this.nowMs += event.ms;
        return;
      case 'the rotation is left alone':
        return this.#alone(event.steps);
      case 'replica looks':
        return this.#look(this.#replica(event.replica));
      case 'replica acts':
        return this.#act(this.#replica(event.replica), event.outcome, event.minted);
      case 'replica crashes':
        return void Object.assign(this.#replica(event.replica), { view: null, decision: null });
      case 'instance renews':
        return this.#renew(this.#instance(event.instance), this.#replica(event.replica));
      case 'instance is pushed to':
        return this.#push(this.#instance(event.instance), this.#replica(event.replica));
      case 'instance reports':
        return this.#report(this.#instance(event.instance));
      case 'instance begins anew':
        return this.#beginAnew(this.#instance(event.instance), this.#replica(event.replica));
      case 'instance falls silent, or speaks': {
        const instance = this.#instance(event.instance);
        instance.silent = !instance.silent;
        return;
      }
      case 'instance dies':
        return void Object.assign(this.#instance(event.instance), { svid: null, told: null, issued: null });
      case 'the fleet is forgotten':
        this.#forgotten = true;
        for (const instance of this.#fleet) instance.told = null;
        return;
      case 'operator':
        return this.#operate(event);
      default:
        event satisfies never;
    }
  }

  /** Everybody speaks and follows, one replica works undisturbed: whatever was begun must come to its end. */
  checkComesToRest(): void {
    this.#story.push('everybody follows');
    if (this.state.rotation !== null && this.state.rotation.pausedAtMs !== null) {
      this.#operate({ kind: 'operator', act: 'resume', choice: 0, ms: 0 });
    }
    for (let round = 0; round < 12 && this.state.rotation !== null; round += 1) {
      this.nowMs += SETTLE_MS + 2 * OFFSET_MS;
      this.#alone(50);
      for (const instance of this.#fleet) {
        instance.silent = false;
        this.#look(this.#replica(0));
        this.#push(instance, this.#replica(0));
        if (this.#isLive(instance)) this.#renew(instance, this.#replica(0));
        this.#report(instance);
      }
      this.#forgotten = false;
      this.#checkNoSplit();
    }
    this.#alone(50);
    this.#must(this.state.rotation === null, 'the rotation does not end though everybody follows');
    this.#must(this.state.anchors.length === 1, `there are ${this.state.anchors.length} anchors at rest`);
    const nowMs = this.#clockOf(this.#replica(0));
    this.#must(activeIssuer(this.state, nowMs) !== undefined, 'nobody can sign');
  }

  #alone(steps: number): void {
    const replica = this.#replica(0);
    for (let i = 0; i < steps; i += 1) {
      this.#look(replica);
      if (replica.decision?.kind === 'wait') return;
      this.#act(replica, 'persisted', true);
    }
  }

  #look(replica: Replica): void {
    replica.view = { version: this.#version, state: this.state, readAtMs: this.nowMs };
    const nowMs = this.#clockOf(replica);
    replica.decision = next({
      state: this.state,
      coverage: this.#coverage(),
      upstream: SELF_SIGHT,
      nowMs,
      settings: this.#settings,
    });
    if (replica.decision.kind !== 'wait') return;
    this.#must(replica.decision.untilMs > nowMs, 'it waits for the past');
    assert.notEqual(replica.decision.reason, '');
  }

  #act(replica: Replica, outcome: Outcome, minted: boolean): void {
    const { view, decision } = replica;
    replica.decision = null;
    if (view === null || decision === null || decision.kind === 'wait') return;
    if (decision.kind === 'step' && this.nowMs - view.readAtMs > LAG_MS) return;
    const proposed =
      decision.kind === 'step'
        ? decision.state
        : this.#carryOut(decision.intent, view.state, replica, minted);
    if (proposed === null || view.version !== this.#version || outcome === 'not persisted') return;
    this.#adopt(proposed);
    if (outcome === 'persisted')
      replica.view = { version: this.#version, state: proposed, readAtMs: this.nowMs };
  }

  #adopt(proposed: TrustState): void {
    this.#checkStep(this.state, proposed);
    const { rotation } = this.state;
    const isForced =
      rotation?.kind === 'compromise' &&
      rotation.deadlineMs !== null &&
      this.nowMs + OFFSET_MS >= rotation.deadlineMs;
    // At the deadline whoever has not followed is left behind: that is what it is for.
    if (isForced) {
      const goal = rotation.goalAnchorId ?? '';
      for (const instance of this.#fleet.filter((one) => this.#isLive(one))) {
        if (instance.svid?.anchorId !== goal || !instance.bundle.anchorIds.includes(goal))
          instance.abandoned = true;
      }
      this.#forcedVersion = this.#version + 1;
      this.#count('forced');
    }
    for (const { outcome, number } of proposed.pastRotations) {
      if (this.state.pastRotations.every((past) => past.number !== number)) this.#count(outcome);
    }
    this.state = proposed;
    this.#version += 1;
  }

  #carryOut(intent: Intent, state: TrustState, replica: Replica, minted: boolean): TrustState | null {
    if (!minted) return null;
    const nowMs = this.#clockOf(replica);
    this.#made += 1;
    const id = this.#made.toString(16).padStart(8, '0');
    const common = { id, certificate: new Uint8Array(), key: emptyHandle(`key-${id}`) };
    switch (intent.kind) {
      case 'mint-anchor': {
        const { notBeforeMs, notAfterMs } = intent;
        const anchor = { ...common, notBeforeMs, notAfterMs, upstream: 'self' as const };
        return state.rotation === null
          ? prepareAnchor(state, anchor, nowMs)
          : prepareGoal(state, anchor, nowMs);
      }
      case 'mint-issuer': {
        const { notBeforeMs, notAfterMs, anchor } = intent;
        const issuer = { ...common, notBeforeMs, notAfterMs, anchorId: anchor.id, intermediates: [] };
        return prepareIssuer(state, issuer, nowMs);
      }
      case 'take-issuer':
        throw new Error('an upstream of our own gives no issuers');
      case 'destroy-key':
        return forgetKey(state, intent.key);
      default:
        return intent satisfies never;
    }
  }

  /** A view that a replica may still serve with. */
  #served(replica: Replica): TrustState | null {
    const { view } = replica;
    return view === null || this.nowMs - view.readAtMs > LAG_MS ? null : view.state;
  }

  #renew(instance: Instance, replica: Replica): void {
    const state = this.#served(replica);
    const nowMs = this.#clockOf(replica);
    const issuer = state === null ? undefined : activeIssuer(state, nowMs);
    if (state === null || issuer === undefined) return;
    const notAfterMs = Math.min(nowMs + this.#settings.maxSvidTtlMs, issuer.notAfterMs);
    instance.svid = { issuerId: issuer.id, anchorId: issuer.anchorId, notAfterMs };
    instance.issued = instance.svid;
    // A replica that has not heard of what a deadline forced gives what nobody trusts any more.
    if ((replica.view?.version ?? 0) < this.#forcedVersion) instance.abandoned = true;
    this.#take(instance, state);
    if (!instance.silent) this.#report(instance);
  }

  #push(instance: Instance, replica: Replica): void {
    const state = this.#served(replica);
    if (state !== null && this.#isLive(instance)) this.#take(instance, state);
  }

  /** An agent never goes back to an older bundle. */
  #take(instance: Instance, { sequence, anchors }: TrustState): void {
    if (sequence < instance.bundle.sequence) return;
    instance.bundle = { sequence, anchorIds: anchors.map(({ id }) => id) };
  }

  #report(instance: Instance): void {
    if (!this.#isLive(instance)) return;
    instance.told = { sequence: instance.bundle.sequence, svid: instance.svid };
  }

  /** It lost all that it had, and has nothing but what the CA gives it now. */
  #beginAnew(instance: Instance, replica: Replica): void {
    const state = this.#served(replica);
    if (state === null || activeIssuer(state, this.#clockOf(replica)) === undefined) return;
    const isExcused = this.state.rotation?.excused.some((excuse) => excuse.instance === instance.id) ?? false;
    Object.assign(instance, { bundle: { sequence: 0, anchorIds: [] }, told: null, abandoned: isExcused });
    this.#renew(instance, replica);
  }

  #operate({ act, choice, ms }: Extract<Event, { kind: 'operator' }>): void {
    const coverage = this.#coverage();
    const deadlineMs = this.nowMs + ms + 1;
    const { anchors, issuers } = this.state;
    const asked: Record<RotationRequest['act'], () => RotationRequest> = {
      start: () => ({ act: 'start', deadlineMs: null }),
      pause: () => ({ act: 'pause' }),
      resume: () => ({ act: 'resume' }),
      abort: () => ({ act: 'abort' }),
      excuse: () => ({ act: 'excuse', target: this.#instance(choice).id }),
      'anchor-compromised': () => ({
        act: 'anchor-compromised',
        target: anchors[choice % Math.max(1, anchors.length)]?.id ?? '',
        deadlineMs,
      }),
      'issuer-compromised': () => ({
        act: 'issuer-compromised',
        target: issuers[choice % Math.max(1, issuers.length)]?.id ?? '',
      }),
    };
    try {
      const request = { by: 'operator', reason: '', atMs: this.nowMs };
      const next = requestedState(this.state, asked[act](), request, { coverage, upstream: 'self' });
      if (next === this.state) return;
      this.#count(act);
      if (act === 'excuse') this.#instance(choice).abandoned = true;
      for (const { outcome, number } of next.pastRotations) {
        if (this.state.pastRotations.every((past) => past.number !== number)) this.#count(outcome);
      }
      this.#checkPhases(this.state.anchors, next.anchors, true);
      this.state = next;
      this.#version += 1;
    } catch (error) {
      if (!isKedgeError(error, 'rotation_refused')) throw error;
    }
  }

  #checkStep(before: TrustState, after: TrustState): void {
    const ids = (state: TrustState): string => state.anchors.map(({ id }) => id).join();
    const grew = ids(before) !== ids(after);
    this.#must(after.sequence === before.sequence + Number(grew), 'the sequence does not count the bundles');
    this.#checkPhases(before.anchors, after.anchors, false);
    this.#checkPhases(before.issuers, after.issuers, false);
    for (const authorities of [after.anchors, after.issuers]) {
      const active = authorities.filter(
        ({ phase, taintedAtMs }) => phase === 'active' && taintedAtMs === null,
      );
      this.#must(active.length <= 1, 'two are active');
    }
    for (const { id, anchorId } of after.issuers) {
      this.#must(
        after.anchors.some((anchor) => anchor.id === anchorId),
        `${id} has no anchor`,
      );
    }
    for (const { id, key } of [...before.anchors, ...before.issuers]) {
      const isLeft = [...after.anchors, ...after.issuers].some((authority) => authority.id === id);
      if (isLeft) continue;
      this.#gone.add(id);
      this.#must(
        after.discardedKeys.some((discarded) => discarded.id === key?.id),
        `the key of ${id} is forgotten`,
      );
    }
  }

  /** Only forward; but an anchor that a rotation goes back to signs again, when an operator turns it around. */
  #checkPhases(before: readonly Authority[], after: readonly Authority[], byOperator: boolean): void {
    for (const now of after) {
      this.#must(!this.#gone.has(now.id), `${now.id} came back`);
      const was = before.find(({ id }) => id === now.id);
      if (was === undefined) {
        this.#must(now.phase === 'prepared', `${now.id} began as ${now.phase}`);
        continue;
      }
      const isForward = PHASES.indexOf(now.phase) >= PHASES.indexOf(was.phase);
      this.#must(isForward || byOperator, `${now.id} went back from ${was.phase} to ${now.phase}`);
      const isActivated = was.phase !== 'active' && now.phase === 'active';
      this.#must(!(now.taintedAtMs !== null && isActivated), `${now.id} is tainted, and was activated`);
    }
  }

  /** Every live instance's chain verifies against every other live instance's bundle, but for those left behind. */
  #checkNoSplit(): void {
    const live = this.#fleet.filter((instance) => this.#isLive(instance) && !instance.abandoned);
    for (const { id, svid } of live) {
      for (const other of live) {
        const trusts = other.bundle.anchorIds.includes(svid?.anchorId ?? '');
        this.#must(trusts, `${other.id} does not trust ${id}, whose SVID hangs under ${svid?.anchorId}`);
      }
    }
  }

  #isLive({ svid }: Instance): boolean {
    return svid !== null && svid.notAfterMs > this.nowMs;
  }

  #coverage(): Coverage {
    const live = this.#fleet.filter((instance) => this.#isLive(instance));
    const instances = live.map(({ id, told, issued }) => {
      const held = told?.svid ?? null;
      return liveInstance({
        id,
        bundleSequence: told?.sequence ?? 0,
        authorityKeyId: held?.issuerId ?? null,
        svidNotAfterMs: held?.notAfterMs ?? 0,
        confirmed: issued === null || issued.notAfterMs <= (held?.notAfterMs ?? 0),
      });
    });
    // After a start a CA knows nobody, until it has read who was issued SVIDs: it may then not open a gate.
    return this.#forgotten
      ? {
          instances: instances.filter(({ bundleSequence }) => bundleSequence > 0),
          complete: false,
          unknown: 'a start',
        }
      : { instances, complete: true, unknown: '' };
  }

  #count(what: string): void {
    this.seen.set(what, (this.seen.get(what) ?? 0) + 1);
  }

  #clockOf(replica: Replica): number {
    return this.nowMs + replica.offsetMs;
  }

  #replica(index: number): Replica {
    return this.#replicas[index % this.#replicas.length]!;
  }

  #instance(index: number): Instance {
    return this.#fleet[index % this.#fleet.length]!;
  }

  #must(holds: boolean, what: string): void {
    if (!holds) assert.fail(`${what}, after:\n  ${this.#story.join('\n  ')}`);
  }
}

function newInstance(index: number): Instance {
  return {
    id: `pod-${index}`,
    svid: null,
    bundle: { sequence: 0, anchorIds: [] },
    told: null,
    issued: null,
    silent: false,
    abandoned: false,
  };
}
