import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { OverdueWatch } from '../../../../agent/feed/overdue-watch.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const TIMEOUT_MS = 1_000;

function watched(): {
  readonly clock: ManualClock;
  readonly watch: OverdueWatch<string>;
  readonly overdue: string[];
} {
  const [clock, overdue]: [ManualClock, string[]] = [new ManualClock(), []];
  const onOverdue = (item: string): void => void overdue.push(item);
  return { clock, overdue, watch: new OverdueWatch({ clock, timeoutMs: TIMEOUT_MS, onOverdue }) };
}

describe('things that must end in time', () => {
  it('are told of when they are overdue, each at its own time, and not before', async () => {
    const { clock, watch, overdue } = watched();
    watch.add('a');
    await clock.advance(400);
    watch.add('b');
    await clock.advance(599);
    assert.deepEqual(overdue, []);
    await clock.advance(1);
    assert.deepEqual(overdue, ['a']);
    assert.equal(watch.has('a'), false);
    await clock.advance(399);
    assert.deepEqual(overdue, ['a']);
    await clock.advance(1);
    assert.deepEqual(overdue, ['a', 'b']);
    assert.equal(watch.size, 0);
  });

  it('are not told of once they have ended', async () => {
    const { clock, watch, overdue } = watched();
    watch.add('a');
    watch.add('b');
    watch.delete('a');
    watch.delete('a');
    await clock.advance(TIMEOUT_MS);
    assert.deepEqual(overdue, ['b']);
  });

  it('have all of the time again when they begin again', async () => {
    const { clock, watch, overdue } = watched();
    watch.add('a');
    watch.add('b');
    await clock.advance(900);
    watch.add('a');
    assert.equal(watch.oldest, 'b');
    await clock.advance(999);
    assert.deepEqual(overdue, ['b']);
    await clock.advance(1);
    assert.deepEqual(overdue, ['b', 'a']);
  });

  it('cost no timer while there are none', async () => {
    const { clock, watch } = watched();
    watch.add('a');
    watch.add('b');
    assert.equal(clock.sleeping, 1);
    watch.delete('a');
    watch.delete('b');
    await clock.advance(0);
    assert.equal(clock.sleeping, 0);
    watch.add('c');
    assert.equal(clock.sleeping, 1);
  });

  it('may begin others while they are told of', async () => {
    const clock = new ManualClock();
    const overdue: string[] = [];
    const watch: OverdueWatch<string> = new OverdueWatch({
      clock,
      timeoutMs: TIMEOUT_MS,
      onOverdue: (item) => {
        overdue.push(item);
        if (overdue.length < 3) watch.add(`${item}'`);
      },
    });
    watch.add('a');
    await clock.advance(3 * TIMEOUT_MS);
    assert.deepEqual(overdue, ['a', "a'", "a''"]);
  });
});
