import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { REPORT_BURST, REPORT_INTERVAL_MS, ReportPace } from '../../../agent/report-pace.ts';
import * as ca from '../../../ca/api/report-rate.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { checkAsyncProperty } from '../../support/property.ts';

describe('the pace of reports', () => {
  it('lets a few go at once, and keeps some of them for what is held as a whole', async () => {
    const clock = new ManualClock();
    const pace = new ReportPace(clock);
    const sent = { detail: 0, held: 0 };
    for (const change of ['detail', 'held'] as const) {
      for (; pace.waitMs(change) === 0; sent[change] += 1) pace.take();
    }
    assert.deepEqual(sent, { detail: 4, held: 4 });
    assert.equal(pace.waitMs('held'), REPORT_INTERVAL_MS);
    await clock.advance(REPORT_INTERVAL_MS);
    assert.equal(pace.waitMs('held'), 0);
    assert.equal(pace.waitMs('detail'), 4 * REPORT_INTERVAL_MS);
    await clock.advance(3_600_000);
    assert.equal(pace.waitMs('detail'), 0);
  });

  it('stays below what the CA takes: an agent that starts anew with all that it may send at once is taken too', () => {
    assert.ok(REPORT_INTERVAL_MS > ca.REPORT_INTERVAL_MS);
    assert.ok(2 * REPORT_BURST < ca.REPORT_BURST);
  });

  it('never makes the CA refuse, however changes come and however a network holds them up', async () => {
    const step = fc.record({
      afterMs: fc.nat({ max: 3_000 }),
      change: fc.constantFrom('held' as const, 'detail' as const),
      // What was sent is held up for so long, and then comes in one piece.
      heldUpMs: fc.nat({ max: 5_000 }),
    });
    await checkAsyncProperty(
      fc.asyncProperty(fc.array(step, { maxLength: 80 }), async (steps) => {
        const clock = new ManualClock();
        const [pace, rates] = [new ReportPace(clock), new ca.ReportRates(clock)];
        const instance = { cluster: 'c1', podUid: 'u1' };
        let [onTheWay, arriveAtMs] = [0, 0];
        for (const { afterMs, change, heldUpMs } of steps) {
          await clock.advance(afterMs);
          if (clock.monotonic() >= arriveAtMs) {
            for (; onTheWay > 0; onTheWay -= 1) rates.take(instance);
            arriveAtMs = clock.monotonic() + heldUpMs;
          }
          for (; pace.waitMs(change) === 0; onTheWay += 1) pace.take();
        }
        for (; onTheWay > 0; onTheWay -= 1) rates.take(instance);
      }),
      60,
    );
  });
});
