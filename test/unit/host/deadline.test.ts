import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { withDeadline } from '../../../host/deadline.ts';
import { ManualClock, settle } from '../../support/manual-clock.ts';

const never = new AbortController().signal;

function setUp() {
  const clock = new ManualClock();
  return { clock, deadline: { clock, timeoutMs: 1_000, what: 'the oracle' } };
}

/** Work that never ends, and shows the signal that it got. */
function endless() {
  const seen: { signal: AbortSignal | null } = { signal: null };
  const work = (signal: AbortSignal): Promise<never> => {
    seen.signal = signal;
    return new Promise<never>(() => {});
  };
  return { seen, work };
}

describe('a deadline', () => {
  it('gives what the work gives, and leaves no timer behind', async () => {
    const { clock, deadline } = setUp();
    assert.equal(await withDeadline(deadline, never, async () => 42), 42);
    await settle();
    assert.equal(clock.sleeping, 0);
  });

  it('rejects with what the work rejects with', async () => {
    const { clock, deadline } = setUp();
    const fault = new Error('no');
    await assert.rejects(
      withDeadline(deadline, never, () => Promise.reject(fault)),
      fault,
    );
    await settle();
    assert.equal(clock.sleeping, 0);
  });

  it('rejects when the time is over, and aborts work that does not look at its signal', async () => {
    const { clock, deadline } = setUp();
    const { seen, work } = endless();
    const result = assert.rejects(withDeadline(deadline, never, work), {
      code: 'deadline_exceeded',
      message: 'the oracle did not answer in 1000 ms',
    });
    await clock.advance(999);
    assert.equal(seen.signal?.aborted, false);
    await clock.advance(1);
    await result;
    assert.equal(seen.signal?.aborted, true);
  });

  it('rejects with the reason of the signal, and hands it on', async () => {
    const { clock, deadline } = setUp();
    const { seen, work } = endless();
    const stop = new AbortController();
    const reason = new Error('stop');
    const result = assert.rejects(withDeadline(deadline, stop.signal, work), reason);
    stop.abort(reason);
    await result;
    assert.equal(seen.signal?.reason, reason);
    assert.equal(clock.sleeping, 0);
  });

  it('does not begin when the signal has aborted', async () => {
    const { deadline } = setUp();
    const reason = new Error('stop');
    const work = (): Promise<never> => assert.fail('it began');
    await assert.rejects(withDeadline(deadline, AbortSignal.abort(reason), work), reason);
  });

  it('ignores a late failure of work that was given up', async () => {
    const { clock, deadline } = setUp();
    const late = Promise.withResolvers<never>();
    const result = assert.rejects(
      withDeadline(deadline, never, () => late.promise),
      { code: 'deadline_exceeded' },
    );
    await clock.advance(1_000);
    await result;
    late.reject(new Error('too late'));
    await settle();
  });
});
