import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ReviewTurns } from '../../../../ca/attest/review-turns.ts';
import { expectRejection } from '../../../support/expect-code.ts';
import { settle } from '../../../support/manual-clock.ts';

describe('ReviewTurns', () => {
  it('runs as many at once as it may, the others in the order in which they came', async () => {
    const turns = new ReviewTurns({ concurrent: 2, waiting: 8, perAddress: 10 });
    const begun: number[] = [];
    const ends: (() => void)[] = [];
    const all = Array.from({ length: 5 }, (_, i) =>
      turns.run('a', async () => {
        begun.push(i);
        await new Promise<void>((resolve) => ends.push(resolve));
        return i;
      }),
    );
    await settle();
    for (const want of [
      [0, 1],
      [0, 1, 2],
      [0, 1, 2, 3],
      [0, 1, 2, 3, 4],
    ]) {
      assert.deepEqual(begun, want);
      ends.shift()?.();
      await settle();
    }
    for (const end of ends) end();
    assert.deepEqual(await Promise.all(all), [0, 1, 2, 3, 4]);
    assert.deepEqual([turns.running, turns.waiting], [0, 0]);
  });

  it('goes round the addresses: a flood from one is ahead of another by no more than a turn', async () => {
    const turns = new ReviewTurns({ concurrent: 1, waiting: 100, perAddress: 50 });
    const { promise, resolve } = Promise.withResolvers<void>();
    const order: string[] = [];
    const held = turns.run('flood', () => promise);
    const all = ['flood', 'flood', 'flood', 'flood', 'a', 'b', 'a'].map((address) =>
      turns.run(address, async () => void order.push(address)),
    );
    resolve();
    await Promise.all([held, ...all]);
    assert.deepEqual(order, ['flood', 'a', 'b', 'flood', 'a', 'flood', 'flood']);
    assert.deepEqual([turns.running, turns.waiting], [0, 0]);
  });

  it('takes the place of a newcomer from the address that has most, where all are taken', async () => {
    const turns = new ReviewTurns({ concurrent: 1, waiting: 3, perAddress: 50 });
    const { promise, resolve } = Promise.withResolvers<void>();
    const held = turns.run('flood', () => promise);
    const flood = ['1', '2', '3'].map((name) => turns.run('flood', () => Promise.resolve(name)));
    const displaced = expectRejection('overloaded', flood[2] ?? held);
    const newcomer = turns.run('a', () => Promise.resolve('a'));
    await displaced;
    await expectRejection(
      'overloaded',
      turns.run('flood', () => promise),
    );
    resolve();
    assert.deepEqual(await Promise.all([newcomer, flood[0], flood[1]]), ['a', '1', '2']);
    assert.deepEqual([turns.running, turns.waiting], [0, 0]);
  });

  it('hands the turn on after a failure as well', async () => {
    const turns = new ReviewTurns({ concurrent: 1, waiting: 8, perAddress: 10 });
    const failing = turns.run('a', () => Promise.reject(new Error('no')));
    const next = turns.run('a', () => Promise.resolve('yes'));
    await assert.rejects(failing, /no/);
    assert.equal(await next, 'yes');
    assert.equal(turns.running, 0);
  });

  it('refuses when there is no place to wait, or one address has its share', async () => {
    const turns = new ReviewTurns({ concurrent: 1, waiting: 2, perAddress: 2 });
    const { promise, resolve } = Promise.withResolvers<void>();
    const running = [turns.run('a', () => promise), turns.run('a', () => promise)];
    const error = await expectRejection(
      'overloaded',
      turns.run('a', () => promise),
    );
    assert.equal(error.retryAfterMs, 1_000);
    running.push(turns.run('b', () => promise));
    await expectRejection(
      'overloaded',
      turns.run('c', () => promise),
    );
    resolve();
    await Promise.all(running);
    await turns.run('a', () => Promise.resolve());
  });
});
