import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { systemClock } from '../../../host/clock.ts';

describe('the system clock', () => {
  it('gives whole milliseconds of the wall clock, and a monotonic clock that does not go back', () => {
    assert.ok(Number.isInteger(systemClock.now()));
    const before = systemClock.monotonic();
    assert.ok(systemClock.monotonic() >= before);
  });

  it('takes a negative time as none', async () => {
    await systemClock.sleep(-5);
    await systemClock.sleep(Number.NEGATIVE_INFINITY);
  });

  it('sleeps longer than a timer holds, until it is woken', async () => {
    const controller = new AbortController();
    const asleep = systemClock.sleep(2 ** 40, controller.signal);
    const reason = new Error('enough');
    controller.abort(reason);
    await assert.rejects(asleep, (error: Error) => error === reason);
  });

  it('does not fall asleep when it is told to end already', async () => {
    await assert.rejects(systemClock.sleep(1_000, AbortSignal.abort()));
  });
});
