import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  addsAuthorities,
  forgetsVerification,
  parseHaproxyVersion,
  replacesTrustSafely,
} from '../../../../agent/feed/haproxy-version.ts';

describe('the version of a HAProxy', () => {
  for (const [text, want, safe, forgets, adds] of [
    ['2.6.12-1+deb12u3', [2, 6, 12], false, true, false],
    ['2.7.0', [2, 7, 0], false, true, true],
    ['2.9.15-1', [2, 9, 15], false, true, true],
    ['3.0.0', [3, 0, 0], false, false, true],
    ['3.0.11-9e587df', [3, 0, 11], false, false, true],
    ['3.1.20', [3, 1, 20], false, false, true],
    ['3.2.7-1', [3, 2, 7], false, false, true],
    ['3.2.8-1', [3, 2, 8], true, false, true],
    ['3.2.26-1', [3, 2, 26], true, false, true],
    ['3.3-dev10-c0ffee-12', [3, 3, -1], false, false, true],
    ['3.3.0', [3, 3, 0], true, false, true],
    ['3.4.0-1', [3, 4, 0], true, false, true],
    ['3.5-dev5', [3, 5, -1], true, false, true],
    ['4.0.0', [4, 0, 0], true, false, true],
  ] as const) {
    it(`${text}: ${safe ? 'takes' : 'does not take'} CAs at run time`, () => {
      const version = parseHaproxyVersion(text);
      assert.ok(version !== null);
      assert.deepEqual(version, want);
      assert.equal(replacesTrustSafely(version), safe);
      assert.equal(forgetsVerification(version), forgets);
      assert.equal(addsAuthorities(version), adds);
    });
  }

  for (const text of ['', '3', '3.0', '3.x.1', 'v3.0.1', '3.0.', '3.0.1.2', '3.0.99999', '1234.0.1']) {
    it(`is none: '${text}'`, () => assert.equal(parseHaproxyVersion(text), null));
  }
});
