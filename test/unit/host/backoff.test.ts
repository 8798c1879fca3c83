import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { backoffMs } from '../../../host/backoff.ts';
import { systemRandom } from '../../../host/random.ts';
import { fixedRandom } from '../../fakes/fixed-random.ts';
import { checkProperty } from '../../support/property.ts';

const OPTIONS = { baseMs: 100, capMs: 1_000 };

describe('backoffMs', () => {
  const ceilings = [
    { attempt: 1, want: 100 },
    { attempt: 2, want: 200 },
    { attempt: 4, want: 800 },
    { attempt: 5, want: 1_000 },
    { attempt: 10_000, want: 1_000 },
  ];
  for (const { attempt, want } of ceilings) {
    it(`has a ceiling of ${want} ms before attempt ${attempt}`, () => {
      assert.equal(backoffMs(attempt, OPTIONS, fixedRandom(1)), want);
      assert.equal(backoffMs(attempt, OPTIONS, fixedRandom(0.5)), want / 2);
      assert.equal(backoffMs(attempt, OPTIONS, fixedRandom(0)), 0);
    });
  }

  it('is never less than the time that the other side gave, and at most a ceiling more', () => {
    checkProperty(
      fc.property(
        fc.integer({ min: 1, max: 100 }),
        fc.nat(100_000),
        fc.double({ min: 0, max: 0.999, noNaN: true }),
        (attempt, retryAfterMs, fraction) => {
          const ms = backoffMs(attempt, OPTIONS, fixedRandom(fraction), retryAfterMs);
          assert.ok(ms >= retryAfterMs && ms <= retryAfterMs + OPTIONS.capMs);
        },
      ),
    );
  });
});

describe('the system randomness', () => {
  it('gives as many bytes as asked, new ones each time', () => {
    assert.equal(systemRandom.bytes(16).length, 16);
    assert.notDeepEqual(systemRandom.bytes(16), systemRandom.bytes(16));
  });

  it('gives fractions in [0, 1)', () => {
    for (let i = 0; i < 1_000; i += 1) {
      const fraction = systemRandom.fraction();
      assert.ok(fraction >= 0 && fraction < 1);
    }
  });
});
