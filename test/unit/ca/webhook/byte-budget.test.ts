import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ByteBudget } from '../../../../ca/webhook/byte-budget.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

describe('a budget of bytes', () => {
  it('gives a burst, then so many a second, and takes nothing for what it does not give', async () => {
    const clock = new ManualClock();
    const budget = new ByteBudget({ bytesPerSecond: 100, burstBytes: 300, clock });
    assert.equal(budget.take(200), true);
    assert.equal(budget.take(101), false);
    assert.equal(budget.take(100), true);
    assert.equal(budget.take(1), false);
    await clock.advance(1_000);
    assert.equal(budget.take(101), false);
    assert.equal(budget.take(100), true);
    await clock.advance(3_600_000);
    assert.equal(budget.take(301), false);
    assert.equal(budget.take(300), true);
  });
});
