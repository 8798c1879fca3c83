import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { ERROR_TABLE } from '../../../pki/error-table.ts';
import { isKedgeError, KedgeError, quote } from '../../../pki/kedge-error.ts';
import { checkProperty } from '../../support/property.ts';

describe('a KedgeError', () => {
  it('has code, message, hint, cause, retryAfterMs and its row of the table', () => {
    const cause = new Error('beneath');
    const error = new KedgeError('overloaded', 'busy', { hint: 'wait', cause, retryAfterMs: 5 });
    assert.deepEqual(
      [error.name, error.code, error.message, error.hint, error.cause, error.retryAfterMs, error.spec],
      ['KedgeError', 'overloaded', 'busy', 'wait', cause, 5, ERROR_TABLE.overloaded],
    );
  });

  it('has no cause where none was given', () => {
    assert.ok(!Object.hasOwn(new KedgeError('overloaded', 'busy'), 'cause'));
  });

  it('is told from other errors, and by code', () => {
    const error = new KedgeError('overloaded', 'busy');
    assert.ok(isKedgeError(error));
    assert.ok(isKedgeError(error, 'internal', 'overloaded'));
    assert.ok(!isKedgeError(error, 'internal'));
    assert.ok(!isKedgeError(new Error('busy')));
    assert.ok(!isKedgeError({ code: 'overloaded' }));
  });
});

describe('the error table', () => {
  it('has one sentence for each code, lower case, without a full stop', () => {
    for (const [code, { means }] of Object.entries(ERROR_TABLE)) {
      assert.match(code, /^[a-z][a-z0-9_]*$/);
      assert.ok(means.length > 0 && !means.endsWith('.'), code);
      assert.doesNotMatch(means, /^[A-Z][a-z]/, code);
    }
  });
});

describe('quote', () => {
  const rows = [
    { value: 'plain', want: '"plain"' },
    { value: 'a"b\\c', want: '"a\\"b\\\\c"' },
    { value: 'line\nbreak\u001b[0m', want: '"line\\nbreak\\u001b[0m"' },
    { value: '\u007f\u00e9\u202e\u{1f600}', want: '"\\u007f\\u00e9\\u202e\\ud83d\\ude00"' },
    { value: 'x'.repeat(81), want: `"${'x'.repeat(80)}..."` },
  ];
  for (const { value, want } of rows) {
    it(`writes ${want.slice(0, 30)}`, () => {
      assert.equal(quote(value), want);
    });
  }

  it('is bounded, ASCII and printable for every text', () => {
    checkProperty(
      fc.property(fc.string({ unit: 'binary', maxLength: 300 }), (text) => {
        const quoted = quote(text, 50);
        assert.match(quoted, /^"[ -~]*"$/);
        assert.ok(quoted.length <= 50 * 6 + 5);
      }),
    );
  });
});
