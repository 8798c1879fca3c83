import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { after, earlier, instantOf, msUntil, sleepUntilDeadline } from '../../../agent/deadline.ts';
import { WALL_CLOCK_CHECK_MS } from '../../../host/clock.ts';
import { ManualClock } from '../../support/manual-clock.ts';

const never = new AbortController().signal;

describe('a deadline on both clocks', () => {
  it('is reached when either clock has reached it', () => {
    const clock = new ManualClock();
    const deadline = after(instantOf(clock), 1_000);
    assert.equal(msUntil(deadline, instantOf(clock)), 1_000);
    clock.jumpWall(400);
    assert.equal(msUntil(deadline, instantOf(clock)), 600);
    clock.jumpWall(-10_000);
    assert.equal(msUntil(deadline, instantOf(clock)), 1_000);
  });

  it('is the earlier of two as the clocks stand now', () => {
    const now = instantOf(new ManualClock());
    const [soon, late] = [after(now, 1), after(now, 2)];
    assert.equal(earlier(soon, late, now), soon);
    assert.equal(earlier(late, soon, now), soon);
  });

  it('ends a sleep when it is reached', async () => {
    const clock = new ManualClock();
    let isOver = false;
    const sleep = sleepUntilDeadline(clock, after(instantOf(clock), 60_000), never).then(() => {
      isOver = true;
    });
    await clock.advance(59_999);
    assert.equal(isOver, false);
    await clock.advance(1);
    await sleep;
  });

  it('ends a sleep soon after the wall clock jumped past it', async () => {
    const clock = new ManualClock();
    const sleep = sleepUntilDeadline(clock, after(instantOf(clock), 3_600_000), never);
    await clock.advance(1);
    clock.jumpWall(3_600_000);
    await clock.advance(WALL_CLOCK_CHECK_MS);
    await sleep;
  });

  it('is not put off by a wall clock that is set back', async () => {
    const clock = new ManualClock();
    const sleep = sleepUntilDeadline(clock, after(instantOf(clock), 60_000), never);
    await clock.advance(1);
    clock.jumpWall(-3_600_000);
    await clock.advance(60_000);
    await sleep;
  });

  for (const deadline of [null, { wallMs: Number.MAX_SAFE_INTEGER, monotonicMs: Number.MAX_SAFE_INTEGER }]) {
    it(`${deadline === null ? 'that never comes' : 'that is far'} lets a sleep be aborted`, async () => {
      const abort = new AbortController();
      const sleep = sleepUntilDeadline(new ManualClock(), deadline, abort.signal);
      abort.abort(new Error('enough'));
      await assert.rejects(sleep, /enough/);
      await assert.rejects(sleepUntilDeadline(new ManualClock(), deadline, abort.signal), /enough/);
    });
  }
});
