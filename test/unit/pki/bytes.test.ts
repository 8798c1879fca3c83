import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { concatBytes, equalBytes, octetAt, startsWithBytes, toHex, toLatin1 } from '../../../pki/bytes.ts';

const ABC = Uint8Array.of(1, 2, 3);
/** The same bytes, in the middle of a larger buffer. */
const VIEW = Uint8Array.of(9, 1, 2, 3, 9).subarray(1, 4);

describe('bytes', () => {
  it('are equal when length and content are', () => {
    assert.ok(equalBytes(ABC, VIEW));
    assert.ok(equalBytes(new Uint8Array(0), new Uint8Array(0)));
    assert.ok(!equalBytes(ABC, Uint8Array.of(1, 2)));
    assert.ok(!equalBytes(Uint8Array.of(1, 2), ABC));
    assert.ok(!equalBytes(ABC, Uint8Array.of(1, 2, 4)));
    assert.ok(!equalBytes(ABC, Uint8Array.of(0, 2, 3)));
  });

  it('start with a prefix no longer than themselves', () => {
    assert.ok(startsWithBytes(VIEW, Uint8Array.of(1, 2)));
    assert.ok(startsWithBytes(VIEW, VIEW));
    assert.ok(startsWithBytes(VIEW, new Uint8Array(0)));
    assert.ok(!startsWithBytes(VIEW, Uint8Array.of(1, 3)));
    assert.ok(!startsWithBytes(VIEW, Uint8Array.of(1, 2, 3, 9)));
  });

  it('are put one after the other into an array of their own', () => {
    const all = concatBytes(ABC, new Uint8Array(0), VIEW);
    assert.deepEqual(all, Uint8Array.of(1, 2, 3, 1, 2, 3));
    all[0] = 7;
    assert.equal(ABC[0], 1);
    assert.deepEqual(concatBytes(), new Uint8Array(0));
  });

  it('have an octet at each offset, and 0 behind their end', () => {
    assert.equal(octetAt(VIEW, 2), 3);
    assert.equal(octetAt(VIEW, 3), 0);
  });

  it('become text of the view alone', () => {
    assert.equal(toHex(VIEW), '010203');
    assert.equal(toHex(Uint8Array.of(0xab, 0)), 'ab00');
    assert.equal(toLatin1(Uint8Array.of(0x41, 0x00, 0xff)), 'A\u0000\u00ff');
  });
});
