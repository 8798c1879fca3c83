import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { splitDer } from '../../../cli/der-concatenation.ts';
import { parseX509Context } from '../../../cli/x509-context.ts';
import { LIMITS } from '../../../pki/limits.ts';
import { type X509SVID, X509SVIDResponse } from '../../../proto/gen/spiffe/workload.ts';

const der = (n: number): Uint8Array => Uint8Array.of(0x30, 3, 2, 1, n);
const svid: X509SVID = {
  spiffeId: 'spiffe://example.org/web',
  x509Svid: Buffer.concat([der(1), der(2)]),
  x509SvidKey: der(3),
  bundle: der(4),
  hint: '',
};

function parse(change: Partial<X509SVIDResponse>) {
  const response = { svids: [svid], crl: [], federatedBundles: {}, ...change };
  return parseX509Context(X509SVIDResponse.encode(response).finish());
}

describe('parseX509Context', () => {
  it('reads identities, CRLs and the bundles of other trust domains', () => {
    const context = parse({
      svids: [
        { ...svid, hint: 'internal' },
        { ...svid, hint: 'external' },
      ],
      crl: [der(5)],
      federatedBundles: { 'spiffe://other.example': Buffer.concat([der(6), der(7)]) },
    });
    assert.deepEqual(
      context.identities.map(({ hint, chain, bundle }) => [hint, chain.length, bundle.length]),
      [
        ['internal', 2, 1],
        ['external', 2, 1],
      ],
    );
    assert.deepEqual(
      context.crls.map((crl) => crl[4]),
      [5],
    );
    assert.deepEqual(context.federatedBundles.get('spiffe://other.example')?.length, 2);
  });

  const refused: { name: string; change: Partial<X509SVIDResponse>; rule: RegExp }[] = [
    { name: 'no identity', change: { svids: [] }, rule: /holds no identity/ },
    {
      name: 'an identity without a certificate',
      change: { svids: [{ ...svid, x509Svid: Uint8Array.of() }] },
      rule: /no certificate/,
    },
    {
      name: 'an identity without a key',
      change: { svids: [{ ...svid, x509SvidKey: Uint8Array.of() }] },
      rule: /no private key/,
    },
    {
      name: 'an identity without a bundle',
      change: { svids: [{ ...svid, bundle: Uint8Array.of() }] },
      rule: /no bundle/,
    },
    {
      name: 'a SPIFFE ID that is none',
      change: { svids: [{ ...svid, spiffeId: 'http://example.org' }] },
      rule: /SPIFFE ID/,
    },
    {
      name: 'two identities with one hint',
      change: {
        svids: [
          { ...svid, hint: 'a' },
          { ...svid, hint: 'a' },
        ],
      },
      rule: /one hint/,
    },
    {
      name: 'a truncated certificate',
      change: { svids: [{ ...svid, x509Svid: der(1).subarray(0, 4) }] },
      rule: /DER/,
    },
    {
      name: 'bytes behind the certificates',
      change: { svids: [{ ...svid, x509Svid: Buffer.concat([der(1), Buffer.of(0)]) }] },
      rule: /DER/,
    },
    {
      name: 'a chain over the limit',
      change: {
        svids: [{ ...svid, x509Svid: Buffer.concat(Array(LIMITS.chainCertificates + 1).fill(der(1))) }],
      },
      rule: /more than/,
    },
    {
      name: 'a federated bundle of no trust domain',
      change: { federatedBundles: { other: der(1) } },
      rule: /SPIFFE ID/,
    },
  ];
  for (const { name, change, rule } of refused) {
    it(`refuses ${name}`, () => {
      assert.throws(() => parse(change), { code: 'agent_answer_invalid', message: rule });
    });
  }
});

describe('splitDer', () => {
  it('gives none for nothing, and as many as the limit allows', () => {
    assert.deepEqual(splitDer(Uint8Array.of(), 1), []);
    assert.equal(splitDer(Buffer.concat([der(1), der(2)]), 2).length, 2);
    assert.throws(() => splitDer(Buffer.concat([der(1), der(2)]), 1), { code: 'message_too_large' });
  });
});
