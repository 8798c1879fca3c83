import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isDnsName } from '../../../pki/dns-name.ts';

describe('a DNS name for an SVID', () => {
  const good = [
    'localhost',
    'a',
    'web.default.svc.cluster.local',
    'xn--bcher-kva.example',
    '1.example',
    'a-b.c',
    `${'x'.repeat(63)}.example`,
    'a.'.repeat(126) + 'b',
  ];
  for (const name of good) it(`may be ${name.slice(0, 40)}`, () => assert.ok(isDnsName(name)));

  const bad = [
    '',
    '.',
    'a.',
    '.a',
    'a..b',
    '-a',
    'a-',
    'A',
    'a_b',
    '*.example',
    'a b',
    'a\n',
    'ä.example',
    '10.0.0.1',
    'example.1',
    'a/b',
    `${'x'.repeat(64)}.example`,
    'a.'.repeat(126) + 'bc',
  ];
  for (const name of bad)
    it(`may not be ${JSON.stringify(name.slice(0, 40))}`, () => assert.ok(!isDnsName(name)));
});
