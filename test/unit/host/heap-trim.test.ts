import assert from 'node:assert/strict';
import { test } from 'node:test';
import { trimHeap, trimHeapAtRest } from '../../../host/heap-trim.ts';
import { ManualClock } from '../../support/manual-clock.ts';

test('what nothing holds is gone after a trim, and the program goes on', async () => {
  const held = { payload: Array.from({ length: 1_000 }, () => 'x') };
  const dropped = new WeakRef({ payload: Array.from({ length: 1_000 }, () => 'x') });
  // A WeakRef holds its target until the turn that made it is over.
  await new Promise((resolve) => setImmediate(resolve));
  trimHeap();
  assert.equal(dropped.deref(), undefined);
  assert.equal(held.payload.length, 1_000);
});

test('a trim leaves no gc function behind for other code', () => {
  trimHeap();
  assert.equal((globalThis as { gc?: unknown }).gc, undefined);
});

test('trims two seconds after the start, then every minute, until it is told to end', async () => {
  const clock = new ManualClock();
  const stop = new AbortController();
  let trims = 0;
  const running = trimHeapAtRest(clock, stop.signal, () => {
    trims += 1;
  });
  await clock.advance(1_999);
  assert.equal(trims, 0);
  await clock.advance(1);
  assert.equal(trims, 1);
  await clock.advance(59_999);
  assert.equal(trims, 1);
  await clock.advance(1);
  assert.equal(trims, 2);
  stop.abort();
  await running;
  assert.equal(clock.sleeping, 0);
});

test('a trim that fails ends the trimming, and nothing else', async () => {
  const clock = new ManualClock();
  let trims = 0;
  const running = trimHeapAtRest(clock, new AbortController().signal, () => {
    trims += 1;
    throw new Error('no gc here');
  });
  await clock.advance(10_000);
  await running;
  await clock.advance(120_000);
  assert.equal(trims, 1);
});
