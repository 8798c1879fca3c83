import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { compileNamePattern } from '../../../../ca/issue/name-pattern.ts';
import { checkProperty } from '../../../support/property.ts';

describe('name patterns of the policy', () => {
  const cases: readonly { pattern: string; matches: readonly string[]; others: readonly string[] }[] = [
    { pattern: 'web', matches: ['web'], others: ['we', 'webs', 'aweb', ''] },
    { pattern: '*', matches: ['', 'a', 'a.b-c'], others: [] },
    { pattern: 'pay-*', matches: ['pay-', 'pay-eu'], others: ['pay', 'xpay-eu'] },
    { pattern: '*-pay', matches: ['-pay', 'eu-pay'], others: ['pay', 'eu-pays'] },
    { pattern: 'a*a', matches: ['aa', 'aba', 'aaa'], others: ['a', 'ab', 'ba'] },
    { pattern: 'a*b*c', matches: ['abc', 'axbxc', 'abbcc', 'abcabc'], others: ['ac', 'acb', 'abcx'] },
    { pattern: 'a**b', matches: ['ab', 'axb'], others: ['a', 'b'] },
    { pattern: '*ab*ab*', matches: ['abab', 'xabxabx'], others: ['ab', 'aab', 'abxa'] },
  ];
  for (const { pattern, matches, others } of cases) {
    it(`${pattern} matches ${matches.join(', ')} and not ${others.join(', ') || 'less'}`, () => {
      const compiled = compileNamePattern(pattern);
      assert.ok(compiled !== null);
      for (const name of matches) assert.equal(compiled(name), true, name);
      for (const name of others) assert.equal(compiled(name), false, name);
    });
  }

  it('are refused where no name could ever match', () => {
    for (const pattern of ['', 'Web', 'a b', 'a_b', 'a?', '[ab]', 'ü', 'a/b', 'x'.repeat(254)]) {
      assert.equal(compileNamePattern(pattern), null, pattern);
    }
  });

  it('match what the same pattern matches as a regular expression (property)', () => {
    const letters = fc.string({
      unit: fc.constantFrom('a', 'b', '.', '-', '*'),
      minLength: 1,
      maxLength: 10,
    });
    const name = fc.string({ unit: fc.constantFrom('a', 'b', '.', '-'), maxLength: 12 });
    checkProperty(
      fc.property(letters, name, (pattern, text) => {
        const expression = new RegExp(`^${pattern.replaceAll('.', '\\.').replace(/\*+/g, '.*')}$`);
        assert.equal(compileNamePattern(pattern)?.(text), expression.test(text));
      }),
      3000,
    );
  });
});
