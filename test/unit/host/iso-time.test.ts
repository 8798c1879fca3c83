import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { isoTime } from '../../../host/iso-time.ts';
import { checkProperty } from '../../support/property.ts';

const MAX_MS = 8.64e15;

describe('isoTime', () => {
  it('writes a time as Date does, in any year', () => {
    const times = fc.oneof(
      fc.integer({ min: -MAX_MS, max: MAX_MS }),
      fc.integer({ min: 0, max: 260_000_000_000_000 }),
      fc.double({ min: 0, max: 3e12, noNaN: true }),
    );
    checkProperty(fc.property(times, (ms) => assert.equal(isoTime(ms), new Date(ms).toISOString())));
  });

  for (const ms of [0, 999, 253_402_300_799_999, 253_402_300_800_000, -1, -62_167_219_200_001]) {
    it(`writes ${ms} ms`, () => assert.equal(isoTime(ms), new Date(ms).toISOString()));
  }

  for (const ms of [Number.NaN, Number.POSITIVE_INFINITY, MAX_MS + 1]) {
    it(`refuses ${ms}`, () => assert.throws(() => isoTime(ms), RangeError));
  }
});
