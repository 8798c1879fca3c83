import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Wakeup } from '../../../host/wakeup.ts';
import { ManualClock, settle } from '../../support/manual-clock.ts';

const never = new AbortController().signal;

describe('a sleep that can be woken', () => {
  it('ends by itself with false', async () => {
    const clock = new ManualClock();
    const wakeup = new Wakeup();
    const slept = wakeup.sleep(wakeup.generation, (signal) => clock.sleep(1_000, signal), never);
    await clock.advance(1_000);
    assert.equal(await slept, false);
  });

  it('ends with true when woken, and leaves no timer behind', async () => {
    const clock = new ManualClock();
    const wakeup = new Wakeup();
    const slept = wakeup.sleep(wakeup.generation, (signal) => clock.sleep(1_000, signal), never);
    await settle();
    assert.equal(clock.sleeping, 1);
    wakeup.wake();
    assert.equal(await slept, true);
    assert.equal(clock.sleeping, 0);
  });

  it('does not begin when it was woken since the generation that the loop noted', async () => {
    const wakeup = new Wakeup();
    const noted = wakeup.generation;
    wakeup.wake();
    const sleep = (): Promise<void> => assert.fail('it slept');
    assert.equal(await wakeup.sleep(noted, sleep, never), true);
  });

  it('wakes everybody who sleeps, each time', async () => {
    const clock = new ManualClock();
    const wakeup = new Wakeup();
    for (let round = 0; round < 3; round += 1) {
      const all = [1, 2, 3].map(() =>
        wakeup.sleep(wakeup.generation, (signal) => clock.sleep(1_000, signal), never),
      );
      wakeup.wake();
      assert.deepEqual(await Promise.all(all), [true, true, true]);
    }
  });

  it('rejects with the reason of the signal, before and during the sleep', async () => {
    const clock = new ManualClock();
    const wakeup = new Wakeup();
    const reason = new Error('stop');
    const sleep = (signal: AbortSignal): Promise<void> => clock.sleep(1_000, signal);
    await assert.rejects(wakeup.sleep(0, sleep, AbortSignal.abort(reason)), reason);
    const stop = new AbortController();
    const slept = wakeup.sleep(wakeup.generation, sleep, stop.signal);
    stop.abort(reason);
    await assert.rejects(slept, reason);
    assert.equal(clock.sleeping, 0);
  });

  it('rejects with what the sleep itself rejects with', async () => {
    const wakeup = new Wakeup();
    const fault = new Error('no timer');
    await assert.rejects(
      wakeup.sleep(0, () => Promise.reject(fault), never),
      fault,
    );
  });
});
