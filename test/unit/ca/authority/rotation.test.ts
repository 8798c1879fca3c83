/** The rotation of the trust anchor, on the pure lifecycle: its steps, its gates, and what operators may ask. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { compromiseAnchor } from '../../../../ca/authority/compromise.ts';
import { type Coverage, NO_COVERAGE } from '../../../../ca/authority/coverage.ts';
import { type Decision, next } from '../../../../ca/authority/lifecycle.ts';
import {
  DEFAULT_LIFECYCLE_SETTINGS,
  type RotationSettings,
} from '../../../../ca/authority/lifecycle-settings.ts';
import type { Request } from '../../../../ca/authority/rotation.ts';
import {
  abortRotation,
  beginRotation,
  excuseInstance,
  pauseRotation,
  prepareGoal,
  resumeRotation,
} from '../../../../ca/authority/rotation-transitions.ts';
import { type NewAnchor, prepareIssuer } from '../../../../ca/authority/transitions.ts';
import {
  type Anchor,
  type Issuer,
  NO_ROTATION,
  type TrustState,
} from '../../../../ca/authority/trust-state.ts';
import { SELF_SIGHT, type UpstreamSight } from '../../../../ca/authority/upstream-sight.ts';
import { coverageOfAll } from '../../../support/coverage.ts';
import { expectCode } from '../../../support/expect-code.ts';
import { emptyHandle } from '../../../support/trust-states.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const NOW = Date.UTC(2026, 5, 1);
const OLD = 'aaaaaaaa01';
const NEW = 'aaaaaaaa02';

const times = { notBeforeMs: NOW - DAY, notAfterMs: NOW + 1_000 * DAY };
const anchor = (over: Partial<Anchor> = {}): Anchor => ({
  id: OLD,
  phase: 'active',
  phaseSinceMs: NOW - DAY,
  taintedAtMs: null,
  certificate: new Uint8Array(),
  ...times,
  upstream: 'self',
  sinceSequence: 1,
  key: emptyHandle('key-old-anchor'),
  ...over,
});
const issuer = (over: Partial<Issuer> = {}): Issuer => ({
  id: 'bbbbbbbb01',
  phase: 'active',
  phaseSinceMs: NOW - DAY,
  taintedAtMs: null,
  certificate: new Uint8Array(),
  notBeforeMs: NOW - DAY,
  notAfterMs: NOW + 29 * DAY,
  anchorId: OLD,
  intermediates: [],
  key: emptyHandle('key-old-issuer'),
  ...over,
});
const atRest: TrustState = {
  trustDomain: 'example.org',
  sequence: 1,
  anchors: [anchor()],
  issuers: [issuer()],
  discardedKeys: [],
  ...NO_ROTATION,
};
const offered = (upstream: NewAnchor['upstream'] = 'vault'): NewAnchor => ({
  id: NEW,
  certificate: new Uint8Array(),
  ...times,
  upstream,
  key: upstream === 'self' ? emptyHandle('key-new-anchor') : null,
});
const vault: UpstreamSight = { ...SELF_SIGHT, kind: 'vault', mintable: ['vault', 'self'] };
const request: Request = { by: 'alice', reason: 'yearly', atMs: NOW };
const planned = { kind: 'planned', upstream: 'self', deadlineMs: null } as const;

interface Options {
  readonly coverage?: Coverage;
  readonly upstream?: UpstreamSight;
  readonly nowMs?: number;
  readonly rotation?: Partial<RotationSettings>;
}

function decide(state: TrustState, options: Options = {}): Decision {
  const { coverage = coverageOfAll(), upstream = SELF_SIGHT, nowMs = NOW, rotation = {} } = options;
  const settings = {
    ...DEFAULT_LIFECYCLE_SETTINGS,
    rotation: { ...DEFAULT_LIFECYCLE_SETTINGS.rotation, ...rotation },
  };
  return next({ state, coverage, upstream, nowMs, settings });
}

/** Runs the lifecycle until it waits; anchors and issuers that it wants are made at once. Gives where it stands. */
function settle(from: TrustState, options: Options = {}): { state: TrustState; reason: string } {
  let state = from;
  for (let steps = 0; steps < 50; steps += 1) {
    const decision = decide(state, options);
    if (decision.kind === 'wait') return { state, reason: decision.reason };
    state = decision.kind === 'step' ? decision.state : carriedOut(decision.intent, state, options);
  }
  throw new Error('it does not come to rest');
}

function carriedOut(
  intent: Extract<Decision, { kind: 'intent' }>['intent'],
  state: TrustState,
  { nowMs = NOW }: Options,
): TrustState {
  switch (intent.kind) {
    case 'mint-anchor':
      return prepareGoal(state, offered('self'), nowMs);
    case 'destroy-key':
      return { ...state, discardedKeys: state.discardedKeys.filter(({ id }) => id !== intent.key.id) };
    case 'mint-issuer':
    case 'take-issuer': {
      const id = `cccccccc${String(state.issuers.length).padStart(2, '0')}${intent.anchor.id.slice(-1)}`;
      const {
        phase: _,
        phaseSinceMs: __,
        taintedAtMs: ___,
        ...made
      } = issuer({ id, anchorId: intent.anchor.id });
      return prepareIssuer(state, { ...made, key: emptyHandle(`key-${id}`) }, nowMs);
    }
  }
}

const phases = ({ anchors }: TrustState) => anchors.map(({ id, phase }) => `${id.slice(-2)} ${phase}`);
const signs = ({ issuers }: TrustState) =>
  issuers.find(({ phase }) => phase === 'active')?.anchorId.slice(-2);
const outcomes = ({ pastRotations }: TrustState) => pastRotations.map(({ outcome }) => outcome);

/** Two instances that hold this bundle, and SVIDs of this issuer. */
const two = (bundleSequence: number, authorityKeyId: string, more: object = {}): Coverage =>
  coverageOfAll(
    ...['1', '2'].map((id) => ({ id, bundleSequence, authorityKeyId, svidNotAfterMs: NOW + DAY, ...more })),
  );

/** A rotation of our own anchor, up to the named gate. */
function upTo(
  gate: 'prepared' | 'activated' | 'removed',
  of = beginRotation(atRest, planned, request),
): TrustState {
  const prepared = settle(of, { coverage: two(1, 'bbbbbbbb01') }).state;
  if (gate === 'prepared') return prepared;
  const activated = settle(prepared, { coverage: two(2, 'bbbbbbbb01') }).state;
  if (gate === 'activated') return activated;
  const active = activated.issuers.find(({ phase }) => phase === 'active');
  return settle(activated, { coverage: two(2, active?.id ?? '') }).state;
}

describe('a planned rotation', () => {
  it('puts the new anchor into the bundle first, and waits for every instance to acknowledge it, by name', () => {
    const { state, reason } = settle(beginRotation(atRest, planned, request), {
      coverage: two(1, 'bbbbbbbb01'),
    });
    assert.deepEqual([state.sequence, phases(state), signs(state)], [2, ['01 active', '02 prepared'], '01']);
    assert.match(
      reason,
      /^rotation 1: waiting for 2 of 2 instances to acknowledge bundle 2: shop\/cart-1, shop\/cart-2;/,
    );
  });

  it('waits for what was issued since the report: it may be another agent, with what a replica behind gave it', () => {
    const { reason } = settle(upTo('prepared'), { coverage: two(2, 'bbbbbbbb01', { confirmed: false }) });
    assert.match(reason, /waiting for 2 of 2 instances to acknowledge bundle 2/);
    const activated = settle(upTo('prepared'), { coverage: two(2, 'bbbbbbbb01') }).state;
    const active = activated.issuers.find(({ phase }) => phase === 'active')?.id ?? '';
    const held = settle(activated, { coverage: two(2, active, { confirmed: false }) });
    assert.deepEqual(phases(held.state), ['01 retired', '02 active']);
    assert.match(held.reason, /waiting for 2 of 2 instances to hold an SVID/);
  });

  it('activates it once all have it, and waits for every instance to hold an SVID under it', () => {
    const state = upTo('activated');
    assert.deepEqual([state.sequence, phases(state), signs(state)], [2, ['01 retired', '02 active'], '02']);
    const { reason } = settle(state, { coverage: two(2, 'bbbbbbbb01') });
    assert.match(reason, /waiting for 2 of 2 instances to hold an SVID under trust anchor aaaaaaaa/);
  });

  it('removes the old one with all below it once all do, and waits for every instance to acknowledge that', () => {
    const state = upTo('removed');
    assert.deepEqual([state.sequence, phases(state)], [3, ['02 active']]);
    assert.ok(state.issuers.every(({ anchorId }) => anchorId === NEW));
    const { reason } = settle(state, { coverage: two(2, state.issuers[0]!.id) });
    assert.match(reason, /waiting for 2 of 2 instances to acknowledge bundle 3/);
  });

  it('ends then, is remembered with who and why, and leaves one anchor', () => {
    const { state } = settle(upTo('removed'), { coverage: two(3, 'cccccccc012') });
    assert.equal(state.rotation, null);
    assert.deepEqual(
      state.pastRotations.map(({ number, outcome, by, reason, fromAnchorId, goalAnchorId }) => [
        number,
        outcome,
        by,
        reason,
        fromAnchorId,
        goalAnchorId,
      ]),
      [[1, 'completed', 'alice', 'yearly', OLD, NEW]],
    );
  });

  it('gives the keys of what it removed up to be destroyed', () => {
    const before = upTo('activated');
    const active = before.issuers.find(({ phase }) => phase === 'active');
    const decision = decide(before, { coverage: two(2, active?.id ?? '') });
    assert.ok(decision.kind === 'step');
    const discarded = decision.state.discardedKeys.map(({ id }) => id);
    assert.deepEqual(discarded, ['key-old-anchor', 'key-old-issuer']);
  });

  it('is one at a time', () => {
    const error = expectCode('rotation_refused', () => beginRotation(upTo('prepared'), planned, request));
    assert.match(error.message, /rotation 1 is under way since 2026-06-01/);
  });

  it('past its deadline is overdue, and forces nothing', () => {
    const late = beginRotation(atRest, { ...planned, deadlineMs: NOW }, request);
    const { state, reason } = settle(late, { coverage: two(1, 'bbbbbbbb01'), nowMs: NOW + HOUR });
    assert.deepEqual(phases(state), ['01 active', '02 prepared']);
    assert.match(reason, /rotation 1, overdue since 2026-06-01T00:00:00.000Z: waiting for 2 of 2/);
  });
});

describe('a gate of a rotation', () => {
  it('stays shut while it is not certain that all live instances are known, whoever has followed', () => {
    const coverage = { ...two(2, 'bbbbbbbb01'), complete: false, unknown: 'the pods could not be read' };
    const { state, reason } = settle(upTo('prepared'), { coverage });
    assert.deepEqual(phases(state), ['01 active', '02 prepared']);
    assert.match(reason, /waiting to know all live instances \(the pods could not be read\)/);
    assert.deepEqual(phases(settle(upTo('prepared'), { coverage: NO_COVERAGE }).state), [
      '01 active',
      '02 prepared',
    ]);
  });

  it('waits for the last one, and not for one that an operator excused by name', () => {
    const coverage = coverageOfAll(
      { id: '1', bundleSequence: 2, authorityKeyId: 'bbbbbbbb01' },
      { id: '2', bundleSequence: 1, authorityKeyId: 'bbbbbbbb01' },
    );
    const waiting = settle(upTo('prepared'), { coverage });
    assert.match(waiting.reason, /waiting for 1 of 2 instances to acknowledge bundle 2: shop\/cart-2;/);
    const excuse = { instance: '2', name: 'shop/cart-2', atMs: NOW, by: 'bob', reason: 'broken node' };
    const excused = settle(excuseInstance(waiting.state, excuse), { coverage });
    assert.deepEqual(phases(excused.state), ['01 retired', '02 active']);
  });

  it('names five at most, and counts the rest with commas', () => {
    const many = Array.from({ length: 1_204 }, (_, i) => ({
      id: String(i).padStart(4, '0'),
      bundleSequence: 1,
    }));
    const { reason } = settle(upTo('prepared'), { coverage: coverageOfAll(...many) });
    assert.match(reason, /waiting for 1,204 of 1,204 instances .*cart-0004 and 1,199 more;/);
  });

  it('takes only what was proven, where the settings ask for that', () => {
    const proven = { rotation: { evidence: 'proven' as const } };
    const loaded = settle(upTo('prepared'), { coverage: two(2, 'bbbbbbbb01'), ...proven });
    assert.deepEqual(phases(loaded.state), ['01 active', '02 prepared']);
    const shown = settle(upTo('prepared'), { coverage: two(2, 'bbbbbbbb01', { proven: true }), ...proven });
    assert.deepEqual(phases(shown.state), ['01 retired', '02 active']);
  });

  it('stays shut for a while after the step before, where there are other replicas to hear of it', () => {
    const slow = { coverage: two(2, 'bbbbbbbb01'), rotation: { settleMs: 15_000 } };
    const early = settle(upTo('prepared'), { ...slow, nowMs: NOW + 14_999 });
    assert.deepEqual(phases(early.state), ['01 active', '02 prepared']);
    assert.match(early.reason, /waiting until every replica of the CA has heard of the last step/);
    const later = settle(upTo('prepared'), { ...slow, nowMs: NOW + 15_000 });
    assert.deepEqual(phases(later.state), ['01 retired', '02 active']);
  });

  it('opens for a fleet of nobody, when it is certain that there is nobody', () => {
    assert.deepEqual(outcomes(settle(beginRotation(atRest, planned, request)).state), ['completed']);
  });

  it('is looked at again within a second', () => {
    const decision = decide(upTo('prepared'), { coverage: two(1, 'bbbbbbbb01') });
    assert.ok(decision.kind === 'wait');
    assert.equal(decision.untilMs, NOW + 1_000);
  });
});

describe('an operator of a rotation', () => {
  it('may pause it: no gate opens until it is resumed', () => {
    const paused = settle(pauseRotation(upTo('prepared'), NOW), { coverage: two(2, 'bbbbbbbb01') });
    assert.deepEqual(phases(paused.state), ['01 active', '02 prepared']);
    assert.match(paused.reason, /^rotation 1 is paused since 2026-06-01/);
    const resumed = settle(resumeRotation(paused.state), { coverage: two(2, 'bbbbbbbb01') });
    assert.deepEqual(phases(resumed.state), ['01 retired', '02 active']);
  });

  it('may abort it before anything has entered the bundle: then it is over', () => {
    const aborted = abortRotation(beginRotation(atRest, planned, request), NOW);
    assert.deepEqual(
      [aborted.rotation, phases(aborted), outcomes(aborted)],
      [null, ['01 active'], ['aborted']],
    );
  });

  it('may abort it while the new anchor is prepared: it leaves, and nobody renews', () => {
    const { state } = settle(abortRotation(upTo('prepared'), NOW), { coverage: two(3, 'bbbbbbbb01') });
    assert.deepEqual([phases(state), state.sequence, outcomes(state)], [['01 active'], 3, ['aborted']]);
    assert.equal(signs(state), '01');
  });

  it('may abort it while SVIDs come from the new anchor: through the same gates, back to the old one', () => {
    const turned = settle(abortRotation(upTo('activated'), NOW), { coverage: two(2, 'cccccccc012') });
    assert.deepEqual([phases(turned.state), signs(turned.state)], [['01 active', '02 retired'], '01']);
    assert.match(turned.reason, /^rotation 1 \(aborted\): waiting for 2 of 2 instances to hold an SVID/);
    const active = turned.state.issuers.find(({ phase }) => phase === 'active');
    const { state } = settle(turned.state, { coverage: two(3, active?.id ?? '') });
    assert.deepEqual([phases(state), state.rotation, outcomes(state)], [['01 active'], null, ['aborted']]);
  });

  it('may not abort it once the old anchor is out of the bundle', () => {
    const error = expectCode('rotation_refused', () => abortRotation(upTo('removed'), NOW));
    assert.match(error.message, /out of the bundle/);
  });

  it('may ask nothing of a rotation that is not there', () => {
    const excuse = { instance: '1', name: 'shop/cart-1', atMs: NOW, by: 'bob', reason: '' };
    for (const ask of [
      () => abortRotation(atRest, NOW),
      () => pauseRotation(atRest, NOW),
      () => resumeRotation(atRest),
      () => excuseInstance(atRest, excuse),
    ]) {
      assert.match(expectCode('rotation_refused', ask).message, /no rotation is under way/);
    }
  });

  it('may excuse no more instances than the limit', () => {
    let state = upTo('prepared');
    const excuse = (i: number) => ({ instance: `${i}`, name: `shop/${i}`, atMs: NOW, by: 'bob', reason: '' });
    for (let i = 0; i < 64; i += 1) state = excuseInstance(state, excuse(i));
    assert.equal(excuseInstance(state, excuse(3)), state, 'the same one twice is one');
    expectCode('rotation_refused', () => excuseInstance(state, excuse(64)));
  });
});

describe('a compromise', () => {
  const plan = { upstream: 'self', deadlineMs: NOW + HOUR } as const;
  const taints = ({ anchors }: TrustState) => anchors.map(({ taintedAtMs }) => taintedAtMs !== null);

  it('taints the anchor and rotates away from it by the same steps', () => {
    const begun = compromiseAnchor(atRest, OLD, plan, request);
    assert.deepEqual([taints(begun), begun.rotation?.kind], [[true], 'compromise']);
    const { state } = settle(begun, { coverage: two(1, 'bbbbbbbb01') });
    assert.deepEqual([phases(state), signs(state)], [['01 active', '02 prepared'], '01']);
    const activated = upTo('activated', begun);
    assert.deepEqual([phases(activated), signs(activated)], [['01 retired', '02 active'], '02']);
  });

  it('removes the anchor at the deadline whoever has followed, and names who was cut off', () => {
    const begun = compromiseAnchor(atRest, OLD, plan, request);
    const waiting = upTo('prepared', begun);
    const coverage = two(1, 'bbbbbbbb01');
    assert.deepEqual(phases(settle(waiting, { coverage, nowMs: NOW + HOUR - 1 }).state), [
      '01 active',
      '02 prepared',
    ]);
    const forced = settle(waiting, { coverage, nowMs: NOW + HOUR }).state;
    assert.deepEqual(phases(forced), ['01 retired', '02 active'], 'whoever can renews now');
    const { state } = settle(forced, { coverage, nowMs: NOW + HOUR + MINUTE });
    assert.deepEqual([phases(state), signs(state), state.sequence], [['02 active'], '02', 3]);
    assert.deepEqual(
      [state.rotation?.cutOff, state.rotation?.cutOffCount],
      [['shop/cart-1', 'shop/cart-2'], 2],
    );
  });

  it('whose new anchor comes after the deadline leaves a minute for each step: nobody had heard of it', () => {
    const late = NOW + 2 * HOUR;
    const coverage = two(1, 'bbbbbbbb01');
    let state = compromiseAnchor(atRest, OLD, plan, request);
    const at = (nowMs: number) => phases((state = settle(state, { coverage, nowMs }).state));
    assert.deepEqual(at(late), ['01 active', '02 prepared']);
    assert.deepEqual(at(late + MINUTE - 1), ['01 active', '02 prepared']);
    assert.deepEqual(at(late + MINUTE), ['01 retired', '02 active']);
    assert.deepEqual(at(late + 2 * MINUTE - 1), ['01 retired', '02 active']);
    assert.deepEqual(at(late + 2 * MINUTE), ['02 active']);
  });

  it('keeps to its deadline only while it is not paused', () => {
    const paused = pauseRotation(upTo('prepared', compromiseAnchor(atRest, OLD, plan, request)), NOW);
    const { state } = settle(paused, { coverage: two(1, 'bbbbbbbb01'), nowMs: NOW + 2 * HOUR });
    assert.deepEqual(phases(state), ['01 active', '02 prepared']);
  });

  it('takes over a planned rotation away from the anchor, and goes on where that was', () => {
    for (const gate of ['prepared', 'activated'] as const) {
      const before = upTo(gate);
      const over = compromiseAnchor(before, OLD, plan, request);
      assert.deepEqual(phases(over), phases(before));
      assert.deepEqual(
        [over.rotation?.number, over.rotation?.kind, outcomes(over)],
        [2, 'compromise', ['taken-over']],
      );
      assert.equal(over.rotation?.goalAnchorId, NEW);
      expectCode('rotation_refused', () => abortRotation(over, NOW));
    }
  });

  it('of the anchor that a rotation goes to turns it back to the old one', () => {
    for (const gate of ['prepared', 'activated'] as const) {
      const over = compromiseAnchor(upTo(gate), NEW, plan, request);
      assert.deepEqual([phases(over), over.rotation?.goalAnchorId], [['01 active', '02 retired'], OLD]);
      const { state } = settle(over, { coverage: two(1, 'bbbbbbbb01'), nowMs: NOW + HOUR });
      assert.deepEqual(phases(state), ['01 active']);
    }
  });

  it('of the old anchor after an abort goes to a third: nobody may have acknowledged the one that was given up', () => {
    const aborted = abortRotation(upTo('prepared'), NOW);
    const over = compromiseAnchor(aborted, OLD, plan, request);
    assert.deepEqual([over.rotation?.goalAnchorId, phases(over)], [null, ['01 active', '02 retired']]);
  });

  it('of both anchors goes to a third', () => {
    const both = compromiseAnchor(
      compromiseAnchor(upTo('activated'), OLD, plan, request),
      NEW,
      plan,
      request,
    );
    assert.deepEqual([both.rotation?.goalAnchorId, both.rotation?.number], [null, 3]);
    const decision = decide(both, { coverage: two(2, 'bbbbbbbb01') });
    assert.ok(decision.kind === 'intent' && decision.intent.kind === 'mint-anchor');
  });

  it('of the only anchor that is left takes over the end of the rotation', () => {
    const over = compromiseAnchor(upTo('removed'), NEW, plan, request);
    assert.deepEqual([over.rotation?.goalAnchorId, over.rotation?.removedSequence], [null, null]);
  });

  const external = { ...atRest, anchors: [anchor({ upstream: 'vault', key: null })] };
  const inVault = { upstream: 'vault', deadlineMs: NOW + HOUR } as const;
  const follows = (id: string): Coverage => two(9, id);

  it('of the anchor that an upstream has gone over to does not end in a rotation to it again', () => {
    const begun = beginRotation(external, { kind: 'planned', ...inVault }, request);
    const over = compromiseAnchor(prepareGoal(begun, offered(), NOW), NEW, inVault, request);
    const upstream = { ...vault, offered: offered() };
    const { state, reason } = settle(over, { coverage: follows('bbbbbbbb01'), upstream });
    assert.deepEqual([phases(state), state.rotation], [['01 active'], null]);
    assert.match(reason, /trust anchor aaaaaaaa, which .+ offers, was given up as compromised by rotation 2/);
  });

  it('of an anchor of others is remembered when it has left: the upstream may offer it again', () => {
    const begun = compromiseAnchor(external, OLD, inVault, request);
    const away = settle(begun, {
      coverage: two(9, 'cccccccc012'),
      upstream: { ...vault, offered: offered() },
    }).state;
    assert.deepEqual([phases(away), away.rotation], [['02 active'], null]);
    const again = { ...vault, offered: { ...offered(), id: OLD } };
    const options = { coverage: two(9, 'cccccccc012'), upstream: again };
    assert.deepEqual(phases(settle(away, options).state), ['02 active']);
    for (const asked of [
      compromiseAnchor(away, NEW, inVault, request),
      beginRotation(away, { ...planned, upstream: 'vault' }, request),
    ]) {
      const waiting = settle(asked, options);
      assert.deepEqual(phases(waiting.state), ['02 active'], 'nor does an operator go there');
      assert.match(waiting.reason, /waiting for a trust anchor .+ given up as compromised by rotation 1/);
    }
  });

  it('goes to an anchor that was turned away from by an abort, where there is no other', () => {
    const begun = beginRotation(external, { kind: 'planned', ...inVault }, request);
    const upstream = { ...vault, offered: offered() };
    const coverage = two(9, 'bbbbbbbb01');
    const aborted = settle(abortRotation(prepareGoal(begun, offered(), NOW), NOW), {
      coverage,
      upstream,
    }).state;
    assert.deepEqual([phases(aborted), aborted.declinedAnchors], [['01 active'], [NEW]]);
    const { state } = settle(compromiseAnchor(aborted, OLD, inVault, request), { coverage, upstream });
    assert.deepEqual(phases(state), ['01 retired', '02 active']);
  });

  it('while a rotation waits for an anchor takes that of the upstream that is configured now', () => {
    const begun = beginRotation(external, { ...planned, upstream: 'vault' }, request);
    const over = compromiseAnchor(begun, OLD, plan, request);
    const { state } = settle(over, { coverage: two(1, 'bbbbbbbb01') });
    assert.deepEqual([phases(state), state.rotation?.upstream], [['01 active', '02 prepared'], 'self']);
  });

  it('of an anchor that is not in the bundle is refused', () => {
    const error = expectCode('rotation_refused', () => compromiseAnchor(atRest, 'ff', plan, request));
    assert.match(error.message, /no trust anchor "ff"/);
  });
});

describe('a rotation that begins by itself', () => {
  for (const [what, id, name] of [
    ['the trust anchor', OLD, 'aaaaaaaa'],
    ['the issuer', 'bbbbbbbb01', 'bbbbbbbb'],
  ] as const) {
    it(`does not go to a root with the key of ${what}, and says so`, () => {
      const external = { ...atRest, anchors: [anchor({ upstream: 'vault', key: null })] };
      const renewed = { ...offered(), id, certificate: Uint8Array.of(1) };
      const options = { coverage: two(1, 'bbbbbbbb01'), upstream: { ...vault, offered: renewed } };
      const { state, reason } = settle(external, options);
      assert.equal(state, external);
      const words = new RegExp(`${name}, which .+ offers, is another certificate for a key that is in use`);
      assert.match(reason, words);
      const asked = beginRotation(external, { ...planned, upstream: 'vault' }, request);
      assert.match(settle(asked, options).reason, words);
    });
  }

  it('follows another anchor that the upstream offers', () => {
    const external = { ...atRest, anchors: [anchor({ upstream: 'vault', key: null })] };
    const { state } = settle(external, {
      coverage: two(1, 'bbbbbbbb01'),
      upstream: { ...vault, offered: offered() },
    });
    assert.deepEqual([phases(state), signs(state)], [['01 active', '02 prepared'], '01']);
    assert.deepEqual(
      [state.rotation?.by, state.rotation?.reason],
      ['kedge', 'the upstream authority (vault) has another trust anchor'],
    );
  });

  it('goes over to another upstream that is configured, to and from our own', () => {
    const toVault = settle(atRest, {
      coverage: two(1, 'bbbbbbbb01'),
      upstream: { ...vault, offered: offered() },
    });
    assert.equal(
      toVault.state.rotation?.reason,
      'the configured upstream authority is vault, and no longer self',
    );
    const external = { ...atRest, anchors: [anchor({ upstream: 'vault', key: null })] };
    const back = settle(external, { coverage: two(1, 'bbbbbbbb01') });
    assert.equal(
      back.state.rotation?.reason,
      'the configured upstream authority is self, and no longer vault',
    );
    assert.deepEqual(
      back.state.anchors.map(({ upstream }) => upstream),
      ['vault', 'self'],
    );
  });

  it('replaces our own anchor at its age, where the settings give one', () => {
    const rotation = { anchorRenewAfterMs: 10 * DAY };
    const coverage = two(1, 'bbbbbbbb01');
    assert.equal(settle(atRest, { coverage, rotation, nowMs: NOW + 9 * DAY - 1 }).state.rotation, null);
    const { state } = settle(atRest, { coverage, rotation, nowMs: NOW + 9 * DAY });
    assert.equal(state.rotation?.reason, 'the trust anchor has reached its age');
  });

  it('is held back where the settings say so, with the reason', () => {
    const upstream = { ...vault, offered: offered() };
    const { state, reason } = settle(atRest, { upstream, rotation: { automatic: false } });
    assert.deepEqual([state.rotation, state.sequence], [null, 1]);
    assert.match(
      reason,
      /^trust anchor aaaaaaaa is held back: the configured upstream authority is vault, and no longer self, and rotations do not begin by themselves \(rotation\.automatic\); begin with kedge rotate start/,
    );
    const asked = settle(beginRotation(atRest, { ...planned, upstream: 'vault' }, request), {
      upstream,
      coverage: two(1, 'bbbbbbbb01'),
      rotation: { automatic: false },
    });
    assert.deepEqual(phases(asked.state), ['01 active', '02 prepared']);
  });

  it('does not go again where an operator turned away from, unless asked', () => {
    const upstream = { ...vault, offered: offered() };
    const coverage = two(1, 'bbbbbbbb01');
    const begun = settle(atRest, { upstream, coverage }).state;
    const ended = settle(abortRotation(begun, NOW), { upstream, coverage: two(3, 'bbbbbbbb01') });
    assert.deepEqual([ended.state.rotation, ended.state.declinedAnchors], [null, [NEW]]);
    assert.match(
      ended.reason,
      /and it was turned away from before, by an abort or a compromise; begin with kedge rotate start/,
    );
    const again = settle(beginRotation(ended.state, { ...planned, upstream: 'vault' }, request), {
      upstream,
      coverage,
    });
    assert.deepEqual([phases(again.state), again.state.declinedAnchors], [['01 active', '02 prepared'], []]);
  });

  it('does not go again to an anchor of our own either', () => {
    const external = { ...atRest, anchors: [anchor({ upstream: 'vault', key: null })] };
    const begun = settle(external, { coverage: two(1, 'bbbbbbbb01') }).state;
    const { state, reason } = settle(abortRotation(begun, NOW), { coverage: two(3, 'bbbbbbbb01') });
    assert.deepEqual([state.rotation, phases(state)], [null, ['01 active']]);
    assert.match(reason, /a new trust anchor is held back/);
  });

  it('waits for an anchor of the upstream that has none yet, and changes nothing until then', () => {
    const begun = beginRotation(atRest, { ...planned, upstream: 'vault' }, request);
    const { state, reason } = settle(begun, { upstream: vault });
    assert.deepEqual([phases(state), state.sequence], [['01 active'], 1]);
    assert.match(reason, /waiting for a trust anchor of the upstream authority \(vault\)/);
  });

  it('does not begin to an anchor that is not valid at this moment', () => {
    const early = { ...offered(), notBeforeMs: NOW + 1 };
    assert.equal(settle(atRest, { upstream: { ...vault, offered: early } }).state.rotation, null);
  });
});

describe('an issuer of an upstream authority', () => {
  it('under the old anchor is replaced by the old upstream while that is configured', () => {
    const nowMs = NOW + 25 * DAY;
    const decision = decide(atRest, { upstream: vault, nowMs });
    assert.ok(decision.kind === 'intent' && decision.intent.kind === 'mint-issuer');
    const { reason } = settle(atRest, { upstream: { ...vault, mintable: ['vault'] }, nowMs });
    assert.match(
      reason,
      /issuer bbbbbbbb expires and cannot be replaced, as the upstream authority of its trust anchor \(self\) is not configured, at 2026-06-30/,
    );
  });

  it('that is given with its key is taken as soon as it is there, and only under the active anchor', () => {
    const external = { ...atRest, anchors: [anchor({ upstream: 'vault', key: null })] };
    const giving = { ...vault, givesIssuers: true };
    assert.equal(decide(external, { upstream: giving, nowMs: NOW + 25 * DAY }).kind, 'wait');
    const decision = decide(external, { upstream: { ...giving, issuerUnder: [OLD] } });
    assert.deepEqual(decision, {
      kind: 'intent',
      intent: { kind: 'take-issuer', anchor: external.anchors[0] },
    });
    assert.equal(decide(external, { upstream: { ...giving, issuerUnder: [NEW] } }).kind, 'wait');
  });
});
