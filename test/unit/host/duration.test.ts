import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { formatDuration, MAX_DURATION_MS, parseDurationMs } from '../../../host/duration.ts';
import { isKedgeError } from '../../../pki/kedge-error.ts';
import { checkProperty } from '../../support/property.ts';

describe('durations', () => {
  for (const [text, want] of [
    ['0s', 0],
    ['250ms', 250],
    ['90s', 90_000],
    ['15m', 900_000],
    ['24h', 86_400_000],
    ['30d', 2_592_000_000],
    ['36500d', MAX_DURATION_MS],
  ] as const) {
    it(`${text} is ${want} ms`, () => assert.equal(parseDurationMs(text), want));
  }

  for (const text of [
    '',
    '5',
    's',
    '-5s',
    '+5s',
    '1.5h',
    '1h30m',
    ' 5s',
    '5s ',
    '5 s',
    '5S',
    '1w',
    '1e3s',
    '0x5s',
    '36501d',
    '9'.repeat(15) + 'd',
    '9'.repeat(40) + 's',
    '５s',
  ]) {
    it(`${JSON.stringify(text)} is refused, and the hint says how to write one`, () => {
      assert.throws(
        () => parseDurationMs(text),
        (error) => isKedgeError(error, 'config_invalid') && /as in 90s or 24h/.test(error.hint ?? ''),
      );
    });
  }

  it('are written so that they read back (property)', () => {
    checkProperty(
      fc.property(fc.integer({ min: 0, max: MAX_DURATION_MS }), (ms) => {
        assert.equal(parseDurationMs(formatDuration(ms)), ms);
      }),
      2000,
    );
    assert.equal(formatDuration(86_400_000), '1d');
    assert.equal(formatDuration(90_000), '90s');
    assert.equal(formatDuration(0), '0ms');
  });
});
