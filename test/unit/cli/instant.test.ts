import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseInstant } from '../../../cli/instant.ts';

describe('parseInstant', () => {
  const taken = [
    { text: '2026-01-31T12:00:00Z', want: Date.UTC(2026, 0, 31, 12) },
    { text: '2026-01-31T12:00:00.5Z', want: Date.UTC(2026, 0, 31, 12, 0, 0, 500) },
    { text: '2026-01-31T12:00:00+02:00', want: Date.UTC(2026, 0, 31, 10) },
    { text: '2024-02-29T00:00:00Z', want: Date.UTC(2024, 1, 29) },
  ];
  for (const { text, want } of taken) it(`reads ${text}`, () => assert.equal(parseInstant('at', text), want));

  const refused = [
    '',
    'now',
    '2026-01-31',
    '2026-01-31T12:00Z',
    '2026-01-31T12:00:00',
    '2026-02-30T00:00:00Z',
    '2026-13-01T00:00:00Z',
    '2026-01-01T25:00:00Z',
    '1767225600',
    '2026-01-31 12:00:00Z',
  ];
  for (const text of refused) {
    it(`refuses ${JSON.stringify(text)}`, () => {
      assert.throws(() => parseInstant('at', text), { code: 'usage_invalid', hint: /2026-01-31T12:00:00Z/ });
    });
  }
});
