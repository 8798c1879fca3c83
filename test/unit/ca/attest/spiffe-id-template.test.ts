import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import type { WorkloadInstance } from '../../../../ca/attest/attestor.ts';
import { isLabelName, isObjectUid, isSubdomainName } from '../../../../ca/attest/kubernetes-names.ts';
import { DEFAULT_SPIFFE_ID_TEMPLATE, SpiffeIdTemplate } from '../../../../ca/attest/spiffe-id-template.ts';
import { isKedgeError } from '../../../../pki/kedge-error.ts';
import { TrustDomain } from '../../../../pki/spiffe-id.ts';
import { checkProperty } from '../../../support/property.ts';

const TRUST_DOMAIN = TrustDomain.parse('example.org');
const INSTANCE: WorkloadInstance = {
  cluster: 'west',
  namespace: 'pay',
  serviceAccount: 'web.v2',
  podName: 'web-1',
  podUid: 'u-1',
  nodeName: undefined,
  tokenExpiresAtMs: 0,
};

function idOf(template: string, instance: Partial<WorkloadInstance> = {}, allowSharedIds = false): string {
  const parsed = SpiffeIdTemplate.parse(template, { allowSharedIds });
  return parsed.apply({ ...INSTANCE, ...instance }, TRUST_DOMAIN).toString();
}

describe('the SPIFFE ID template', () => {
  const good: readonly [template: string, want: string][] = [
    [DEFAULT_SPIFFE_ID_TEMPLATE, 'spiffe://example.org/ns/pay/sa/web.v2'],
    ['/ns/{namespace}/sa/{serviceAccount}', 'spiffe://example.org/ns/pay/sa/web.v2'],
    ['{cluster}/{namespace}/{serviceAccount}', 'spiffe://example.org/west/pay/web.v2'],
    [
      'c-{cluster}/ns_{namespace}.x/{serviceAccount}/{podName}/{podUid}',
      'spiffe://example.org/c-west/ns_pay.x/web.v2/web-1/u-1',
    ],
    ['kedges/{namespace}/{serviceAccount}', 'spiffe://example.org/kedges/pay/web.v2'],
    ['Kedge/{namespace}/{serviceAccount}', 'spiffe://example.org/Kedge/pay/web.v2'],
    ['ns/{namespace}/kedge/{serviceAccount}', 'spiffe://example.org/ns/pay/kedge/web.v2'],
  ];
  for (const [template, want] of good) {
    it(`${template} gives ${want}`, () => assert.equal(idOf(template), want));
  }

  const bad: readonly { template: string; want: RegExp }[] = [
    { template: '', want: /empty segment/ },
    { template: '/', want: /empty segment/ },
    { template: 'ns//{namespace}/{serviceAccount}', want: /empty segment/ },
    { template: '{namespace}/{serviceAccount}/', want: /empty segment/ },
    { template: './{namespace}/{serviceAccount}', want: /segment "\."/ },
    { template: '{namespace}/../{serviceAccount}', want: /segment "\.\."/ },
    { template: '{namespace}-{serviceAccount}', want: /two placeholders/ },
    { template: '{namespace}{serviceAccount}', want: /two placeholders/ },
    { template: '{namespace}/{serviceaccount}', want: /no placeholder \{serviceaccount\}/ },
    { template: '{namespace}/{serviceAccount}/{nodeName}', want: /no placeholder \{nodeName\}/ },
    { template: '{namespace}/{serviceAccount}/{}', want: /no placeholder \{\}/ },
    { template: '{namespace}/{serviceAccount}/{constructor}', want: /no placeholder/ },
    { template: '{namespace/{serviceAccount}', want: /is not letters/ },
    { template: '{{namespace}}/{serviceAccount}', want: /is not letters/ },
    { template: '{namespace}/{serviceAccount}/a b', want: /is not letters/ },
    { template: '{namespace}/{serviceAccount}/%41', want: /is not letters/ },
    { template: '{namespace}/{serviceAccount}/ü', want: /is not letters/ },
    { template: 'spiffe://example.org/{namespace}/{serviceAccount}', want: /is not letters/ },
    { template: 'kedge/{namespace}/{serviceAccount}', want: /the CA's own/ },
    { template: '/kedge/{namespace}/{serviceAccount}', want: /the CA's own/ },
    { template: 'ns/{namespace}', want: /without \{serviceAccount\} several ServiceAccounts share/ },
    { template: 'mesh', want: /without \{namespace\} and \{serviceAccount\}/ },
    { template: `{namespace}/{serviceAccount}/${'a'.repeat(1024)}`, want: /over 1024/ },
  ];
  for (const { template, want } of bad) {
    it(`${JSON.stringify(template.slice(0, 60))} is refused, and the hint names the placeholders`, () => {
      assert.throws(
        () => SpiffeIdTemplate.parse(template),
        (error) => {
          assert.ok(isKedgeError(error, 'config_invalid'));
          assert.match(error.message, want);
          assert.match(
            error.hint ?? '',
            /\{namespace\}, \{serviceAccount\}, \{podName\}, \{podUid\}, \{cluster\}/,
          );
          return true;
        },
      );
    });
  }

  it('may give several ServiceAccounts one ID when the operator says so', () => {
    assert.equal(idOf('ns/{namespace}', {}, true), 'spiffe://example.org/ns/pay');
    assert.equal(idOf('mesh', {}, true), 'spiffe://example.org/mesh');
  });

  it("never yields the CA's own part, whatever the names", () => {
    for (const [template, instance] of [
      ['{namespace}/{serviceAccount}', { namespace: 'kedge' }],
      ['{cluster}/{namespace}/{serviceAccount}', { cluster: 'kedge' }],
      ['ked{namespace}/{serviceAccount}', { namespace: 'ge' }],
    ] as const) {
      assert.throws(
        () => idOf(template, instance),
        (error) => isKedgeError(error, 'spiffe_id_template_mismatch'),
      );
    }
    assert.throws(() => idOf('{namespace}', { namespace: 'kedge' }, true), /the CA's own/);
  });

  it('refuses an ID that would be too long, or not a SPIFFE ID', () => {
    for (const instance of [
      { podName: 'p'.repeat(2048) },
      { podName: 'a/b' },
      { podName: '..' },
      { podName: '' },
    ]) {
      assert.throws(
        () => idOf('{namespace}/{serviceAccount}/{podName}', instance),
        (error) => isKedgeError(error, 'spiffe_id_template_mismatch'),
      );
    }
  });

  it('never gives two ServiceAccounts one ID (property)', () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b', '-'), minLength: 1, maxLength: 5 });
    const namespace = letters.filter(isLabelName);
    const serviceAccount = fc
      .string({ unit: fc.constantFrom('a', 'b', '-', '.'), minLength: 1, maxLength: 5 })
      .filter(isSubdomainName);
    const literal = fc.constantFrom('', 'a', 'b-', '-a', 'a.b');
    const segment = (name: string): fc.Arbitrary<string> =>
      fc.tuple(literal, literal).map(([before, after]) => `${before}{${name}}${after}`);
    const template = fc
      .tuple(segment('namespace'), segment('serviceAccount'), fc.boolean(), fc.constantFrom('', 'x/', 'a/b/'))
      .map(([ns, sa, swapped, prefix]) => prefix + (swapped ? `${sa}/${ns}` : `${ns}/${sa}`));
    checkProperty(
      fc.property(
        template,
        namespace,
        serviceAccount,
        namespace,
        serviceAccount,
        (text, ns1, sa1, ns2, sa2) => {
          const one = idOf(text, { namespace: ns1, serviceAccount: sa1 });
          const two = idOf(text, { namespace: ns2, serviceAccount: sa2 });
          assert.equal(one === two, ns1 === ns2 && sa1 === sa2);
        },
      ),
      2000,
    );
  });
});

describe('templates of two clusters', () => {
  const CASES: readonly { readonly a: string; readonly b: string; readonly overlap: boolean }[] = [
    { a: 'ns/{namespace}/sa/{serviceAccount}', b: 'ns/{namespace}/sa/{serviceAccount}', overlap: true },
    { a: 'one/{namespace}/{serviceAccount}', b: 'two/{namespace}/{serviceAccount}', overlap: false },
    {
      a: '{cluster}/{namespace}/{serviceAccount}',
      b: '{cluster}/{namespace}/{serviceAccount}',
      overlap: false,
    },
    { a: '{cluster}/{namespace}/{serviceAccount}', b: 'east/{namespace}/{serviceAccount}', overlap: true },
    { a: '{cluster}/{namespace}/{serviceAccount}', b: 'north/{namespace}/{serviceAccount}', overlap: false },
    { a: 'x/{namespace}/{serviceAccount}', b: '{namespace}/{serviceAccount}/x', overlap: true },
    { a: '{namespace}/{serviceAccount}', b: '{namespace}/{serviceAccount}/{podUid}', overlap: false },
    { a: 'a-{namespace}/{serviceAccount}', b: 'b-{namespace}/{serviceAccount}', overlap: false },
    { a: 'a-{namespace}/{serviceAccount}', b: 'a-b-{namespace}/{serviceAccount}', overlap: true },
    { a: '{namespace}-x/{serviceAccount}', b: '{namespace}-y/{serviceAccount}', overlap: false },
    { a: 'ax/{namespace}/{serviceAccount}', b: 'a{namespace}x/{namespace}/{serviceAccount}', overlap: false },
    { a: 'abx/{namespace}/{serviceAccount}', b: 'a{namespace}x/{namespace}/{serviceAccount}', overlap: true },
  ];
  for (const { a, b, overlap } of CASES) {
    it(`${a} and ${b} ${overlap ? 'can' : 'cannot'} yield the same SPIFFE ID`, () => {
      const [one, other] = [SpiffeIdTemplate.parse(a), SpiffeIdTemplate.parse(b)];
      assert.equal(one.mayOverlap('east', other, 'west'), overlap);
      assert.equal(other.mayOverlap('west', one, 'east'), overlap);
    });
  }
});

describe('Kubernetes names', () => {
  const cases: readonly { name: string; label: boolean; subdomain: boolean; uid: boolean }[] = [
    { name: 'web', label: true, subdomain: true, uid: true },
    { name: '0', label: true, subdomain: true, uid: true },
    { name: 'a-b', label: true, subdomain: true, uid: true },
    { name: 'a.b', label: false, subdomain: true, uid: false },
    { name: 'Web', label: false, subdomain: false, uid: true },
    { name: '', label: false, subdomain: false, uid: false },
    { name: '-a', label: false, subdomain: false, uid: false },
    { name: 'a-', label: false, subdomain: false, uid: false },
    { name: 'a..b', label: false, subdomain: false, uid: false },
    { name: '.a', label: false, subdomain: false, uid: false },
    { name: 'a.', label: false, subdomain: false, uid: false },
    { name: 'a_b', label: false, subdomain: false, uid: false },
    { name: 'a/b', label: false, subdomain: false, uid: false },
    { name: 'a\n', label: false, subdomain: false, uid: false },
    { name: 'é', label: false, subdomain: false, uid: false },
    { name: 'a'.repeat(63), label: true, subdomain: true, uid: true },
    { name: 'a'.repeat(64), label: false, subdomain: true, uid: true },
    { name: 'a'.repeat(65), label: false, subdomain: true, uid: false },
    { name: 'a'.repeat(253), label: false, subdomain: true, uid: false },
    { name: 'a'.repeat(254), label: false, subdomain: false, uid: false },
  ];
  for (const { name, label, subdomain, uid } of cases) {
    it(`${JSON.stringify(name.length > 20 ? `${name.length} letters` : name)}: label ${label}, subdomain ${subdomain}, UID ${uid}`, () => {
      assert.deepEqual(
        [isLabelName(name), isSubdomainName(name), isObjectUid(name)],
        [label, subdomain, uid],
      );
    });
  }

  it('are told in linear time', () => {
    for (const name of ['a-'.repeat(100_000), 'a.'.repeat(100_000), '-'.repeat(200_000)]) {
      assert.equal(isLabelName(name) || isSubdomainName(name) || isObjectUid(name), false);
    }
  });
});
