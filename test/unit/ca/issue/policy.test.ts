import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { parsePolicy } from '../../../../ca/issue/policy-file.ts';
import { DEFAULT_TTL_MS, fallbackTerms, SVID_KEY_TYPES } from '../../../../ca/issue/policy-defaults.ts';
import { type Grant, Policy, type PolicyDecision } from '../../../../ca/issue/policy.ts';
import { isKedgeError } from '../../../../pki/kedge-error.ts';
import { checkProperty } from '../../../support/property.ts';

const BOUNDS = { maxTtlMs: 30 * 86_400_000, backdateMs: 120_000 };

const POLICY = `
defaults:
  ttl: 12h
  keyTypes: [ec-p256, ed25519]
rules:
  - match: {namespace: pay, serviceAccount: "batch-*"}
    ttl: 15m
    dnsNames: ["{serviceAccount}.{namespace}.svc", "{serviceAccount}.{namespace}.svc", "pay.example.org"]
  - match: {namespace: "pay*"}
    keyTypes: [ec-p384]
  - match: {}
    dnsNames: ["{serviceAccount}.{namespace}.svc"]
deny:
  - {namespace: pay, serviceAccount: batch-old, reason: retired in March}
  - {namespace: "legacy-*", reason: moved}
`;

function parse(text: string): Policy {
  return parsePolicy(text, 'policy.yaml', BOUNDS);
}

function grantOf(decision: PolicyDecision): Grant {
  assert.equal(decision.kind, 'granted');
  return decision.kind === 'granted' ? decision.grant : assert.fail();
}

function refusalOf(text: string): string {
  let message = '';
  assert.throws(
    () => parse(text),
    (error) => {
      assert.ok(isKedgeError(error, 'config_invalid'), String(error));
      message = error.message;
      return true;
    },
    text.slice(0, 200),
  );
  return message;
}

describe('the policy', () => {
  it('gives what the first matching rule says, and the defaults for what it does not say', () => {
    const policy = parse(POLICY);
    assert.deepEqual(grantOf(policy.decide({ namespace: 'pay', serviceAccount: 'batch-1' })), {
      ttlMs: 900_000,
      keyTypes: new Set(['ec-p256', 'ed25519']),
      dnsNames: ['batch-1.pay.svc', 'pay.example.org'],
    });
    assert.deepEqual(grantOf(policy.decide({ namespace: 'pay', serviceAccount: 'web' })), {
      ttlMs: 43_200_000,
      keyTypes: new Set(['ec-p384']),
      dnsNames: [],
    });
    assert.deepEqual(grantOf(policy.decide({ namespace: 'shop', serviceAccount: 'web' })).dnsNames, [
      'web.shop.svc',
    ]);
  });

  it('denies before it looks at the rules, and says why', () => {
    const policy = parse(POLICY);
    assert.deepEqual(policy.decide({ namespace: 'pay', serviceAccount: 'batch-old' }), {
      kind: 'denied',
      reason: 'retired in March',
    });
    assert.equal(policy.decide({ namespace: 'legacy-eu', serviceAccount: 'any' }).kind, 'denied');
  });

  it('grants everyone every key type for 24 hours, and no DNS name, when it is empty', () => {
    for (const text of ['', '# nothing\n', '{}', 'rules: []\n']) {
      assert.deepEqual(grantOf(parse(text).decide({ namespace: 'a', serviceAccount: 'b' })), {
        ttlMs: DEFAULT_TTL_MS,
        keyTypes: new Set(SVID_KEY_TYPES),
        dnsNames: [],
      });
    }
    assert.equal(fallbackTerms({ maxTtlMs: 5_000, backdateMs: 0 }).ttlMs, 5_000, 'never over the issuer');
  });

  it('refuses a DNS name that is none for this workload', () => {
    const policy = parse('defaults: {dnsNames: ["{serviceAccount}.svc"]}');
    assert.throws(
      () => policy.decide({ namespace: 'n', serviceAccount: 'a'.repeat(64) }),
      (error) => isKedgeError(error, 'dns_name_template_mismatch'),
    );
    assert.equal(policy.decide({ namespace: 'n', serviceAccount: 'a.b' }).kind, 'granted');
  });

  it('answers the same whether it remembers or not (property)', () => {
    const policy = parse(POLICY);
    const name = fc.constantFrom('pay', 'pay-eu', 'legacy-eu', 'shop', 'batch-1', 'batch-old', 'web');
    checkProperty(
      fc.property(name, name, (namespace, serviceAccount) => {
        const fresh = parse(POLICY).decide({ namespace, serviceAccount });
        assert.deepEqual(policy.decide({ namespace, serviceAccount }), fresh);
        assert.deepEqual(policy.decide({ namespace, serviceAccount }), fresh);
      }),
      50,
    );
  });

  it('forgets the oldest decisions rather than grow', () => {
    let asked = 0;
    const pattern = { namespace: () => true, serviceAccount: () => ((asked += 1), false) };
    const defaults = fallbackTerms(BOUNDS);
    const policy = new Policy({ defaults, rules: [{ ...pattern, terms: defaults }], deny: [] });
    for (let n = 0; n < 20_000; n += 1) policy.decide({ namespace: 'n', serviceAccount: `s${n}` });
    assert.equal(asked, 20_000);
    policy.decide({ namespace: 'n', serviceAccount: 's19999' });
    assert.equal(asked, 20_000, 'the newest is remembered');
    policy.decide({ namespace: 'n', serviceAccount: 's0' });
    assert.equal(asked, 20_001, 'the oldest is not');
  });

  const refusals: readonly { name: string; text: string; want: RegExp }[] = [
    { name: 'a broken document', text: 'rules: [', want: /^policy\.yaml:1:\d+: / },
    { name: 'two documents', text: 'rules: []\n---\nrules: []\n', want: /policy\.yaml:2:1: .*documents/ },
    { name: 'a list at the top', text: '- 1\n', want: /^policy\.yaml:1:1: a list is not a mapping$/ },
    { name: 'a duplicate key', text: 'rules: []\nrules: []\n', want: /policy\.yaml:2:1: .*unique/ },
    {
      name: 'an unknown key',
      text: 'rules:\n  - match: {}\n    tll: 1h\n',
      want: /^policy\.yaml:2:5: rules\[0\]: unknown key "tll"; allowed: match, ttl, keyTypes, minTtl, dnsNames, allowedDnsNames$/,
    },
    { name: '__proto__', text: '__proto__: {rules: []}\n', want: /unknown key "__proto__"/ },
    { name: 'an alias', text: 'defaults: &a {ttl: 1h}\nrules: [{match: {}, ttl: *a}]\n', want: /aliases/ },
    { name: 'a tag', text: 'defaults: {ttl: !!js/function x}\n', want: /policy\.yaml:1:17: Unresolved tag/ },
    { name: 'a merge key', text: 'defaults: {<<: {ttl: 1h}}\n', want: /unknown key "<<"/ },
    {
      name: 'deep nesting',
      text: `rules: ${'['.repeat(20_000)}`,
      want: /^policy\.yaml/,
    },
    {
      name: 'a number for a duration',
      text: 'defaults:\n  ttl: 3600\n',
      want: /^policy\.yaml:2:8: defaults\.ttl: .*whole number and one unit/,
    },
    {
      name: 'a duration in no unit of ours',
      text: 'defaults:\n  ttl: 1w\n',
      want: /^policy\.yaml:2:8: defaults\.ttl: "1w" is not a duration; .*as in 90s or 24h$/,
    },
    { name: 'a TTL of zero', text: 'defaults: {ttl: 0s}', want: /TTL "0s" is not a whole number of seconds/ },
    {
      name: 'a TTL of half a second',
      text: 'defaults: {ttl: 1500ms}',
      want: /"1500ms" is not a whole number/,
    },
    {
      name: 'a TTL over what the CA issues',
      text: 'rules: [{match: {}, ttl: 31d}]',
      want: /rules\[0\]\.ttl: the TTL "31d" is over what this CA issues at most, 30d$/,
    },
    {
      name: 'a TTL below the backdate',
      text: 'rules: [{match: {}, ttl: 60s}]',
      want: /the TTL "60s" is below the backdate, 2m$/,
    },
    {
      name: 'an unknown key type',
      text: 'defaults: {keyTypes: [ec-p256, rsa-1024]}',
      want: /defaults\.keyTypes\[1\]: "rsa-1024" is not one of ec-p256, ec-p384, ed25519, rsa-2048/,
    },
    { name: 'no key type', text: 'defaults: {keyTypes: []}', want: /defaults\.keyTypes: / },
    {
      name: 'a pattern that no name matches',
      text: 'rules: [{match: {namespace: Pay}}]',
      want: /rules\[0\]\.match\.namespace: "Pay" can match no name/,
    },
    {
      name: 'a DNS name that is none',
      text: 'defaults: {dnsNames: ["*.svc"]}',
      want: /defaults\.dnsNames\[0\]: "\*\.svc" is not a DNS name template/,
    },
    {
      name: 'an unknown placeholder',
      text: 'defaults: {dnsNames: ["{pod}.svc"]}',
      want: /"\{pod\}\.svc" is not .*allowed placeholders: \{namespace\}, \{serviceAccount\}$/,
    },
    { name: 'a rule without match', text: 'rules: [{ttl: 1h}]', want: /rules\[0\]\.match: missing$/ },
    {
      name: 'a denial of everyone that does not say so',
      text: 'deny: [{reason: oops}]',
      want: /deny\[0\]: names neither namespace nor serviceAccount/,
    },
    {
      name: 'a denial without a reason',
      text: 'deny: [{namespace: a}]',
      want: /deny\[0\]\.reason: missing$/,
    },
    {
      name: 'too many DNS names',
      text: `defaults: {dnsNames: [${Array.from({ length: 17 }, (_, n) => `d${n}.svc`).join(', ')}]}`,
      want: /defaults\.dnsNames: /,
    },
    { name: 'a file of over 1 MiB', text: `# ${'x'.repeat(1024 * 1024)}`, want: /is over 1048576 bytes$/ },
  ];
  for (const { name, text, want } of refusals) {
    it(`is refused with ${name}`, () => assert.match(refusalOf(text), want));
  }

  it('lists several problems, each with its place', () => {
    const message = refusalOf('defaults: {ttl: 1w, keyTypes: [x]}\nrules: 5\nfoo: 1\n');
    assert.match(
      message,
      /:1:17: .*; policy\.yaml:1:32: .*; policy\.yaml:2:8: rules: 5 is not a list; .*"foo"/,
    );
  });

  it('is read or refused as config_invalid, whatever the text (property)', () => {
    const bits = fc.constantFrom(
      'rules',
      'deny',
      'defaults',
      'match',
      'ttl',
      ': ',
      '- ',
      '\n',
      '  ',
      '{',
      '}',
      '[',
      ']',
      '"',
      '1h',
      '*',
      '&a',
      '!!',
      '%',
      '---',
      '\u0000',
      '?',
      '|',
      '>',
      '#',
      ',',
    );
    checkProperty(
      fc.property(fc.array(bits, { maxLength: 40 }), (parts) => {
        try {
          parse(parts.join(''));
        } catch (error) {
          assert.ok(isKedgeError(error, 'config_invalid'), String(error));
        }
      }),
      1500,
    );
  });
});
