import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parsePolicy } from '../../../../ca/issue/policy-file.ts';
import type { PolicyDecision } from '../../../../ca/issue/policy.ts';
import { checkedWish, type SvidWish, withWish } from '../../../../ca/issue/svid-wish.ts';
import { expectCode } from '../../../support/expect-code.ts';

const HOUR_MS = 3_600_000;
const subject = { namespace: 'shop', serviceAccount: 'web' };
const decisionOf = (yaml: string): PolicyDecision =>
  parsePolicy(yaml, 'policy.yaml', { maxTtlMs: 720 * HOUR_MS, backdateMs: 120_000 }).decide(subject);
const POLICY = decisionOf(
  'rules: [{ match: { namespace: shop }, ttl: 12h, minTtl: 1h, dnsNames: ["{serviceAccount}.{namespace}.svc"], allowedDnsNames: ["{serviceAccount}.example.org", "shop.example.org"] }]',
);
const grantOf = (wish: SvidWish | undefined, policy = POLICY) => {
  const decision = withWish(policy, wish);
  assert.ok(decision.kind === 'granted');
  return decision.grant;
};

describe('what a workload asks of its SVID', () => {
  for (const [name, ttlMs, wantHours] of [
    ['a shorter life than the policy grants', 2 * HOUR_MS, 2],
    ['a longer one, which is cut', 24 * HOUR_MS, 12],
    ['a shorter one than it may ask for, which is raised', 1_000, 1],
    ['no lifetime', null, 12],
  ] as const) {
    it(`may be ${name}`, () => {
      assert.equal(grantOf({ ttlMs, dnsNames: [] }).ttlMs, wantHours * HOUR_MS);
    });
  }

  it('adds DNS names that its policy allows to those that it gives', () => {
    const { dnsNames } = grantOf({ ttlMs: null, dnsNames: ['shop.example.org', 'web.shop.svc'] });
    assert.deepEqual(dnsNames, ['web.shop.svc', 'shop.example.org']);
  });

  it('may not be a DNS name of another identity, nor any where the policy allows none', () => {
    const asks = (name: string): SvidWish => ({ ttlMs: null, dnsNames: ['shop.example.org', name] });
    const error = expectCode('dns_name_denied', () => grantOf(asks('cart.example.org')));
    assert.match(error.message, /"cart\.example\.org"/);
    assert.match(error.hint ?? '', /web\.example\.org, shop\.example\.org/);
    const none = decisionOf('rules: [{ match: {}, dnsNames: ["{serviceAccount}.{namespace}.svc"] }]');
    assert.match(
      expectCode('dns_name_denied', () => grantOf(asks('web.shop.svc'), none)).hint ?? '',
      /may ask for none/,
    );
    assert.deepEqual(grantOf({ ttlMs: null, dnsNames: ['web.shop.svc'] }, none).dnsNames, ['web.shop.svc']);
  });

  it('is bounded by ten minutes and by the lifetime where the policy says nothing', () => {
    assert.equal(grantOf({ ttlMs: 1_000, dnsNames: [] }, decisionOf('{}')).ttlMs, 600_000);
    assert.equal(grantOf({ ttlMs: 1_000, dnsNames: [] }, decisionOf('defaults: { ttl: 5m }')).ttlMs, 300_000);
  });

  it('changes nothing of a denial, and the policy itself is left as it is', () => {
    const denied = decisionOf('deny: [{ namespace: shop, reason: closed }]');
    assert.equal(withWish(denied, { ttlMs: 1, dnsNames: ['a.b'] }), denied);
    assert.equal(withWish(POLICY, undefined), POLICY);
    assert.equal(grantOf(undefined).ttlMs, 12 * HOUR_MS);
  });

  it('is nothing where nothing is asked for', () => {
    assert.equal(checkedWish(0, []), undefined);
    assert.deepEqual(checkedWish(60, []), { ttlMs: 60_000, dnsNames: [] });
    assert.deepEqual(checkedWish(0, ['a.b']), { ttlMs: null, dnsNames: ['a.b'] });
  });

  for (const [name, dnsNames] of [
    ['a wildcard', ['*.example.org']],
    ['upper case', ['Web.example.org']],
    ['an address', ['10.0.0.1']],
    ['an empty name', ['']],
    ['a name with a line break', ['a\n.b']],
    ['seventeen names', Array.from({ length: 17 }, (_, i) => `n${i}.example.org`)],
  ] as const) {
    it(`may not be ${name}`, () => {
      expectCode('dns_name_denied', () => checkedWish(0, dnsNames));
    });
  }
});
