/**
 * The rotation of the trust anchor under random schedules: at least 20,000 of them, each checked after every event. What
 * must hold is in `rotation-world.ts`; first of all that no healthy instance ever meets a peer that it does not trust.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { checkProperty } from '../support/property.ts';
import { type Event, LAG_MS, OFFSET_MS, type Outcome, RotationWorld, SETTINGS } from './rotation-world.ts';

const SCHEDULES = 20_000;
const MINUTE = 60_000;

const index = fc.nat(5);
const replica = index;
const instance = index;
const of = <const K extends Event['kind']>(kind: K) => fc.constant(kind);

const events: fc.Arbitrary<Event> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: of('time passes'), ms: fc.nat(6 * MINUTE) }) },
  { weight: 1, arbitrary: fc.record({ kind: of('time passes'), ms: fc.nat(26 * 60 * MINUTE) }) },
  {
    weight: 5,
    arbitrary: fc.record({ kind: of('the rotation is left alone'), steps: fc.integer({ min: 1, max: 6 }) }),
  },
  { weight: 5, arbitrary: fc.record({ kind: of('replica looks'), replica }) },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: of('replica acts'),
      replica,
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
  { weight: 1, arbitrary: fc.record({ kind: of('replica crashes'), replica }) },
  { weight: 6, arbitrary: fc.record({ kind: of('instance renews'), instance, replica }) },
  { weight: 5, arbitrary: fc.record({ kind: of('instance is pushed to'), instance, replica }) },
  { weight: 5, arbitrary: fc.record({ kind: of('instance reports'), instance }) },
  { weight: 2, arbitrary: fc.record({ kind: of('instance begins anew'), instance, replica }) },
  { weight: 1, arbitrary: fc.record({ kind: of('instance falls silent, or speaks'), instance }) },
  { weight: 1, arbitrary: fc.record({ kind: of('instance dies'), instance }) },
  { weight: 1, arbitrary: fc.record({ kind: of('the fleet is forgotten') }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: of('operator'),
      act: fc.constantFrom(
        'start',
        'start',
        'pause',
        'resume',
        'abort',
        'excuse',
        'anchor-compromised',
        'issuer-compromised',
      ),
      choice: index,
      ms: fc.nat(120 * MINUTE),
    }),
  },
);

const schedules = fc.record({
  offsets: fc.array(fc.integer({ min: -OFFSET_MS, max: OFFSET_MS }), { minLength: 1, maxLength: 3 }),
  instances: fc.integer({ min: 1, max: 4 }),
  events: fc.array(events, { maxLength: 60, size: 'max' }),
});

describe(`a rotation under ${SCHEDULES} schedules`, () => {
  it('never splits the mesh nor breaks another invariant, and ends when everybody follows', (t) => {
    const seen = new Map<string, number>();
    const property = fc.property(schedules, ({ offsets, instances, events }) => {
      const world = new RotationWorld(offsets, instances);
      for (const event of events) world.apply(event);
      world.checkComesToRest();
      for (const [what, count] of world.seen) seen.set(what, (seen.get(what) ?? 0) + count);
    });
    checkProperty(property, SCHEDULES);
    t.diagnostic([...seen].map(([what, count]) => `${what} ${count}`).join(', '));
    // Schedules in which nothing happens would prove nothing.
    for (const what of [
      'start',
      'completed',
      'aborted',
      'taken-over',
      'forced',
      'excuse',
      'anchor-compromised',
    ]) {
      assert.ok((seen.get(what) ?? 0) > 100, `${what} came to pass ${seen.get(what) ?? 0} times`);
    }
  });

  it('would find a gate that does not wait for replicas that are behind', () => {
    const hasty = { ...SETTINGS, rotation: { ...SETTINGS.rotation, settleMs: 0 } };
    const property = fc.property(schedules, ({ offsets, instances, events }) => {
      const world = new RotationWorld(offsets, instances, hasty);
      for (const event of events) world.apply(event);
    });
    const { failed, counterexample } = fc.check(property, { numRuns: SCHEDULES, seed: 1 });
    assert.ok(failed, `no schedule split the mesh, with views up to ${LAG_MS} ms old`);
    assert.ok((counterexample?.[0].events.length ?? 0) > 0);
  });
});
