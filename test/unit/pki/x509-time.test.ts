import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseTimeText, TIME_FROM_MS, TIME_LIMIT_MS, writeTimeText } from '../../../pki/x509-time.ts';
import { checkProperty } from '../../support/property.ts';

const parse = (text: string, kind: 'utc' | 'generalized'): number => {
  const bytes = Buffer.from(`..${text}..`, 'latin1');
  return parseTimeText(bytes, 2, bytes.length - 2, kind);
};
const write = (ms: number): string => {
  const target = new Uint8Array(15);
  return Buffer.from(target.subarray(0, writeTimeText(target, 0, ms))).toString('latin1');
};

describe('a time in X.509', () => {
  const read = [
    { kind: 'utc', text: '260102030405Z', ms: Date.UTC(2026, 0, 2, 3, 4, 5) },
    { kind: 'utc', text: '491231235959Z', ms: Date.UTC(2049, 11, 31, 23, 59, 59) },
    { kind: 'utc', text: '500101000000Z', ms: Date.UTC(1950, 0, 1) },
    { kind: 'utc', text: '991231235959Z', ms: Date.UTC(1999, 11, 31, 23, 59, 59) },
    { kind: 'utc', text: '240229000000Z', ms: Date.UTC(2024, 1, 29) },
    { kind: 'utc', text: '000229000000Z', ms: Date.UTC(2000, 1, 29) },
    { kind: 'generalized', text: '20500101000000Z', ms: Date.UTC(2050, 0, 1) },
    { kind: 'generalized', text: '99991231235959Z', ms: Date.UTC(9999, 11, 31, 23, 59, 59) },
    { kind: 'generalized', text: '20260101000000Z', ms: Date.UTC(2026, 0, 1) },
    { kind: 'generalized', text: '19500101000000Z', ms: Date.UTC(1950, 0, 1) },
  ] as const;
  for (const { kind, text, ms } of read)
    it(`is read from ${text}`, () => assert.equal(parse(text, kind), ms));

  const refused = [
    { kind: 'utc', text: '2601020304Z', why: 'no seconds' },
    { kind: 'utc', text: '260102030405', why: 'no Z' },
    { kind: 'utc', text: '260102030405+', why: 'an offset in place of Z' },
    { kind: 'utc', text: '260102030405+0000', why: 'an offset' },
    { kind: 'utc', text: '20260102030405Z', why: 'a long year in UTCTime' },
    { kind: 'utc', text: '260002030405Z', why: 'month 0' },
    { kind: 'utc', text: '261302030405Z', why: 'month 13' },
    { kind: 'utc', text: '260100030405Z', why: 'day 0' },
    { kind: 'utc', text: '260132030405Z', why: '32 January' },
    { kind: 'utc', text: '260431030405Z', why: '31 April' },
    { kind: 'utc', text: '250229000000Z', why: '29 February of a common year' },
    { kind: 'generalized', text: '21000229000000Z', why: '29 February of a century' },
    { kind: 'utc', text: '260102240000Z', why: 'hour 24' },
    { kind: 'utc', text: '260102036000Z', why: 'minute 60' },
    { kind: 'utc', text: '260102030460Z', why: 'a leap second' },
    { kind: 'utc', text: '26010203040 Z', why: 'a space for a digit' },
    { kind: 'utc', text: '2601020304:5Z', why: 'a sign for a digit' },
    { kind: 'utc', text: '/60102030405Z', why: 'a sign below the digits' },
    { kind: 'utc', text: '', why: 'nothing' },
    { kind: 'generalized', text: '260102030405Z', why: 'a short year in GeneralizedTime' },
    { kind: 'generalized', text: '20260102030405.5Z', why: 'a fraction' },
    { kind: 'generalized', text: '19491231235959Z', why: 'a year before 1950' },
    { kind: 'generalized', text: '00000101000000Z', why: 'year 0' },
    { kind: 'generalized', text: 'x0260102030405Z', why: 'a letter in the year' },
  ] as const;
  for (const { kind, text, why } of refused)
    it(`is refused with ${why}`, () => assert.ok(Number.isNaN(parse(text, kind))));

  it('is written as UTCTime through 2049 and as GeneralizedTime after', () => {
    assert.equal(write(Date.UTC(2049, 11, 31, 23, 59, 59, 999)), '491231235959Z');
    assert.equal(write(Date.UTC(2050, 0, 1)), '20500101000000Z');
    assert.equal(write(TIME_FROM_MS), '500101000000Z');
    assert.equal(write(TIME_LIMIT_MS - 1), '99991231235959Z');
  });

  it('comes back from its own text, cut to the second', () => {
    checkProperty(
      fc.property(fc.integer({ min: TIME_FROM_MS, max: TIME_LIMIT_MS - 1 }), (ms) => {
        const text = write(ms);
        assert.equal(parse(text, text.length === 13 ? 'utc' : 'generalized'), Math.floor(ms / 1000) * 1000);
      }),
      1000,
    );
  });
});
