import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  COMPROMISE_DEADLINE_MS,
  type RotationRequest,
  requestedState,
} from '../../../../ca/authority/rotation-request.ts';
import type { TrustState } from '../../../../ca/authority/trust-state.ts';
import { coverageOfAll } from '../../../support/coverage.ts';
import { expectCode } from '../../../support/expect-code.ts';
import { activeState, makeAuthorityPool } from '../../../support/trust-states.ts';

const NOW = Date.UTC(2026, 5, 1);
const HOUR = 3_600_000;
const pool = await makeAuthorityPool(2, 1);
const atRest = activeState(pool);
const [anchor] = atRest.anchors;
const [issuer] = atRest.issuers;

const ask = (
  asked: RotationRequest,
  state: TrustState = atRest,
  { coverage = coverageOfAll({ id: 'u1' }, { id: 'u2' }), by = 'alice', reason = 'yearly' } = {},
): TrustState => requestedState(state, asked, { by, reason, atMs: NOW }, { coverage, upstream: 'self' });

const started = ask({ act: 'start', deadlineMs: null });

describe('what an operator asks of a rotation', () => {
  it('begins one to the upstream that is configured, with who, why and until when', () => {
    const { rotation } = ask({ act: 'start', deadlineMs: NOW + HOUR });
    const { kind, upstream, by, reason, startedAtMs, deadlineMs } = rotation!;
    assert.deepEqual(
      { kind, upstream, by, reason, startedAtMs, deadlineMs },
      {
        kind: 'planned',
        upstream: 'self',
        by: 'alice',
        reason: 'yearly',
        startedAtMs: NOW,
        deadlineMs: NOW + HOUR,
      },
    );
  });

  it('pauses, resumes and aborts it', () => {
    const paused = ask({ act: 'pause' }, started);
    assert.equal(paused.rotation?.pausedAtMs, NOW);
    assert.equal(ask({ act: 'resume' }, paused).rotation?.pausedAtMs, null);
    assert.equal(ask({ act: 'abort' }, started).rotation, null);
  });

  it('excuses an instance by namespace and pod, or by UID, for the record by name', () => {
    for (const target of ['u1', 'shop/cart-u1']) {
      const { rotation } = ask({ act: 'excuse', target }, started);
      assert.deepEqual(rotation?.excused, [
        { instance: 'u1', name: 'shop/cart-u1', atMs: NOW, by: 'alice', reason: 'yearly' },
      ]);
    }
  });

  it('taints the active anchor or issuer where none is named, or the one whose id begins so', () => {
    for (const target of ['', anchor!.id.slice(0, 8), anchor!.id]) {
      const state = ask({ act: 'anchor-compromised', target, deadlineMs: null });
      assert.equal(state.anchors[0]?.taintedAtMs, NOW);
      assert.equal(state.rotation?.deadlineMs, NOW + COMPROMISE_DEADLINE_MS);
    }
    for (const target of ['', issuer!.id.slice(0, 8)]) {
      const state = ask({ act: 'issuer-compromised', target });
      assert.deepEqual([state.issuers[0]?.taintedAtMs, state.rotation], [NOW, null]);
    }
  });

  it('wants the anchor or issuer named while a rotation is under way: another one may be active by then', () => {
    for (const act of ['anchor-compromised', 'issuer-compromised'] as const) {
      const error = expectCode('rotation_refused', () => ask({ act, target: '', deadlineMs: null }, started));
      assert.match(error.message, /changes while rotation 1 is under way/);
    }
    const over = ask({ act: 'anchor-compromised', target: anchor!.id, deadlineMs: null }, started);
    assert.equal(over.anchors[0]?.taintedAtMs, NOW);
  });

  const refusals: readonly { name: string; run: () => unknown; message: RegExp }[] = [
    {
      name: 'an unknown instance',
      run: () => ask({ act: 'excuse', target: 'shop/none' }, started),
      message: /no live instance "shop\/none"/,
    },
    {
      name: 'a name that two instances have',
      run: () =>
        ask({ act: 'excuse', target: 'shop/twin' }, started, {
          coverage: coverageOfAll({ id: 'u1', name: 'shop/twin' }, { id: 'u2', name: 'shop/twin' }),
        }),
      message: /2 instances are named "shop\/twin"/,
    },
    {
      name: 'excusing everyone, one after the other',
      run: () => ask({ act: 'excuse', target: 'u2' }, ask({ act: 'excuse', target: 'u1' }, started)),
      message: /every live instance would be excused/,
    },
    {
      name: 'a deadline that is over',
      run: () => ask({ act: 'start', deadlineMs: NOW }),
      message: /deadline is not within the next 30 days/,
    },
    {
      name: 'a deadline in a year',
      run: () => ask({ act: 'anchor-compromised', target: '', deadlineMs: NOW + 365 * 24 * HOUR }),
      message: /deadline is not within the next 30 days/,
    },
    {
      name: 'an anchor that is not there',
      run: () => ask({ act: 'anchor-compromised', target: 'ffffffff', deadlineMs: null }),
      message: /0 trust anchors have an id of "ffffffff"/,
    },
    {
      name: 'an id of too few digits',
      run: () => ask({ act: 'issuer-compromised', target: issuer!.id.slice(0, 7) }),
      message: /0 issuers have an id of/,
    },
    {
      name: 'the active issuer where there is none',
      run: () => ask({ act: 'issuer-compromised', target: '' }, { ...atRest, issuers: [] }),
      message: /there is no active issuer/,
    },
  ];
  for (const { name, run, message } of refusals) {
    it(`is refused: ${name}`, () => {
      const error = expectCode('rotation_refused', run);
      assert.match(error.message, message);
      assert.notEqual(error.hint ?? '', '');
    });
  }

  it('is refused with a text that is too long, or that would break a line of a log', () => {
    for (const reason of ['x'.repeat(201), 'a\nb', '\u001b[31m']) {
      expectCode('usage_invalid', () => ask({ act: 'start', deadlineMs: null }, atRest, { reason }));
      expectCode('usage_invalid', () => ask({ act: 'start', deadlineMs: null }, atRest, { by: reason }));
    }
  });
});
