import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  activateAnchor,
  activateIssuer,
  forgetKey,
  prepareAnchor,
  prepareIssuer,
  removeIssuer,
  retireIssuer,
} from '../../../../ca/authority/transitions.ts';
import {
  type Anchor,
  emptyTrustState,
  type Issuer,
  type Phase,
  type TrustState,
} from '../../../../ca/authority/trust-state.ts';
import { emptyHandle } from '../../../support/trust-states.ts';
import { expectCode } from '../../../support/expect-code.ts';

const NOW = 1_000_000;

const newAuthority = (id: string) => ({
  id,
  certificate: Uint8Array.of(1),
  notBeforeMs: 0,
  notAfterMs: 2 * NOW,
  key: emptyHandle(`key-${id}`),
});
const newAnchor = (id: string) => ({ ...newAuthority(id), upstream: 'self' as const });
const newIssuer = (id: string, anchorId = 'a1') => ({ ...newAuthority(id), anchorId, intermediates: [] });

const anchor = (id: string, phase: Phase, taintedAtMs: number | null = null): Anchor => ({
  ...newAnchor(id),
  phase,
  phaseSinceMs: 500,
  taintedAtMs,
  sinceSequence: 1,
});
const issuer = (id: string, phase: Phase, anchorId = 'a1', taintedAtMs: number | null = null): Issuer => ({
  ...newIssuer(id, anchorId),
  phase,
  phaseSinceMs: 500,
  taintedAtMs,
});
const state = (anchors: readonly Anchor[], issuers: readonly Issuer[] = []): TrustState => ({
  ...emptyTrustState('example.org'),
  sequence: 7,
  anchors,
  issuers,
});
const phasesOf = (authorities: readonly { id: string; phase: Phase }[]) =>
  authorities.map(({ id, phase }) => `${id} ${phase}`);

describe('a step of the lifecycle', () => {
  it('puts a new anchor into the bundle, prepared, and counts the bundle', () => {
    const after = prepareAnchor(state([anchor('a1', 'active')]), newAnchor('a2'), NOW);
    assert.equal(after.sequence, 8);
    assert.deepEqual(after.anchors[1], {
      ...newAnchor('a2'),
      phase: 'prepared',
      phaseSinceMs: NOW,
      taintedAtMs: null,
      sinceSequence: 8,
    });
  });

  it('activates an anchor, and retires the one until now, without a new bundle', () => {
    const before = state([anchor('a1', 'active'), anchor('a2', 'prepared'), anchor('a3', 'prepared')]);
    const after = activateAnchor(before, 'a2', NOW);
    assert.deepEqual(phasesOf(after.anchors), ['a1 retired', 'a2 active', 'a3 prepared']);
    assert.equal(after.sequence, 7);
  });

  it('adds a new issuer, prepared, below the active anchor', () => {
    const after = prepareIssuer(state([anchor('a1', 'active')]), newIssuer('i1'), NOW);
    assert.deepEqual(after.issuers, [
      { ...newIssuer('i1'), phase: 'prepared', phaseSinceMs: NOW, taintedAtMs: null },
    ]);
    assert.equal(after.sequence, 7);
  });

  it('activates an issuer; the one until now and its rivals retire, those below other anchors stay', () => {
    const issuers = [
      issuer('i1', 'active'),
      issuer('i2', 'prepared'),
      issuer('i3', 'prepared'),
      issuer('i4', 'prepared', 'a2'),
      issuer('i5', 'retired'),
    ];
    const after = activateIssuer(
      state([anchor('a1', 'active'), anchor('a2', 'prepared')], issuers),
      'i3',
      NOW,
    );
    assert.deepEqual(phasesOf(after.issuers), [
      'i1 retired',
      'i2 retired',
      'i3 active',
      'i4 prepared',
      'i5 retired',
    ]);
    assert.deepEqual(
      after.issuers.map(({ phaseSinceMs }) => phaseSinceMs),
      [NOW, NOW, NOW, 500, 500],
    );
  });

  it('retires a tainted active issuer as well when another becomes active', () => {
    const issuers = [issuer('i1', 'active', 'a1', 600), issuer('i2', 'prepared')];
    const after = activateIssuer(state([anchor('a1', 'active')], issuers), 'i2', NOW);
    assert.deepEqual(phasesOf(after.issuers), ['i1 retired', 'i2 active']);
    assert.equal(after.issuers[0]?.taintedAtMs, 600);
  });

  it('retires an issuer, and removes it with its key discarded', () => {
    const before = state([anchor('a1', 'active')], [issuer('i1', 'active'), issuer('i2', 'prepared')]);
    const retired = retireIssuer(retireIssuer(before, 'i1', NOW), 'i2', NOW);
    assert.deepEqual(phasesOf(retired.issuers), ['i1 retired', 'i2 retired']);
    const removed = removeIssuer(retired, 'i1');
    assert.deepEqual(phasesOf(removed.issuers), ['i2 retired']);
    assert.deepEqual(removed.discardedKeys, [emptyHandle('key-i1')]);
    const key = removed.discardedKeys[0]!;
    assert.deepEqual(forgetKey(removed, key).discardedKeys, []);
    assert.deepEqual(forgetKey(forgetKey(removed, key), key).discardedKeys, []);
  });

  it('changes nothing of the state that it is given', () => {
    const before = state([anchor('a1', 'active')], [issuer('i1', 'active'), issuer('i2', 'prepared')]);
    const copy = structuredClone(before);
    activateIssuer(before, 'i2', NOW);
    retireIssuer(before, 'i1', NOW);
    prepareAnchor(before, newAnchor('a2'), NOW);
    assert.deepEqual(before, copy);
  });

  it('never lets a phase begin before the one before it, when the clock has gone back', () => {
    const after = activateIssuer(state([anchor('a1', 'active')], [issuer('i1', 'prepared')]), 'i1', 100);
    assert.equal(after.issuers[0]?.phaseSinceMs, 500);
  });

  const usual = state(
    [anchor('a1', 'active'), anchor('a2', 'retired'), anchor('a3', 'prepared', 600)],
    [
      issuer('i1', 'active'),
      issuer('i2', 'retired'),
      issuer('i3', 'prepared', 'a1', 600),
      issuer('i4', 'prepared', 'a2'),
    ],
  );
  const refused: readonly { name: string; step: () => TrustState; message: RegExp }[] = [
    {
      name: 'an anchor that is there',
      step: () => prepareAnchor(usual, newAnchor('a2'), NOW),
      message: /"a2" is in the trust state already/,
    },
    {
      name: 'an anchor with the id of an issuer',
      step: () => prepareAnchor(usual, newAnchor('i1'), NOW),
      message: /already/,
    },
    {
      name: 'an issuer that is there',
      step: () => prepareIssuer(usual, newIssuer('i2'), NOW),
      message: /already/,
    },
    {
      name: 'an issuer of an unknown anchor',
      step: () => prepareIssuer(usual, newIssuer('i9', 'a9'), NOW),
      message: /no authority "a9"/,
    },
    {
      name: 'an issuer of a retired anchor',
      step: () => prepareIssuer(usual, newIssuer('i9', 'a2'), NOW),
      message: /"a2" may have no new issuer/,
    },
    {
      name: 'an issuer of a prepared anchor',
      step: () => prepareIssuer(usual, newIssuer('i9', 'a3'), NOW),
      message: /may have no new issuer/,
    },
    {
      name: 'an issuer of a tainted anchor',
      step: () => prepareIssuer(state([anchor('a1', 'active', 600)]), newIssuer('i9'), NOW),
      message: /may have no new issuer/,
    },
    {
      name: 'activating an active anchor',
      step: () => activateAnchor(usual, 'a1', NOW),
      message: /from active to active/,
    },
    {
      name: 'activating a retired anchor',
      step: () => activateAnchor(usual, 'a2', NOW),
      message: /from retired to active/,
    },
    {
      name: 'activating a tainted anchor',
      step: () => activateAnchor(usual, 'a3', NOW),
      message: /from prepared, tainted to active/,
    },
    {
      name: 'activating an unknown anchor',
      step: () => activateAnchor(usual, 'i1', NOW),
      message: /no authority "i1"/,
    },
    {
      name: 'activating an active issuer',
      step: () => activateIssuer(usual, 'i1', NOW),
      message: /from active to active/,
    },
    {
      name: 'activating a retired issuer',
      step: () => activateIssuer(usual, 'i2', NOW),
      message: /from retired to active/,
    },
    {
      name: 'activating a tainted issuer',
      step: () => activateIssuer(usual, 'i3', NOW),
      message: /from prepared, tainted to active/,
    },
    {
      name: 'activating an issuer below a retired anchor',
      step: () => activateIssuer(usual, 'i4', NOW),
      message: /"a2" may have no new issuer/,
    },
    {
      name: 'retiring a retired issuer',
      step: () => retireIssuer(usual, 'i2', NOW),
      message: /from retired to retired/,
    },
    {
      name: 'removing an active issuer',
      step: () => removeIssuer(usual, 'i1'),
      message: /from active to removed/,
    },
    {
      name: 'removing a prepared issuer',
      step: () => removeIssuer(usual, 'i3'),
      message: /from prepared, tainted to removed/,
    },
    {
      name: 'removing an unknown issuer',
      step: () => removeIssuer(usual, 'i9'),
      message: /no authority "i9"/,
    },
  ];
  for (const { name, step, message } of refused) {
    it(`is refused out of order: ${name}`, () => {
      assert.match(expectCode('lifecycle_invalid', step).message, message);
    });
  }
});
