import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  ANYONE,
  HALF_SENT_CALLS,
  type HalfSentCall,
  HalfSentCalls,
  MESSAGE_TIMEOUT_MS,
} from '../../../../ca/api/half-sent-calls.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

function recorder(): { readonly ended: string[]; readonly call: (name: string) => HalfSentCall } {
  const ended: string[] = [];
  const call = (name: string): HalfSentCall => ({
    refuse: ({ code }) => void ended.push(`${name} ${code}`),
    cut: () => void ended.push(`${name} cut`),
  });
  return { ended, call };
}

describe('calls that owe their message', () => {
  for (const [holder, max] of [
    [ANYONE, HALF_SENT_CALLS.anyone],
    ['local/pod-1', HALF_SENT_CALLS.instance],
  ] as const) {
    it(`are ${max} at most of ${holder === ANYONE ? 'everyone without a token' : 'one instance'}: the oldest goes`, () => {
      const calls = new HalfSentCalls(new ManualClock());
      const { ended, call } = recorder();
      const other = call('other');
      calls.add('local/pod-2', other);
      for (let n = 0; n < max; n += 1) calls.add(holder, call(`${n}`));
      assert.deepEqual(ended, []);
      calls.add(holder, call('newest'));
      assert.deepEqual(ended, ['0 overloaded', '0 cut']);
      assert.equal(calls.size, max + 1);
    });
  }

  it('are cut when they are overdue, and not before', async () => {
    const clock = new ManualClock();
    const calls = new HalfSentCalls(clock);
    const { ended, call } = recorder();
    calls.add('a', call('first'));
    await clock.advance(MESSAGE_TIMEOUT_MS - 1);
    calls.add('a', call('second'));
    calls.sweep();
    assert.deepEqual(ended, []);
    await clock.advance(1);
    calls.sweep();
    assert.deepEqual(ended, ['first deadline_exceeded', 'first cut']);
    assert.equal(calls.size, 1);
  });

  it('are forgotten once their message has come', async () => {
    const clock = new ManualClock();
    const calls = new HalfSentCalls(clock);
    const { ended, call } = recorder();
    const one = call('one');
    calls.add('a', one);
    calls.delete('a', one);
    calls.delete('a', one);
    calls.delete('b', one);
    assert.equal(calls.size, 0);
    await clock.advance(2 * MESSAGE_TIMEOUT_MS);
    calls.sweep();
    assert.deepEqual(ended, []);
  });
});
