import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type Coverage, NO_COVERAGE } from '../../../../ca/authority/coverage.ts';
import { type Decision, type Intent, next } from '../../../../ca/authority/lifecycle.ts';
import {
  DEFAULT_LIFECYCLE_SETTINGS,
  type LifecycleSettings,
} from '../../../../ca/authority/lifecycle-settings.ts';
import {
  type Anchor,
  emptyTrustState,
  type Issuer,
  NO_ROTATION,
  type TrustState,
} from '../../../../ca/authority/trust-state.ts';
import { SELF_SIGHT } from '../../../../ca/authority/upstream-sight.ts';
import { coverageOfAll } from '../../../support/coverage.ts';
import { emptyHandle } from '../../../support/trust-states.ts';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const NOW = Date.UTC(2026, 5, 1);

const settings: LifecycleSettings = DEFAULT_LIFECYCLE_SETTINGS;

function anchor(over: Partial<Anchor> = {}): Anchor {
  return {
    id: 'aaaaaaaa01',
    phase: 'active',
    phaseSinceMs: NOW - 10 * DAY,
    taintedAtMs: null,
    certificate: new Uint8Array(),
    notBeforeMs: NOW - 10 * DAY,
    notAfterMs: NOW + 1_000 * DAY,
    upstream: 'self',
    sinceSequence: 1,
    key: emptyHandle('anchor'),
    ...over,
  };
}

function issuer(over: Partial<Issuer> = {}): Issuer {
  const id = over.id ?? 'bbbbbbbb01';
  return {
    id,
    phase: 'active',
    phaseSinceMs: NOW - DAY,
    taintedAtMs: null,
    certificate: new Uint8Array(),
    notBeforeMs: NOW - DAY - 2 * MINUTE,
    notAfterMs: NOW + 29 * DAY,
    anchorId: 'aaaaaaaa01',
    intermediates: [],
    key: emptyHandle(`key-${id}`),
    ...over,
  };
}

function state(over: Partial<TrustState> = {}): TrustState {
  return {
    trustDomain: 'example.org',
    sequence: 1,
    anchors: [anchor()],
    issuers: [issuer()],
    discardedKeys: [],
    ...NO_ROTATION,
    ...over,
  };
}

const holding = (authorityKeyId: string, svidNotAfterMs: number): Coverage =>
  coverageOfAll({ id: 'pod', bundleSequence: 1, authorityKeyId, svidNotAfterMs });

/** What is decided with an upstream of our own. */
const nextOf = (
  state: TrustState,
  coverage = NO_COVERAGE,
  nowMs = NOW,
  changed: Partial<LifecycleSettings> = {},
) => next({ state, coverage, upstream: SELF_SIGHT, nowMs, settings: { ...settings, ...changed } });

function intentOf<K extends Intent['kind']>(decision: Decision, kind: K): Extract<Intent, { kind: K }> {
  assert.ok(decision.kind === 'intent' && decision.intent.kind === kind, JSON.stringify(decision));
  return decision.intent as Extract<Intent, { kind: K }>;
}

function stepOf(decision: Decision): TrustState {
  assert.ok(decision.kind === 'step', JSON.stringify(decision));
  return decision.state;
}

function waitOf(decision: Decision): { untilMs: number; reason: string } {
  assert.ok(decision.kind === 'wait', JSON.stringify(decision));
  return decision;
}

const decide = (
  over: Partial<TrustState>,
  coverage = NO_COVERAGE,
  nowMs = NOW,
  changed: Partial<LifecycleSettings> = {},
) => nextOf(state(over), coverage, nowMs, changed);

describe('the lifecycle of a trust domain that has nothing yet', () => {
  it('wants an anchor, backdated, of the lifetime that is set', () => {
    const intent = intentOf(nextOf(emptyTrustState('example.org')), 'mint-anchor');
    assert.deepEqual(intent, {
      kind: 'mint-anchor',
      notBeforeMs: NOW - 2 * MINUTE,
      notAfterMs: NOW + 5 * 365 * DAY,
    });
  });

  it('activates the first anchor at once: nobody holds anything', () => {
    const after = stepOf(decide({ anchors: [anchor({ phase: 'prepared' })], issuers: [] }));
    assert.deepEqual(
      after.anchors.map(({ phase, phaseSinceMs }) => [phase, phaseSinceMs]),
      [['active', NOW]],
    );
    assert.equal(after.sequence, 1);
  });

  it('then wants an issuer below it', () => {
    const intent = intentOf(decide({ issuers: [] }), 'mint-issuer');
    assert.equal(intent.anchor.id, 'aaaaaaaa01');
    assert.deepEqual([intent.notBeforeMs, intent.notAfterMs], [NOW - 2 * MINUTE, NOW + 30 * DAY]);
  });

  it('activates the first issuer at once', () => {
    const after = stepOf(decide({ issuers: [issuer({ phase: 'prepared' })] }));
    assert.equal(after.issuers[0]?.phase, 'active');
  });

  it('does not activate an anchor that is tainted, expired or not valid yet, and says why', () => {
    const table: readonly { over: Partial<Anchor>; reason: RegExp; untilMs: number }[] = [
      { over: { taintedAtMs: NOW }, reason: /aaaaaaaa is tainted/, untilMs: NOW + HOUR },
      { over: { notAfterMs: NOW }, reason: /aaaaaaaa is expired since 2026-06-01/, untilMs: NOW + HOUR },
      {
        over: { notBeforeMs: NOW + 5 },
        reason: /not valid before 2026-06-01T00:00:00.005Z/,
        untilMs: NOW + 5,
      },
    ];
    for (const { over, reason, untilMs } of table) {
      const wait = waitOf(decide({ anchors: [anchor({ phase: 'prepared', ...over })], issuers: [] }));
      assert.match(wait.reason, reason);
      assert.equal(wait.untilMs, untilMs);
    }
  });
});

describe('the lifecycle of issuers', () => {
  it('lets a young issuer be, and says when it is replaced', () => {
    const wait = waitOf(decide({}));
    assert.equal(wait.reason, 'issuer bbbbbbbb is replaced at 2026-06-20T00:00:00.000Z');
    assert.equal(wait.untilMs, NOW + HOUR);
    assert.equal(waitOf(decide({}, NO_COVERAGE, NOW + 19 * DAY - 5)).untilMs, NOW + 19 * DAY);
  });

  it('wants another when the active one reaches its age, to the millisecond', () => {
    waitOf(decide({}, NO_COVERAGE, NOW + 19 * DAY - 1));
    intentOf(decide({}, NO_COVERAGE, NOW + 19 * DAY), 'mint-issuer');
  });

  it('wants another before an SVID of the longest TTL would outlive the active one', () => {
    const short = { issuers: [issuer({ phaseSinceMs: NOW, notAfterMs: NOW + 10 * DAY })] };
    const dueMs = NOW + 9 * DAY - 5 * MINUTE;
    waitOf(decide(short, NO_COVERAGE, dueMs - 1));
    intentOf(decide(short, NO_COVERAGE, dueMs), 'mint-issuer');
  });

  it('never replaces one in the first half of its time, however short that is', () => {
    const short = { issuers: [issuer({ phaseSinceMs: NOW, notAfterMs: NOW + HOUR })] };
    waitOf(decide(short, NO_COVERAGE, NOW + HOUR / 2 - 1));
    intentOf(decide(short, NO_COVERAGE, NOW + HOUR / 2), 'mint-issuer');
  });

  it('wants another at once when the active one is tainted, expired, or not valid yet', () => {
    for (const over of [{ taintedAtMs: NOW }, { notAfterMs: NOW }, { notBeforeMs: NOW + 1 }]) {
      intentOf(decide({ issuers: [issuer(over)] }), 'mint-issuer');
    }
  });

  it('clamps the new one to its anchor', () => {
    const anchors = [anchor({ notBeforeMs: NOW - MINUTE, notAfterMs: NOW + 12 * DAY })];
    const intent = intentOf(decide({ anchors, issuers: [] }), 'mint-issuer');
    assert.deepEqual([intent.notBeforeMs, intent.notAfterMs], [NOW - MINUTE, NOW + 12 * DAY]);
  });

  it('says in words that the anchor ends, and mints no issuer that could not outlive the active one', () => {
    const endMs = NOW + 10 * HOUR;
    const over = { anchors: [anchor({ notAfterMs: endMs })], issuers: [issuer({ notAfterMs: endMs })] };
    const wait = waitOf(decide(over));
    assert.match(
      wait.reason,
      /trust anchor aaaaaaaa and all below it expire \(rotate it\) at 2026-06-01T10:00/,
    );
    assert.match(wait.reason, /issuer bbbbbbbb expires and cannot be replaced at 2026-06-01T10:00/);
    waitOf(decide(over, NO_COVERAGE, endMs - 1));
  });

  it('activates a prepared one, and retires the active one in the same step', () => {
    const after = stepOf(decide({ issuers: [issuer(), issuer({ id: 'bbbbbbbb02', phase: 'prepared' })] }));
    assert.deepEqual(
      after.issuers.map(({ phase, phaseSinceMs }) => [phase, phaseSinceMs]),
      [
        ['retired', NOW],
        ['active', NOW],
      ],
    );
  });

  it('activates one of two rivals, and retires the other', () => {
    const rivals = ['bbbbbbbb02', 'bbbbbbbb03'].map((id) => issuer({ id, phase: 'prepared' }));
    const after = stepOf(decide({ issuers: [issuer(), ...rivals] }));
    assert.deepEqual(
      after.issuers.map(({ phase }) => phase),
      ['retired', 'active', 'retired'],
    );
  });

  it('waits for a prepared one whose time begins within what clocks may differ', () => {
    const issuers = [
      issuer(),
      issuer({ id: 'bbbbbbbb02', phase: 'prepared', notBeforeMs: NOW + 5 * MINUTE }),
    ];
    const wait = waitOf(decide({ issuers }));
    assert.equal(wait.untilMs, NOW + 5 * MINUTE);
    assert.match(wait.reason, /issuer bbbbbbbb becomes active at 2026-06-01T00:05/);
  });

  it('gives up a prepared one that can never sign, or not soon enough', () => {
    const table: readonly { name: string; over: Partial<TrustState> }[] = [
      { name: 'tainted', over: { issuers: [issuer({ phase: 'prepared', taintedAtMs: NOW })] } },
      { name: 'expired', over: { issuers: [issuer({ phase: 'prepared', notAfterMs: NOW })] } },
      {
        name: 'far in the future',
        over: { issuers: [issuer({ phase: 'prepared', notBeforeMs: NOW + 5 * MINUTE + 1 })] },
      },
      {
        name: 'under a tainted anchor',
        over: { anchors: [anchor({ taintedAtMs: NOW })], issuers: [issuer({ phase: 'prepared' })] },
      },
      {
        name: 'under an expired anchor',
        over: { anchors: [anchor({ notAfterMs: NOW })], issuers: [issuer({ phase: 'prepared' })] },
      },
      {
        name: 'under a retired anchor',
        over: { anchors: [anchor({ phase: 'retired' })], issuers: [issuer({ phase: 'prepared' })] },
      },
      {
        name: 'under another than the active anchor',
        over: {
          anchors: [anchor(), anchor({ id: 'aaaaaaaa02', phase: 'retired' })],
          issuers: [issuer({ phase: 'prepared', anchorId: 'aaaaaaaa02' })],
        },
      },
    ];
    for (const { name, over } of table) {
      assert.equal(stepOf(decide(over)).issuers[0]?.phase, 'retired', name);
    }
  });

  it('does not mint without an anchor that may sign, and says which there are and why not', () => {
    const anchors = [
      anchor({ taintedAtMs: NOW }),
      anchor({ id: 'aaaaaa0002', phase: 'retired' }),
      anchor({ id: 'aaaaaa0003', phase: 'prepared' }),
    ];
    const { reason } = waitOf(decide({ anchors, issuers: [issuer({ phase: 'retired' })] }));
    assert.match(
      reason,
      /no trust anchor may sign a new issuer: aaaaaaaa is tainted, aaaaaa00 is retired, aaaaaa00 is prepared/,
    );
  });

  it('goes on with an issuer that is valid when no anchor may sign another', () => {
    const { reason } = waitOf(decide({ anchors: [anchor({ taintedAtMs: NOW })] }));
    assert.match(reason, /issuer bbbbbbbb expires and cannot be replaced at/);
    assert.match(reason, /no trust anchor may sign/);
  });
});

describe('the end of a retired issuer', () => {
  const retired = (over: Partial<Issuer> = {}): Issuer =>
    issuer({ id: 'bbbbbbbb00', phase: 'retired', phaseSinceMs: NOW, ...over });

  it('comes when the last SVID that it can have signed has expired everywhere', () => {
    const over = { issuers: [retired(), issuer()] };
    const endMs = NOW + DAY + 5 * MINUTE;
    assert.match(waitOf(decide(over)).reason, /retired issuer bbbbbbbb is removed at 2026-06-02T00:05/);
    waitOf(decide(over, NO_COVERAGE, endMs - 1));
    const after = stepOf(decide(over, NO_COVERAGE, endMs));
    assert.deepEqual(
      after.issuers.map(({ id }) => id),
      ['bbbbbbbb01'],
    );
    assert.deepEqual(
      after.discardedKeys.map(({ id }) => id),
      ['key-bbbbbbbb00'],
    );
    assert.equal(after.sequence, 1);
  });

  it('is put off by a live instance that still holds an SVID of a longer TTL', () => {
    const over = { issuers: [retired(), issuer()] };
    const coverage = holding('bbbbbbbb00', NOW + 3 * DAY);
    waitOf(decide(over, coverage, NOW + 3 * DAY + 5 * MINUTE - 1));
    stepOf(decide(over, coverage, NOW + 3 * DAY + 5 * MINUTE));
  });

  it('is not put off by instances that hold SVIDs of others, or none', () => {
    const over = { issuers: [retired(), issuer()] };
    const coverage = coverageOfAll(
      { id: 'a', bundleSequence: 1, authorityKeyId: 'bbbbbbbb01', svidNotAfterMs: NOW + 30 * DAY },
      { id: 'b' },
    );
    stepOf(decide(over, coverage, NOW + DAY + 5 * MINUTE));
  });

  it('is never later than its own end, whatever an agent claims to hold', () => {
    const over = { issuers: [retired({ notAfterMs: NOW + 2 * DAY }), issuer()] };
    const coverage = holding('bbbbbbbb00', NOW + 10_000 * DAY);
    waitOf(decide(over, coverage, NOW + 2 * DAY + 5 * MINUTE - 1));
    stepOf(decide(over, coverage, NOW + 2 * DAY + 5 * MINUTE));
  });

  it('is followed by the destruction of its key', () => {
    const key = emptyHandle('key-old');
    assert.equal(
      intentOf(decide({ discardedKeys: [key, emptyHandle('key-older')] }), 'destroy-key').key,
      key,
    );
  });
});

describe('the order of the lifecycle', () => {
  it('is first to be able to sign, then to free, then what needs help from outside, keys last', () => {
    const everything: Partial<TrustState> = {
      issuers: [
        issuer({ phaseSinceMs: NOW - 25 * DAY }),
        issuer({ id: 'bbbbbbbb02', phase: 'prepared', taintedAtMs: NOW }),
        issuer({ id: 'bbbbbbbb03', phase: 'retired', phaseSinceMs: NOW - 5 * DAY }),
        issuer({ id: 'bbbbbbbb04', phase: 'prepared', notAfterMs: NOW + 30 * DAY }),
      ],
      discardedKeys: [emptyHandle('key-old')],
    };
    let current = state(everything);
    const story: string[] = [];
    for (let i = 0; i < 10; i += 1) {
      const decision = nextOf(current);
      if (decision.kind === 'wait') break;
      if (decision.kind === 'intent') {
        story.push(decision.intent.kind);
        assert.ok(decision.intent.kind === 'destroy-key');
        const { key } = decision.intent;
        current = { ...current, discardedKeys: current.discardedKeys.filter(({ id }) => id !== key.id) };
      } else {
        current = decision.state;
        story.push(current.issuers.map(({ id, phase }) => `${id.slice(-1)} ${phase}`).join(', '));
      }
    }
    assert.deepEqual(story, [
      '1 retired, 2 retired, 3 retired, 4 active',
      '1 retired, 2 retired, 4 active',
      'destroy-key',
      'destroy-key',
    ]);
  });

  it('does not let a key that cannot be destroyed hold up a new issuer', () => {
    intentOf(decide({ issuers: [], discardedKeys: [emptyHandle('key-old')] }), 'mint-issuer');
  });
});
