import { spanText } from '../text-table.ts';
import type { CheckAnswer } from './check.ts';

/** Certificates are backdated by two minutes; whoever tells the time tells it to the second. */
const SKEW_WARNING_MS = 60_000;
const SKEW_FAILURE_MS = 120_000;

/** What a difference of two clocks means, milliseconds. `what` is as in "the clocks differ". */
export function clockVerdict(skewMs: number, what: string): CheckAnswer {
  if (skewMs < SKEW_WARNING_MS) return { verdict: 'ok' };
  return {
    verdict: skewMs < SKEW_FAILURE_MS ? 'warning' : 'failed',
    detail: `${what} by ${spanText(skewMs)}`,
    hint: 'synchronise the clocks (NTP) of this machine and of the nodes: certificates are not valid before their time',
  };
}
