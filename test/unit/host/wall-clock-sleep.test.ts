import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { sleepUntilOrJumpBack } from '../../../host/wall-clock-sleep.ts';
import { ManualClock } from '../../support/manual-clock.ts';

const never = new AbortController().signal;

function setUp(ms: number) {
  const clock = new ManualClock();
  const slept = { done: false };
  const promise = sleepUntilOrJumpBack(clock, clock.now() + ms, never).then(() => {
    slept.done = true;
  });
  return { clock, slept, promise };
}

describe('a sleep on the wall clock', () => {
  it('ends when the clock gets there, not before', async () => {
    const { clock, slept } = setUp(25_000);
    await clock.advance(24_999);
    assert.equal(slept.done, false);
    await clock.advance(1);
    assert.equal(slept.done, true);
  });

  it('ends at the next look when the clock jumps forward beyond it', async () => {
    const { clock, slept } = setUp(86_400_000);
    clock.jumpWall(86_400_000);
    await clock.advance(10_000);
    assert.equal(slept.done, true);
  });

  it('ends at the next look when the clock jumps back, but not for the drift of a second', async () => {
    const { clock, slept } = setUp(86_400_000);
    clock.jumpWall(-1_000);
    await clock.advance(20_000);
    assert.equal(slept.done, false);
    clock.jumpWall(-1);
    await clock.advance(10_000);
    assert.equal(slept.done, true);
  });

  it('does not sleep for a time that has passed', async () => {
    const { promise } = setUp(0);
    await promise;
  });

  it('ends with the reason of its signal', async () => {
    const clock = new ManualClock();
    const stop = new AbortController();
    const slept = sleepUntilOrJumpBack(clock, clock.now() + 1, stop.signal);
    const reason = new Error('stop');
    stop.abort(reason);
    await assert.rejects(slept, reason);
  });
});
