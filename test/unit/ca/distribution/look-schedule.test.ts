import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LookSchedule } from '../../../../ca/distribution/look-schedule.ts';
import { ManualClock, settle } from '../../../support/manual-clock.ts';

describe('LookSchedule', () => {
  it('gives each thing when it is due, the soonest first, and each once', async () => {
    const clock = new ManualClock();
    const schedule = new LookSchedule(clock);
    const end = new AbortController();
    const looked: string[] = [];
    const run = (async () => {
      for (;;) looked.push(`${await schedule.next(end.signal)} ${clock.monotonic()}`);
    })();
    schedule.dueIn('late', 3_000);
    schedule.dueIn('soon', 2_000);
    await clock.advance(1_000);
    assert.deepEqual(looked, []);
    schedule.dueIn('late', 5_000);
    schedule.dueIn('soon', 500);
    await clock.advance(10_000);
    assert.deepEqual(looked, ['soon 1500', 'late 3000']);
    schedule.dueIn('soon', 0);
    await settle();
    assert.equal(looked.at(-1), 'soon 11000');
    end.abort(new Error('over'));
    await assert.rejects(run, /over/);
  });
});
