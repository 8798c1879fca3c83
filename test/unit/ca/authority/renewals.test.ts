import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { LiveInstance } from '../../../../ca/authority/coverage.ts';
import { renewalsDue } from '../../../../ca/authority/renewals.ts';
import { emptyTrustState, type Issuer, type TrustState } from '../../../../ca/authority/trust-state.ts';
import { checkProperty } from '../../../support/property.ts';
import { emptyHandle } from '../../../support/trust-states.ts';
import { liveInstance } from '../../../support/coverage.ts';

const NOW = Date.UTC(2026, 0, 1);
const HOUR = 3_600_000;

const issuer = (id: string, over: Partial<Issuer>): Issuer => ({
  id,
  phase: 'retired',
  phaseSinceMs: NOW,
  taintedAtMs: null,
  certificate: new Uint8Array(),
  notBeforeMs: NOW - HOUR,
  notAfterMs: NOW + 100 * HOUR,
  anchorId: 'a1',
  intermediates: [],
  key: emptyHandle(id),
  ...over,
});
const state: TrustState = {
  ...emptyTrustState('example.org'),
  issuers: [
    issuer('retired', {}),
    issuer('tainted', { phase: 'active', taintedAtMs: NOW }),
    issuer('prepared', { phase: 'prepared' }),
    issuer('active', { phase: 'active' }),
  ],
};
const instance = (id: string, authorityKeyId: string | null, svidNotAfterMs: number): LiveInstance =>
  liveInstance({ id, bundleSequence: 1, authorityKeyId, svidNotAfterMs });
const due = (instances: readonly LiveInstance[], capacityPerSecond = 1, of = state) =>
  renewalsDue(of, { instances }, NOW, capacityPerSecond);

describe('who is asked to renew', () => {
  it('is whoever holds a live SVID of a retired or tainted issuer, and is told the one that signs', () => {
    const all = due([
      instance('a', 'retired', NOW + 1),
      instance('b', 'tainted', NOW + 2),
      instance('c', 'active', NOW + 3),
      instance('d', 'prepared', NOW + 4),
      instance('e', 'of nobody here', NOW + 5),
      instance('f', null, 0),
      instance('g', 'retired', NOW),
    ]);
    assert.deepEqual(all, [
      { instanceId: 'a', authorityKeyId: 'active', notBeforeMs: NOW, notAfterMs: NOW + 1_000 },
      { instanceId: 'b', authorityKeyId: 'active', notBeforeMs: NOW + 1_000, notAfterMs: NOW + 2_000 },
    ]);
  });

  it('is nobody while no issuer may sign', () => {
    const without = { ...state, issuers: state.issuers.filter(({ id }) => id !== 'active') };
    assert.deepEqual(due([instance('a', 'retired', NOW + HOUR)], 1, without), []);
  });

  it('comes nearest expiry first, then by id, in the same order on every replica', () => {
    const instances = [
      instance('b', 'retired', NOW + HOUR),
      instance('Z', 'retired', NOW + HOUR),
      instance('a', 'retired', NOW + HOUR),
      instance('a', 'retired', NOW + HOUR),
      instance('y', 'retired', NOW + 1),
    ];
    const order = ['y', 'Z', 'a', 'a', 'b'];
    for (const all of [instances, instances.toReversed()]) {
      assert.deepEqual(
        due(all).map(({ instanceId }) => instanceId),
        order,
      );
    }
  });

  it('is so many to a second that the CA can serve them, whatever the fleet; at least one', () => {
    const paced = fc.property(
      fc.integer({ min: 0, max: 500 }),
      fc.oneof(fc.integer({ min: 1, max: 300 }), fc.double({ min: 0.01, max: 5, noNaN: true })),
      (size, capacityPerSecond) => {
        const fleet = Array.from({ length: size }, (_, i) => instance(`pod-${i}`, 'retired', NOW + HOUR + i));
        const all = due(fleet, capacityPerSecond);
        assert.equal(all.length, size);
        const perSecond = new Map<number, number>();
        for (const { notBeforeMs, notAfterMs } of all) {
          assert.equal(notAfterMs - notBeforeMs, 1_000);
          assert.ok(notBeforeMs >= NOW);
          perSecond.set(notBeforeMs, (perSecond.get(notBeforeMs) ?? 0) + 1);
        }
        for (const count of perSecond.values()) assert.ok(count <= Math.max(1, capacityPerSecond));
        const seconds = Math.ceil(size / Math.max(1, Math.floor(capacityPerSecond)));
        assert.equal(perSecond.size, seconds, 'there are gaps');
      },
    );
    checkProperty(paced);
  });
});
