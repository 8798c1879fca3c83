import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { dnsNameInSubtree, ipAddressInSubtree, uriInSubtree } from '../../../pki/name-constraints.ts';
import { checkProperty } from '../../support/property.ts';

describe('a URI against a URI constraint', () => {
  const CASES: readonly { uri: string; constraint: string; want: boolean | null }[] = [
    { uri: 'spiffe://example.org', constraint: 'example.org', want: true },
    { uri: 'spiffe://example.org/a/b', constraint: 'example.org', want: true },
    { uri: 'spiffe://example.org/a', constraint: 'EXAMPLE.org', want: true },
    { uri: 'https://Example.ORG:8443/a', constraint: 'example.org', want: true },
    { uri: 'https://user:secret@example.org/', constraint: 'example.org', want: true },
    { uri: 'https://example.org@evil.example/', constraint: 'example.org', want: false },
    { uri: 'https://evil.example/@example.org', constraint: 'example.org', want: false },
    { uri: 'https://evil.example?@example.org', constraint: 'example.org', want: false },
    { uri: 'https://evil.example#@example.org', constraint: 'example.org', want: false },
    { uri: 'spiffe://sub.example.org/a', constraint: 'example.org', want: false },
    { uri: 'spiffe://sub.example.org/a', constraint: '.example.org', want: true },
    { uri: 'spiffe://a.sub.example.org/a', constraint: '.example.org', want: true },
    { uri: 'spiffe://example.org/a', constraint: '.example.org', want: false },
    { uri: 'spiffe://badexample.org/a', constraint: '.example.org', want: false },
    { uri: 'spiffe://badexample.org/a', constraint: 'example.org', want: false },
    { uri: 'spiffe://example.org./a', constraint: 'example.org', want: true },
    { uri: 'spiffe://prod_1/a', constraint: 'prod_1', want: true },
    { uri: 'spiffe://10.0.0.1/a', constraint: '10.0.0.1', want: null },
    { uri: 'https://[::1]/a', constraint: 'example.org', want: null },
    { uri: 'urn:example:org', constraint: 'example.org', want: null },
    { uri: 'spiffe:///a', constraint: 'example.org', want: null },
    { uri: 'spiffe://example.org/a', constraint: '', want: null },
    { uri: 'spiffe://example.org/a', constraint: '.', want: null },
    { uri: 'spiffe://example.org/a', constraint: 'spiffe://example.org', want: null },
    { uri: 'spiffe://example.org/a', constraint: '*.example.org', want: null },
  ];
  for (const { uri, constraint, want } of CASES) {
    it(`${uri} is ${say(want)} ${JSON.stringify(constraint)}`, () =>
      assert.equal(uriInSubtree(uri, constraint), want));
  }
});

describe('a DNS name against a DNS constraint', () => {
  const CASES: readonly { name: string; constraint: string; all: boolean | null; any?: boolean | null }[] = [
    { name: 'example.org', constraint: 'example.org', all: true },
    { name: 'EXAMPLE.org.', constraint: 'example.ORG', all: true },
    { name: 'a.b.example.org', constraint: 'example.org', all: true },
    { name: 'badexample.org', constraint: 'example.org', all: false },
    { name: 'org', constraint: 'example.org', all: false },
    { name: 'example.org', constraint: '.example.org', all: false },
    { name: 'a.example.org', constraint: '.example.org', all: true },
    { name: 'anything.test', constraint: '', all: true },
    { name: '*.example.org', constraint: 'example.org', all: true },
    { name: '*.example.org', constraint: '.example.org', all: true },
    { name: '*.example.org', constraint: 'web.example.org', all: false, any: true },
    { name: '*.example.org', constraint: 'other.test', all: false },
    { name: '*.a.example.org', constraint: 'example.org', all: true },
    { name: 'example.org', constraint: '.', all: null },
    { name: 'example.org', constraint: '..', all: null },
    { name: 'example.org', constraint: 'a b', all: null },
    { name: 'a b', constraint: 'example.org', all: null },
    { name: '', constraint: 'example.org', all: null },
    { name: '*', constraint: 'example.org', all: null },
    { name: 'w*.example.org', constraint: 'example.org', all: null },
  ];
  for (const { name, constraint, all, any = all } of CASES) {
    it(`${JSON.stringify(name)} is ${say(all)} ${JSON.stringify(constraint)}, or may be: ${any}`, () => {
      assert.equal(dnsNameInSubtree(name, constraint, 'all'), all);
      assert.equal(dnsNameInSubtree(name, constraint, 'any'), any);
    });
  }

  it('a wildcard is never wholly inside what it cannot be in at all', () => {
    const label = fc.constantFrom('a', 'b', 'example', 'org');
    const host = fc.array(label, { minLength: 1, maxLength: 4 }).map((labels) => labels.join('.'));
    checkProperty(
      fc.property(host, host, fc.constantFrom('', '.'), label, (name, base, dot, one) => {
        const inside = (n: string, wildcard: 'all' | 'any'): boolean | null =>
          dnsNameInSubtree(n, dot + base, wildcard);
        // What the wildcard stands for is inside when all of them are, and when none may be, it is not.
        if (inside(`*.${name}`, 'all') === true) assert.equal(inside(`${one}.${name}`, 'all'), true);
        if (inside(`*.${name}`, 'any') === false) assert.equal(inside(`${one}.${name}`, 'any'), false);
      }),
    );
  });
});

describe('an IP address against an IP constraint', () => {
  const v4 = (...octets: readonly number[]): Uint8Array => Uint8Array.from(octets);
  const v6 = (last: number): Uint8Array => new Uint8Array(16).with(15, last);
  const CASES: readonly {
    name: string;
    address: Uint8Array;
    constraint: Uint8Array;
    want: boolean | null;
  }[] = [
    { name: 'inside', address: v4(10, 1, 2, 3), constraint: v4(10, 0, 0, 0, 255, 0, 0, 0), want: true },
    { name: 'outside', address: v4(11, 1, 2, 3), constraint: v4(10, 0, 0, 0, 255, 0, 0, 0), want: false },
    {
      name: 'a base with host bits',
      address: v4(10, 9, 9, 9),
      constraint: v4(10, 1, 1, 1, 255, 0, 0, 0),
      want: true,
    },
    { name: 'IPv6', address: v6(1), constraint: Uint8Array.of(...v6(1), ...v6(0xff)), want: true },
    { name: 'the other family', address: v4(0, 0, 0, 1), constraint: new Uint8Array(32), want: false },
    { name: 'no address', address: v4(1), constraint: v4(1, 255), want: null },
    { name: 'no constraint', address: v4(1, 2, 3, 4), constraint: v4(1, 2, 3, 4), want: null },
  ];
  for (const { name, address, constraint, want } of CASES)
    it(name, () => assert.equal(ipAddressInSubtree(address, constraint), want));
});

function say(want: boolean | null): string {
  return want === null ? 'beyond judgement by' : want ? 'inside' : 'outside';
}
