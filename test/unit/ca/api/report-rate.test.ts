import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { REPORT_BURST, REPORT_INTERVAL_MS, ReportRates } from '../../../../ca/api/report-rate.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { expectCode } from '../../../support/expect-code.ts';

const U1 = { cluster: 'c1', podUid: 'u1' };

describe('the rate of reports', () => {
  it('lets so many come at once, then one each interval, however long an instance was silent', async () => {
    const clock = new ManualClock();
    const rates = new ReportRates(clock);
    for (const silenceMs of [0, 3_600_000]) {
      await clock.advance(silenceMs);
      for (let i = 0; i < REPORT_BURST; i += 1) rates.take(U1);
      expectCode('report_rate_exceeded', () => rates.take(U1));
      await clock.advance(REPORT_INTERVAL_MS);
      rates.take(U1);
      expectCode('report_rate_exceeded', () => rates.take(U1));
    }
    rates.take({ ...U1, podUid: 'u2' });
    rates.take({ ...U1, cluster: 'c2' });
  });

  it('remembers an instance until it may send all at once again, and no longer', async () => {
    const clock = new ManualClock();
    const rates = new ReportRates(clock);
    rates.take(U1);
    rates.take(U1);
    await clock.advance(2 * REPORT_INTERVAL_MS - 1);
    rates.prune();
    assert.equal(rates.size, 1);
    await clock.advance(1);
    rates.prune();
    assert.equal(rates.size, 0);
  });
});
