import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ByteBudget } from '../../../../ca/webhook/byte-budget.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const budgetOf = (clock: ManualClock): ByteBudget =>
  new ByteBudget({ bytesPerSecond: 100, burstBytes: 300, maxWaitMs: 2_000, clock });

describe('a budget of bytes', () => {
  it('gives a burst at once, then so many a second, and takes nothing for what it does not give', async () => {
    const clock = new ManualClock();
    const budget = budgetOf(clock);
    assert.equal(budget.take('a', 200), 0);
    assert.equal(budget.take('a', 301), null);
    assert.equal(budget.take('a', 100), 0);
    assert.equal(budget.take('a', 50), 500);
    assert.equal(budget.take('a', 150), 2_000);
    assert.equal(budget.take('a', 1), null);
    await clock.advance(1_000);
    assert.equal(budget.take('a', 100), 2_000);
    await clock.advance(3_600_000);
    assert.equal(budget.take('a', 501), null);
    assert.equal(budget.take('a', 300), 0);
  });

  it('shares itself out among those that ask: a flood from one address leaves the others their part', async () => {
    const clock = new ManualClock();
    const budget = budgetOf(clock);
    const flood = (): void => {
      for (let left = 100; left > 0 && budget.take('flood', 10) !== null; left -= 1);
    };
    flood();
    assert.equal(budget.take('api-server', 150), 0);
    for (let second = 0; second < 60; second += 1) {
      await clock.advance(1_000);
      flood();
      assert.equal(budget.take('api-server', 40), 0, `second ${second}`);
    }
  });

  it('gives no more than it has, however many addresses there are', async () => {
    const clock = new ManualClock();
    const budget = budgetOf(clock);
    let given = 0;
    for (let second = 0; second < 10; second += 1) {
      for (let i = 0; i < 1_000; i += 1) if (budget.take(`address-${i}`, 10) === 0) given += 10;
      await clock.advance(1_000);
    }
    assert.ok(given <= 300 * 2 + 10 * 100, String(given));
  });

  it('forgets who has asked for nothing for long', async () => {
    const clock = new ManualClock();
    const budget = budgetOf(clock);
    assert.equal(budget.take('a', 300), 0);
    await clock.advance(60_000);
    assert.equal(budget.take('b', 300), 0);
  });
});
