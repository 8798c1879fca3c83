import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  distanceText,
  printable,
  spanText,
  textFields,
  textTable,
  timeText,
} from '../../../cli/text-table.ts';

describe('textTable', () => {
  it('aligns the columns and leaves no blanks at the end of a line', () => {
    assert.deepEqual(
      textTable(
        ['id', 'phase'],
        [
          ['abcdef', 'active'],
          ['x', ''],
        ],
      ),
      ['id      phase', 'abcdef  active', 'x'],
    );
  });
});

describe('textFields', () => {
  it('aligns the values', () => {
    assert.deepEqual(
      textFields([
        ['a', '1'],
        ['long', '2'],
      ]),
      ['a     1', 'long  2'],
    );
  });
});

describe('printable', () => {
  it('makes characters visible that a terminal would obey', () => {
    assert.equal(printable('a\u001b[31m\u0000\u009b\u202e\nb'), 'a\\u001b[31m\\u0000\\u009b\\u202e\\u000ab');
    assert.equal(printable('plain, äöü'), 'plain, äöü');
  });
});

describe('timeText', () => {
  it('is UTC to the second, and survives a time that no calendar has', () => {
    assert.equal(timeText(Date.UTC(2026, 0, 31, 12, 0, 1, 999)), '2026-01-31T12:00:01Z');
    assert.equal(timeText(Number.MAX_SAFE_INTEGER), 'an impossible time');
    assert.equal(timeText(Number.NaN), 'an impossible time');
  });
});

describe('spanText', () => {
  const rows = [
    { ms: 0, want: '0s' },
    { ms: -5, want: '0s' },
    { ms: 999, want: '0s' },
    { ms: 59_000, want: '59s' },
    { ms: 65_000, want: '1m 5s' },
    { ms: 3_600_000, want: '1h' },
    { ms: 3_605_000, want: '1h' },
    { ms: 90_000_000, want: '1d 1h' },
  ];
  for (const { ms, want } of rows) it(`shows ${ms} ms as ${want}`, () => assert.equal(spanText(ms), want));
});

describe('distanceText', () => {
  it('looks both ways', () => {
    assert.equal(distanceText(10_000, 4_000), 'in 6s');
    assert.equal(distanceText(4_000, 10_000), '6s ago');
  });
});
