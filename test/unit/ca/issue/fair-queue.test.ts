import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { FairQueue, RETRY_AFTER_MS } from '../../../../ca/issue/fair-queue.ts';
import { isKedgeError, type KedgeError } from '../../../../pki/kedge-error.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { checkProperty } from '../../../support/property.ts';

interface Item {
  readonly instance: string;
  readonly number: number;
  left: boolean;
}

function queueOf(capacity: number, instanceCapacity: number, clock = new ManualClock()): FairQueue<Item> {
  return new FairQueue<Item>({ capacity, instanceCapacity, clock, hasLeft: ({ left }) => left });
}

function fill(queue: FairQueue<Item>, instance: string, count: number): Item[] {
  return Array.from({ length: count }, (_, number) => {
    const item = { instance, number, left: false };
    queue.add(instance, item);
    return item;
  });
}

function names(items: readonly Item[]): string[] {
  return items.map(({ instance, number }) => `${instance}${number}`);
}

function refusalOf(add: () => void): KedgeError {
  try {
    add();
  } catch (error) {
    assert.ok(isKedgeError(error));
    return error;
  }
  throw new assert.AssertionError({ message: 'it was not refused' });
}

const nobody = (): void => assert.fail('nobody left');

describe('the fair queue', () => {
  it('lets instances take turns, and keeps the order within each', () => {
    const queue = queueOf(100, 10);
    fill(queue, 'a', 4);
    fill(queue, 'b', 2);
    fill(queue, 'c', 1);
    assert.deepEqual(names(queue.take(4, nobody)), ['a0', 'b0', 'c0', 'a1']);
    fill(queue, 'd', 1);
    assert.deepEqual(names(queue.take(9, nobody)), ['b1', 'a2', 'd0', 'a3']);
    assert.equal(queue.size, 0);
    assert.equal(queue.instances, 0);
  });

  it('refuses an instance that has its share, while others still get in', () => {
    const queue = queueOf(10, 2);
    fill(queue, 'a', 2);
    assert.equal(refusalOf(() => fill(queue, 'a', 1)).code, 'instance_overloaded');
    fill(queue, 'b', 2);
    assert.equal(queue.size, 4);
  });

  it('refuses everyone once it is full', () => {
    const queue = queueOf(3, 2);
    fill(queue, 'a', 2);
    fill(queue, 'b', 1);
    assert.equal(refusalOf(() => fill(queue, 'c', 1)).code, 'overloaded');
    assert.equal(queue.size, 3);
  });

  it('hands out nobody who left, and tells who did', () => {
    const queue = queueOf(10, 10);
    const [first, second] = fill(queue, 'a', 3);
    fill(queue, 'b', 1);
    first!.left = true;
    second!.left = true;
    const left: Item[] = [];
    assert.deepEqual(names(queue.take(2, (item) => left.push(item))), ['b0', 'a2']);
    assert.deepEqual(names(left), ['a0', 'a1']);
    assert.equal(queue.size, 0);
  });

  it('tells refused callers how long the measured pace takes for what is ahead', async () => {
    const clock = new ManualClock();
    const queue = queueOf(1000, 100, clock);
    for (let n = 0; n < 10; n += 1) fill(queue, `i${n}`, 100);
    for (let round = 0; round < 60; round += 1) {
      queue.take(2, nobody);
      await clock.advance(40);
    }
    // 20 ms for each item: 880 are left, and this instance, one of ten, has 88 of them.
    for (let n = 0; n < 10; n += 1) fill(queue, `i${n}`, 12);
    const global = refusalOf(() => fill(queue, 'new', 1));
    assert.equal(global.code, 'overloaded');
    assert.ok(Math.abs((global.retryAfterMs ?? 0) - 20_000) < 100, `${global.retryAfterMs} ms`);
    const own = refusalOf(() => fill(queue, 'i0', 1));
    assert.equal(own.code, 'instance_overloaded');
    assert.ok(Math.abs((own.retryAfterMs ?? 0) - 20_000) < 100, `${own.retryAfterMs} ms`);
  });

  it('keeps what it tells within bounds, however slow it was', async () => {
    const clock = new ManualClock();
    const queue = queueOf(4, 2, clock);
    fill(queue, 'a', 2);
    assert.equal(refusalOf(() => fill(queue, 'a', 1)).retryAfterMs, RETRY_AFTER_MS.min);
    fill(queue, 'b', 2);
    queue.take(1, nobody);
    await clock.advance(3_600_000);
    queue.take(1, nobody);
    fill(queue, 'c', 2);
    assert.equal(refusalOf(() => fill(queue, 'd', 1)).retryAfterMs, RETRY_AFTER_MS.max);
  });

  it('does not count time in which nothing waited', async () => {
    const clock = new ManualClock();
    const queue = queueOf(2, 2, clock);
    fill(queue, 'a', 2);
    queue.take(2, nobody);
    await clock.advance(3_600_000);
    fill(queue, 'a', 2);
    assert.equal(refusalOf(() => fill(queue, 'b', 1)).retryAfterMs, RETRY_AFTER_MS.min);
  });

  it('is never over its bounds, starves nobody, and is first in first out for each (property)', () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant('add' as const), instance: fc.constantFrom('a', 'b', 'c', 'd') }),
      fc.record({ kind: fc.constant('take' as const), count: fc.integer({ min: 1, max: 6 }) }),
      fc.record({ kind: fc.constant('leave' as const), which: fc.nat() }),
    );
    checkProperty(
      fc.property(
        fc.array(step, { maxLength: 120 }),
        fc.integer({ min: 1, max: 12 }),
        fc.integer({ min: 1, max: 5 }),
        (steps, capacity, instanceCapacity) => {
          const queue = queueOf(capacity, instanceCapacity);
          let waiting: Item[] = [];
          let number = 0;
          for (const one of steps) {
            if (one.kind === 'add') {
              const item = { instance: one.instance, number: number++, left: false };
              const own = waiting.filter(({ instance }) => instance === one.instance).length;
              const fits = own < instanceCapacity && waiting.length < capacity;
              if (fits) {
                queue.add(one.instance, item);
                waiting.push(item);
              } else {
                const { code } = refusalOf(() => queue.add(one.instance, item));
                assert.equal(code, own >= instanceCapacity ? 'instance_overloaded' : 'overloaded');
              }
            } else if (one.kind === 'leave') {
              const item = waiting[one.which % Math.max(1, waiting.length)];
              if (item !== undefined) item.left = true;
            } else {
              const before = waiting;
              const gone: Item[] = [];
              const taken = queue.take(one.count, (item) => gone.push(item));
              waiting = before.filter((item) => !taken.includes(item) && !gone.includes(item));
              assert.ok(taken.length === one.count || waiting.length === 0);
              assert.ok(taken.every(({ left }) => !left));
              for (const instance of ['a', 'b', 'c', 'd']) {
                const of = (items: readonly Item[]): Item[] =>
                  items.filter((item) => item.instance === instance);
                const out = of(before).filter((item) => !waiting.includes(item));
                assert.deepEqual(out, of(before).slice(0, out.length), 'first in, first out');
                // Whoever still waits had as many turns as anybody else, give or take the round under way.
                if (of(waiting).length > 0) {
                  for (const other of ['a', 'b', 'c', 'd']) {
                    const othersOut = before.filter(
                      (i) => i.instance === other && !waiting.includes(i),
                    ).length;
                    assert.ok(
                      othersOut <= out.length + 1,
                      `${other} had ${othersOut}, ${instance} ${out.length}`,
                    );
                  }
                }
              }
            }
            assert.equal(queue.size, waiting.length);
            assert.ok(queue.size <= capacity);
          }
        },
      ),
      400,
    );
  });
});
