/**
 * The lifecycle under random fleets, time, crashes and racing replicas: a model of everything around the pure
 * function, and the invariants of the design that apply to it, checked after each event.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { Coverage } from '../../../../ca/authority/coverage.ts';
import { type Decision, type Intent, next } from '../../../../ca/authority/lifecycle.ts';
import {
  checkLifecycleSettings,
  DEFAULT_ROTATION_SETTINGS,
  type LifecycleSettings,
} from '../../../../ca/authority/lifecycle-settings.ts';
import { renewalsDue } from '../../../../ca/authority/renewals.ts';
import { forgetKey, prepareAnchor, prepareIssuer } from '../../../../ca/authority/transitions.ts';
import {
  type Authority,
  emptyTrustState,
  PHASES,
  type TrustState,
} from '../../../../ca/authority/trust-state.ts';
import { activeIssuer, signingAnchor } from '../../../../ca/authority/usable-authority.ts';
import { SELF_SIGHT } from '../../../../ca/authority/upstream-sight.ts';
import { liveInstance } from '../../../support/coverage.ts';
import { checkProperty } from '../../../support/property.ts';
import { emptyHandle } from '../../../support/trust-states.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/**
 * How old a view may be that a replica still signs with, or swaps from, and how wrong its clock: twice both is within
 * clockSkewMs.
 */
const LAG_MS = MINUTE;
const OFFSET_MS = MINUTE;

interface Svid {
  readonly issuerId: string;
  readonly anchorId: string;
  readonly notAfterMs: number;
}

interface Instance {
  svid: Svid | null;
  /** Anchors of the bundle that it acknowledged. */
  bundle: readonly string[];
  sequence: number;
  /** Whether the CA knows of it: it does not, after a restart, before the instance has reported again. */
  isKnown: boolean;
}

interface Replica {
  readonly offsetMs: number;
  /** What it read last, and decided on. */
  view: { readonly version: number; readonly state: TrustState; readonly readAtMs: number } | null;
  decision: Decision | null;
}

type Outcome = 'persisted' | 'persisted but reported failed' | 'not persisted';

type Event =
  | { readonly kind: 'time passes'; readonly ms: number }
  | { readonly kind: 'SVIDs grow old'; readonly twentiethsOfTtl: number }
  | { readonly kind: 'the active issuer comes of age' }
  | { readonly kind: 'the lifecycle is left alone' }
  | { readonly kind: 'the fleet is forgotten' }
  | { readonly kind: 'replica looks'; readonly replica: number }
  | {
      readonly kind: 'replica acts';
      readonly replica: number;
      readonly outcome: Outcome;
      readonly minted: boolean;
    }
  | { readonly kind: 'replica crashes'; readonly replica: number }
  | { readonly kind: 'instance renews'; readonly instance: number; readonly replica: number }
  | { readonly kind: 'instance dies'; readonly instance: number }
  | { readonly kind: 'active issuer is tainted' };

class World {
  readonly #settings: LifecycleSettings;
  readonly #replicas: readonly Replica[];
  readonly #fleet: readonly Instance[];
  readonly #story: string[] = [];
  nowMs = Date.UTC(2026, 0, 1);
  state: TrustState = emptyTrustState('example.org');
  #version = 0;
  #made = 0;
  /** Ids that have left the state, and must not come back. */
  readonly #gone = new Set<string>();

  constructor(settings: LifecycleSettings, offsets: readonly number[], instances: number) {
    this.#settings = settings;
    this.#replicas = offsets.map((offsetMs) => ({ offsetMs, view: null, decision: null }));
    this.#fleet = Array.from({ length: instances }, () => ({
      svid: null,
      bundle: [],
      sequence: 0,
      isKnown: false,
    }));
  }

  apply(event: Event): void {
    this.#story.push(JSON.stringify(event));
    switch (event.kind) {
      case 'time passes':
        this.nowMs += event.ms;
        break;
      case 'SVIDs grow old':
        this.nowMs += Math.ceil((event.twentiethsOfTtl * this.#settings.maxSvidTtlMs) / 20);
        break;
      case 'the active issuer comes of age': {
        const active = this.state.issuers.find(({ phase }) => phase === 'active');
        this.nowMs = Math.max(this.nowMs, (active?.phaseSinceMs ?? 0) + this.#settings.issuerRenewAfterMs);
        break;
      }
      case 'the lifecycle is left alone':
        this.settle();
        break;
      case 'the fleet is forgotten':
        for (const instance of this.#fleet) instance.isKnown = false;
        break;
      case 'replica looks':
        this.#look(this.#replica(event.replica));
        break;
      case 'replica acts':
        this.#act(this.#replica(event.replica), event.outcome, event.minted);
        break;
      case 'replica crashes':
        Object.assign(this.#replica(event.replica), { view: null, decision: null });
        break;
      case 'instance renews':
        this.#renew(this.#instance(event.instance), this.#replica(event.replica));
        break;
      case 'instance dies':
        Object.assign(this.#instance(event.instance), { svid: null, bundle: [], sequence: 0 });
        break;
      case 'active issuer is tainted':
        this.#taint();
        break;
      default:
        event satisfies never;
    }
    this.#checkNoSplit();
  }

  /** Runs one replica, undisturbed, until it waits. */
  settle(): void {
    const replica = this.#replica(0);
    for (let steps = 0; ; steps += 1) {
      this.#must(steps < 200, 'the lifecycle does not come to rest');
      this.#look(replica);
      if (replica.decision?.kind === 'wait') return;
      this.#act(replica, 'persisted', true);
    }
  }

  /** What must hold whenever the lifecycle had its way: somebody can sign, if an anchor may. */
  checkCanSign(): void {
    const nowMs = this.#clockOf(this.#replica(0));
    if (signingAnchor(this.state, nowMs) === undefined) return;
    this.#must(activeIssuer(this.state, nowMs) !== undefined, 'nobody can sign');
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
    if (replica.decision.kind === 'wait') {
      this.#must(replica.decision.untilMs > nowMs, 'it waits for the past');
      assert.notEqual(replica.decision.reason, '');
    }
  }

  #act(replica: Replica, outcome: Outcome, minted: boolean): void {
    const { view, decision } = replica;
    replica.decision = null;
    if (view === null || decision === null || decision.kind === 'wait') return;
    // A swap has a deadline, and nothing else is waited for between deciding on a step and its swap.
    if (decision.kind === 'step' && this.nowMs - view.readAtMs > LAG_MS) return;
    const proposed =
      decision.kind === 'step'
        ? decision.state
        : this.#carryOut(decision.intent, view.state, replica, minted);
    if (proposed === null || view.version !== this.#version || outcome === 'not persisted') return;
    this.#checkStep(this.state, proposed);
    this.state = proposed;
    this.#version += 1;
    if (outcome === 'persisted')
      replica.view = { version: this.#version, state: proposed, readAtMs: this.nowMs };
  }

  #carryOut(intent: Intent, state: TrustState, replica: Replica, minted: boolean): TrustState | null {
    if (!minted) return null;
    const nowMs = this.#clockOf(replica);
    this.#made += 1;
    const id = this.#made.toString(16).padStart(8, '0');
    const common = { id, certificate: new Uint8Array(), key: emptyHandle(`key-${id}`) };
    switch (intent.kind) {
      case 'mint-anchor':
        return prepareAnchor(state, { ...common, ...timesOf(intent), upstream: 'self' }, nowMs);
      case 'mint-issuer': {
        this.#must(intent.notAfterMs <= intent.anchor.notAfterMs, 'an issuer beyond its anchor');
        // The checks before adoption refuse what an upstream gives too late.
        if (intent.notAfterMs <= nowMs) return null;
        const place = { anchorId: intent.anchor.id, intermediates: [] };
        return prepareIssuer(state, { ...common, ...timesOf(intent), ...place }, nowMs);
      }
      case 'take-issuer':
        throw new Error('an upstream of our own gives no issuers');
      case 'destroy-key':
        return forgetKey(state, intent.key);
      default:
        return intent satisfies never;
    }
  }

  #renew(instance: Instance, replica: Replica): void {
    const { view } = replica;
    if (view === null || this.nowMs - view.readAtMs > LAG_MS) return;
    const nowMs = this.#clockOf(replica);
    const issuer = activeIssuer(view.state, nowMs);
    if (issuer === undefined) return;
    if (view.version === this.#version) {
      const now = this.state.issuers.find(({ id }) => id === issuer.id);
      this.#must(now?.phase === 'active' && now.taintedAtMs === null, 'it signs with what may not');
    }
    const notAfterMs = Math.min(nowMs + this.#settings.maxSvidTtlMs, issuer.notAfterMs);
    const anchor = this.state.anchors.find(({ id }) => id === issuer.anchorId);
    this.#must(anchor !== undefined && notAfterMs <= anchor.notAfterMs, 'an SVID beyond its anchor');
    instance.svid = { issuerId: issuer.id, anchorId: issuer.anchorId, notAfterMs };
    instance.bundle = view.state.anchors.map(({ id }) => id);
    instance.sequence = view.state.sequence;
    instance.isKnown = true;
  }

  #taint(): void {
    const issuers = this.state.issuers.map((issuer) =>
      issuer.phase === 'active' ? { ...issuer, taintedAtMs: issuer.taintedAtMs ?? this.nowMs } : issuer,
    );
    this.state = { ...this.state, issuers };
    this.#version += 1;
  }

  #checkStep(before: TrustState, after: TrustState): void {
    const grew =
      after.anchors.length !== before.anchors.length ||
      after.anchors.some(({ id }, i) => before.anchors[i]?.id !== id);
    this.#must(after.sequence === before.sequence + Number(grew), 'the sequence does not count the bundles');
    this.#checkPhases(before.anchors, after.anchors);
    this.#checkPhases(before.issuers, after.issuers);
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
    const removed = before.issuers.filter(({ id }) => after.issuers.every((issuer) => issuer.id !== id));
    for (const { id, phase } of removed) {
      this.#must(phase === 'retired', `${id} was removed out of order`);
      const holders = this.#live().filter(({ svid }) => svid?.issuerId === id);
      this.#must(holders.length === 0, `${id} was removed under a live SVID`);
      this.#must(
        after.discardedKeys.some((key) => key.id === `key-${id}`),
        'its key is forgotten',
      );
      this.#gone.add(id);
    }
  }

  #checkPhases(before: readonly Authority[], after: readonly Authority[]): void {
    for (const now of after) {
      this.#must(!this.#gone.has(now.id), `${now.id} came back`);
      const was = before.find(({ id }) => id === now.id);
      if (was === undefined) this.#must(now.phase === 'prepared', `${now.id} began as ${now.phase}`);
      else {
        this.#must(PHASES.indexOf(now.phase) >= PHASES.indexOf(was.phase), `${now.id} went back`);
        this.#must(now.phaseSinceMs >= was.phaseSinceMs, `${now.id} entered its phase before the last`);
        this.#must(
          !(was.taintedAtMs !== null && was.phase !== now.phase && now.phase === 'active'),
          'tainted, and activated',
        );
      }
    }
  }

  /** Every live instance's chain verifies against every other live instance's bundle. */
  #checkNoSplit(): void {
    for (const { svid } of this.#live()) {
      for (const { bundle } of this.#live()) {
        this.#must(bundle.includes(svid?.anchorId ?? ''), 'two live instances do not trust each other');
      }
    }
  }

  #live(): readonly Instance[] {
    return this.#fleet.filter(({ svid }) => svid !== null && svid.notAfterMs > this.nowMs);
  }

  #coverage(): Coverage {
    const known = this.#live().filter(({ isKnown }) => isKnown);
    const instances = known.map(({ svid, sequence }, i) =>
      liveInstance({
        id: `pod-${i}`,
        bundleSequence: sequence,
        authorityKeyId: svid?.issuerId ?? null,
        svidNotAfterMs: svid?.notAfterMs ?? 0,
      }),
    );
    for (const due of renewalsDue(this.state, { instances }, this.nowMs, 10)) {
      assert.equal(due.authorityKeyId, activeIssuer(this.state, this.nowMs)?.id);
    }
    return { instances, complete: known.length === this.#live().length, unknown: 'some' };
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

function timesOf({ notBeforeMs, notAfterMs }: { notBeforeMs: number; notAfterMs: number }) {
  return { notBeforeMs, notAfterMs };
}

const index = fc.nat(5);
const events: fc.Arbitrary<Event> = fc.oneof(
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('time passes'), ms: fc.nat(2 * MINUTE) }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('SVIDs grow old'), twentiethsOfTtl: fc.nat(30) }),
  },
  { weight: 1, arbitrary: fc.constant({ kind: 'the active issuer comes of age' } as const) },
  { weight: 2, arbitrary: fc.constant({ kind: 'the lifecycle is left alone' } as const) },
  { weight: 1, arbitrary: fc.constant({ kind: 'the fleet is forgotten' } as const) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('replica looks'), replica: index }) },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('replica acts'),
      replica: index,
      outcome: fc.constantFrom<Outcome>(
        'persisted',
        'persisted',
        'persisted',
        'persisted but reported failed',
        'not persisted',
      ),
      minted: fc.integer({ min: 0, max: 3 }).map((n) => n > 0),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('replica crashes'), replica: index }) },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant('instance renews'), instance: index, replica: index }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('instance dies'), instance: index }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'active issuer is tainted' } as const) },
);

const settings: fc.Arbitrary<LifecycleSettings> = fc
  .record({
    maxSvidTtlMs: fc.integer({ min: 10 * MINUTE, max: 2 * DAY }),
    renewAfter: fc.integer({ min: 1, max: 20 }),
    room: fc.integer({ min: 1, max: 10 }),
    anchorLifetimeMs: fc.integer({ min: 80 * DAY, max: 2_000 * DAY }),
    backdateMs: fc.integer({ min: 0, max: 10 * MINUTE }),
  })
  .map(({ maxSvidTtlMs, renewAfter, room, anchorLifetimeMs, backdateMs }) => ({
    anchorLifetimeMs,
    issuerRenewAfterMs: renewAfter * maxSvidTtlMs,
    issuerLifetimeMs: (renewAfter + room) * maxSvidTtlMs,
    maxSvidTtlMs,
    backdateMs,
    clockSkewMs: 5 * MINUTE,
    rotation: DEFAULT_ROTATION_SETTINGS,
  }));

const offsets = fc.array(fc.integer({ min: -OFFSET_MS, max: OFFSET_MS }), { minLength: 1, maxLength: 3 });

describe('the lifecycle, with racing replicas that crash and a fleet that lives its own life', () => {
  it('never breaks an invariant of the design, and can always sign again once it is left alone', () => {
    const story = fc.property(
      settings,
      offsets,
      fc.integer({ min: 1, max: 4 }),
      fc.array(events, { maxLength: 80, size: 'max' }),
      (settings, offsets, instances, events) => {
        checkLifecycleSettings(settings);
        const world = new World(settings, offsets, instances);
        for (const event of events) world.apply(event);
        world.settle();
        // A new authority of a replica whose clock is ahead becomes valid for the others within that time.
        world.apply({ kind: 'time passes', ms: 2 * OFFSET_MS });
        world.settle();
        world.checkCanSign();
      },
    );
    checkProperty(story, 2_000);
  });

  it('replaces issuers for years without a moment in which nobody can sign, and keeps the state small', () => {
    const years = fc.property(settings, fc.integer({ min: 1, max: 4 }), (settings, instances) => {
      const world = new World(settings, [0], instances);
      for (let i = 0; i < 300; i += 1) {
        world.settle();
        world.checkCanSign();
        for (let instance = 0; instance < instances; instance += 1) {
          world.apply({ kind: 'instance renews', instance, replica: 0 });
        }
        assert.ok(world.state.issuers.length <= 8, `${world.state.issuers.length} issuers`);
        world.apply({ kind: 'time passes', ms: Math.ceil(settings.maxSvidTtlMs / 3) });
      }
    });
    checkProperty(years, 50);
  });
});
