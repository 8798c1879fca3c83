import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { isKedgeError } from '../../../pki/kedge-error.ts';
import { type JsonValue, parseStrictJson } from '../../../pki/strict-json.ts';
import { checkProperty } from '../../support/property.ts';

const OPTIONS = { maxDepth: 4, code: 'bundle_malformed' } as const;

function parse(text: string | Uint8Array): JsonValue {
  return parseStrictJson(typeof text === 'string' ? new TextEncoder().encode(text) : text, OPTIONS);
}

/** What `JSON.parse` would give. */
function plain(value: JsonValue): unknown {
  if (value instanceof Map) return Object.fromEntries([...value].map(([name, item]) => [name, plain(item)]));
  if (Array.isArray(value)) return value.map(plain);
  return typeof value === 'object' && value !== null ? Number((value as { source: string }).source) : value;
}

describe('strict JSON', () => {
  const GOOD: readonly { text: string; want: unknown }[] = [
    { text: '{}', want: {} },
    { text: ' [ ] ', want: [] },
    {
      text: '\t{ "a" : [ 1 , -2.5e+3, true, false, null, "x" ] , "b":{}}\r\n',
      want: { a: [1, -2500, true, false, null, 'x'], b: {} },
    },
    { text: String.raw`"\u00e4\n\"\\\/\ud83d\ude00"`, want: 'ä\n"\\/😀' },
    { text: '"ä😀"', want: 'ä😀' },
    { text: '0', want: 0 },
    { text: '-0.0', want: -0 },
    { text: '[[[1]]]', want: [[[1]]] },
  ];
  for (const { text, want } of GOOD)
    it(`reads ${JSON.stringify(text)}`, () => assert.deepEqual(plain(parse(text)), want));

  it('keeps a number as it was written', () =>
    assert.deepEqual(parse('18446744073709551615'), { source: '18446744073709551615' }));

  it('takes __proto__ and constructor for names like any other', () => {
    const value = parse('{"__proto__":{"admin":true},"constructor":1}');
    assert.ok(value instanceof Map);
    assert.deepEqual([...value.keys()], ['__proto__', 'constructor']);
    assert.equal(({} as Record<string, unknown>)['admin'], undefined);
  });

  const BAD: readonly { name: string; text: string | Uint8Array; message: RegExp }[] = [
    { name: 'nothing', text: '', message: /a JSON value is expected at character 0/ },
    { name: 'a second value', text: '{} {}', message: /something follows the JSON value at character 3/ },
    { name: 'a duplicate name', text: '{"a":1,"a":1}', message: /the name "a" stands twice/ },
    {
      name: 'a duplicate name in an escape',
      text: String.raw`{"a":1,"\u0061":1}`,
      message: /the name "a" stands twice/,
    },
    { name: 'a comma at the end', text: '[1,]', message: /a JSON value is expected/ },
    { name: 'a comma at the end of an object', text: '{"a":1,}', message: /"\\"" is expected/ },
    { name: 'no colon', text: '{"a" 1}', message: /":" is expected/ },
    { name: 'a name without quotes', text: '{a:1}', message: /"\\"" is expected/ },
    { name: 'an array that is not closed', text: '[1', message: /"]" is expected/ },
    { name: 'an object that is not closed', text: '{"a":1', message: /"}" is expected/ },
    { name: 'a string that is not closed', text: '"abc', message: /"\\"" is expected/ },
    { name: 'a string that ends in a backslash', text: '"abc\\', message: /"\\"" is expected/ },
    { name: 'a raw line feed in a string', text: '"a\nb"', message: /control character/ },
    { name: 'a bad escape', text: String.raw`"\x41"`, message: /bad escape/ },
    { name: 'an unpaired surrogate', text: String.raw`"\ud83d"`, message: /unpaired surrogate/ },
    { name: 'single quotes', text: "'a'", message: /a JSON value is expected/ },
    { name: 'a leading zero', text: '01', message: /something follows/ },
    { name: 'a plus sign', text: '+1', message: /a JSON value is expected/ },
    { name: 'NaN', text: 'NaN', message: /a JSON value is expected/ },
    { name: 'a comment', text: '{} // x', message: /something follows/ },
    { name: 'a byte order mark', text: '\ufeff{}', message: /a JSON value is expected/ },
    { name: 'bytes that are not UTF-8', text: Uint8Array.of(0x22, 0xff, 0x22), message: /not UTF-8/ },
    { name: 'UTF-16', text: Buffer.from('{}', 'utf16le'), message: /JSON|expected/ },
    { name: 'too many levels', text: '[[[[1]]]]', message: /nested too deep/ },
    { name: 'far too many levels', text: '['.repeat(100_000), message: /nested too deep/ },
    { name: 'a long string that is not closed', text: `"${'a'.repeat(1_000_000)}`, message: /is expected/ },
  ];
  for (const { name, text, message } of BAD) {
    it(`refuses ${name}`, () =>
      assert.throws(
        () => parse(text),
        (error) => isKedgeError(error, 'bundle_malformed') && message.test(error.message),
      ));
  }

  it('reads what JSON.stringify writes', () => {
    checkProperty(
      fc.property(fc.json({ maxDepth: 2 }), (text) => {
        const want: unknown = JSON.parse(text);
        if (text.includes('__proto__') || text.includes('\\ud')) return;
        assert.deepEqual(plain(parse(text)), want);
      }),
    );
  });

  it('never accepts what JSON.parse refuses', () => {
    const fragment = fc.constantFrom(
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      '"a"',
      '"b"',
      '1',
      '-',
      '.5',
      'e3',
      'null',
      'true',
      ' ',
      '"',
      '\\',
    );
    checkProperty(
      fc.property(fc.array(fragment, { maxLength: 8 }), (fragments) => {
        const text = fragments.join('');
        try {
          parse(text);
        } catch (error) {
          assert.ok(isKedgeError(error, 'bundle_malformed'));
          return;
        }
        assert.doesNotThrow(() => JSON.parse(text) as unknown);
      }),
      1000,
    );
  });
});
