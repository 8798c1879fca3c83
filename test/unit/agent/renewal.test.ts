import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { after, type Instant, msUntil } from '../../../agent/deadline.ts';
import {
  answerRenewalRequest,
  drawRenewal,
  expiryOf,
  LATEST_ASKED_SHARE,
  MIN_HELD_MS,
  type Renewal,
  type RenewalWindow,
} from '../../../agent/renewal.ts';
import { checkProperty } from '../../support/property.ts';

const NOW: Instant = { wallMs: Date.UTC(2026, 0, 1), monotonicMs: 5_000 };
const HOUR_MS = 3_600_000;

const draw = (
  leftMs: number,
  fraction: number,
  hint?: RenewalWindow,
  caNowMs: number = NOW.wallMs,
): Renewal => drawRenewal({ now: NOW, expiry: after(NOW, leftMs), caNowMs, hint, fraction });

const waitOf = (renewal: Renewal): number => msUntil(renewal.at, NOW);

describe('the expiry of an SVID', () => {
  it('is its notAfter on the wall clock and what is left by the clock of the CA on the monotonic clock', () => {
    const expiry = expiryOf(NOW.wallMs + HOUR_MS, NOW, NOW.wallMs + 60_000);
    assert.deepEqual(expiry, { wallMs: NOW.wallMs + HOUR_MS, monotonicMs: 5_000 + HOUR_MS - 60_000 });
  });

  it('counts by the own clock where that of the CA is not known', () => {
    assert.equal(expiryOf(NOW.wallMs + HOUR_MS, NOW).monotonicMs, 5_000 + HOUR_MS);
  });

  it('is reached on the monotonic clock although the wall clock was set back by a year', () => {
    const expiry = expiryOf(NOW.wallMs + HOUR_MS, NOW);
    const later = { wallMs: NOW.wallMs - 365 * 24 * HOUR_MS, monotonicMs: NOW.monotonicMs + HOUR_MS };
    assert.ok(msUntil(expiry, later) <= 0);
  });

  it('is reached on the wall clock although the monotonic clock stood still in suspend', () => {
    const expiry = expiryOf(NOW.wallMs + HOUR_MS, NOW);
    assert.ok(msUntil(expiry, { wallMs: NOW.wallMs + HOUR_MS, monotonicMs: NOW.monotonicMs }) <= 0);
  });
});

describe('the renewal instant', () => {
  const cases: readonly {
    name: string;
    leftMs: number;
    fraction: number;
    hint?: RenewalWindow;
    want: number;
  }[] = [
    { name: 'is at 50 % of what is left at the earliest', leftMs: HOUR_MS, fraction: 0, want: HOUR_MS / 2 },
    { name: 'is before 65 % of what is left', leftMs: HOUR_MS, fraction: 1, want: HOUR_MS * 0.65 },
    { name: 'is now for an SVID that has expired', leftMs: 0, fraction: 0.5, want: 0 },
    {
      name: 'is drawn in the window that the CA hints at',
      leftMs: HOUR_MS,
      fraction: 0.5,
      hint: { notBeforeMs: NOW.wallMs + 10_000, notAfterMs: NOW.wallMs + 20_000 },
      want: 15_000,
    },
    {
      name: 'is drawn in what is left of a window that has begun',
      leftMs: HOUR_MS,
      fraction: 0,
      hint: { notBeforeMs: NOW.wallMs - 10_000, notAfterMs: NOW.wallMs + 20_000 },
      want: MIN_HELD_MS,
    },
    {
      name: 'is soon, and not at once, for a window that is over',
      leftMs: HOUR_MS,
      fraction: 0.5,
      hint: { notBeforeMs: NOW.wallMs - 20_000, notAfterMs: NOW.wallMs - 10_000 },
      want: MIN_HELD_MS,
    },
    {
      name: 'is at 90 % of what is left at the latest, whatever the CA hints at',
      leftMs: HOUR_MS,
      fraction: 0.5,
      hint: { notBeforeMs: NOW.wallMs + 9 * HOUR_MS, notAfterMs: NOW.wallMs + 10 * HOUR_MS },
      want: HOUR_MS * LATEST_ASKED_SHARE,
    },
    {
      name: 'takes no notice of a window that ends before it begins',
      leftMs: HOUR_MS,
      fraction: 0,
      hint: { notBeforeMs: NOW.wallMs + 20_000, notAfterMs: NOW.wallMs + 10_000 },
      want: HOUR_MS / 2,
    },
    {
      name: 'takes no notice of an empty window',
      leftMs: HOUR_MS,
      fraction: 0,
      hint: { notBeforeMs: 0, notAfterMs: 0 },
      want: HOUR_MS / 2,
    },
  ];
  for (const { name, leftMs, fraction, hint, want } of cases) {
    it(name, () => assert.equal(waitOf(draw(leftMs, fraction, hint)), want));
  }

  it('reads a window by the clock of the CA, not by its own', () => {
    const caNowMs = NOW.wallMs - 30_000;
    const hint = { notBeforeMs: caNowMs + 10_000, notAfterMs: caNowMs + 20_000 };
    assert.equal(waitOf(draw(HOUR_MS, 0.5, hint, caNowMs)), 15_000);
  });

  it('is never in the past and never after the expiry, whatever is given', () => {
    const integer = fc.integer({ min: -(2 ** 45), max: 2 ** 45 });
    checkProperty(
      fc.property(
        fc.integer({ min: -HOUR_MS, max: 1000 * HOUR_MS }),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        fc.option(fc.record({ notBeforeMs: integer, notAfterMs: integer }), { nil: undefined }),
        integer,
        (leftMs, fraction, hint, caNowMs) => {
          const wait = waitOf(draw(leftMs, fraction, hint, caNowMs));
          assert.ok(wait >= 0, `in the past: ${wait}`);
          assert.ok(wait <= Math.max(0, leftMs), `after the expiry: ${wait} of ${leftMs}`);
        },
      ),
      1000,
    );
  });

  it('spreads a fleet evenly over its window', () => {
    const tenths = Array.from({ length: 10 }, () => 0);
    for (let i = 0; i < 1000; i += 1) {
      const share = waitOf(draw(HOUR_MS, i / 1000)) / HOUR_MS;
      const tenth = Math.min(9, Math.floor((share - 0.5) / 0.015));
      tenths[tenth] = (tenths[tenth] ?? 0) + 1;
    }
    for (const count of tenths) assert.ok(count >= 98 && count <= 102, String(count));
  });
});

describe('a request to renew', () => {
  const ISSUER_A = Uint8Array.of(1, 2, 3);
  const ISSUER_B = Uint8Array.of(4, 5, 6);
  const planned = draw(HOUR_MS, 0);
  const answer = (
    authorityKeyId: Uint8Array,
    window?: RenewalWindow,
    current = planned,
    fraction = 0.5,
  ): Renewal =>
    answerRenewalRequest({
      current,
      request: { authorityKeyId, window },
      authorityKeyId: ISSUER_A,
      now: NOW,
      expiry: after(NOW, HOUR_MS),
      caNowMs: NOW.wallMs,
      fraction,
    });
  const window = { notBeforeMs: NOW.wallMs, notAfterMs: NOW.wallMs + 20_000 };

  it('changes nothing for an SVID that hangs under the issuer named', () => {
    assert.equal(answer(ISSUER_A, window), planned);
  });

  it('without a window means as soon as may be', () => {
    const renewal = answer(ISSUER_B);
    assert.equal(waitOf(renewal), MIN_HELD_MS);
    assert.equal(renewal.reason, 'request');
  });

  it('draws one instant in its window', () => {
    assert.equal(waitOf(answer(ISSUER_B, window)), 10_000);
  });

  it('that is repeated draws no second time, so that the spread of a fleet does not collapse', () => {
    const first = answer(ISSUER_B, window, planned, 0.9);
    assert.equal(answer(ISSUER_B, window, first, 0), first);
  });

  it('never moves a renewal to a later instant', () => {
    const late = { notBeforeMs: NOW.wallMs + 0.8 * HOUR_MS, notAfterMs: NOW.wallMs + 0.9 * HOUR_MS };
    assert.deepEqual(answer(ISSUER_B, late).at, planned.at);
  });

  it('that names no issuer counts for every SVID', () => {
    assert.equal(answer(new Uint8Array(0)).reason, 'request');
  });
});
