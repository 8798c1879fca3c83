import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { jsonDocument } from '../../../cli/json-document.ts';

describe('jsonDocument', () => {
  it('prints bytes as lower-case hex, of every kind of array', () => {
    assert.equal(jsonDocument({ a: Uint8Array.of(0xab, 1), b: Buffer.of(0xcd) }), '{"a":"ab01","b":"cd"}\n');
  });

  it('prints integers as numbers where a reader of JSON can hold them, else as text', () => {
    assert.equal(jsonDocument({ a: 5n, b: 2n ** 63n }), '{"a":5,"b":"9223372036854775808"}\n');
  });

  it('leaves data alone that looks like a Buffer but is none', () => {
    assert.equal(jsonDocument({ type: 'Buffer', data: 'x' }), '{"type":"Buffer","data":"x"}\n');
  });
});
