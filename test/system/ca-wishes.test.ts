/** What a workload asks for beside its identity: on the wire to a CA with a policy, and as an agent asks. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { CaClient } from '../../agent/ca-client.ts';
import { systemClock } from '../../host/clock.ts';
import { TrustDomain } from '../../pki/spiffe-id.ts';
import { IssueX509SvidRequest, IssueX509SvidResponse } from '../../proto/gen/kedge/v1/identity.ts';
import {
  bearer,
  type CaUnderTest,
  freshCsr,
  getBundle,
  ISSUE,
  rawCall,
  refusalFrom,
  runningCa,
} from '../support/running-ca.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const POLICY = `
defaults: { ttl: 12h }
rules:
  - match: { namespace: shop }
    minTtl: 1h
    dnsNames: ["{serviceAccount}.{namespace}.svc"]
    allowedDnsNames: ["{serviceAccount}.example.org"]
`;

async function caWithPolicy(t: TestContext): Promise<CaUnderTest> {
  const file = join(temporaryFolder(t), 'policy.yaml');
  writeFileSync(file, POLICY);
  return await runningCa(t, { flags: { 'policy.file': file } });
}

/** The DNS names of a certificate, and how long it lives from now on, in hours. */
function said(der: Uint8Array | undefined): { readonly dnsNames: readonly string[]; readonly hours: number } {
  const { subjectAltName = '', validTo } = new X509Certificate(der ?? new Uint8Array(0));
  return {
    dnsNames: [...subjectAltName.matchAll(/DNS:([^,]+)/g)].map(([, name = '']) => name),
    hours: Math.round((Date.parse(validTo) - Date.now()) / 3_600_000),
  };
}

describe('a workload that asks for more than its identity', () => {
  it('gets a shorter life and the DNS names that the policy allows it, asked for by an agent', async (t) => {
    const under = await caWithPolicy(t);
    const client = new CaClient({
      address: under.ca.grpcAddress,
      trustDomain: TrustDomain.parse('example.org'),
      readBootstrap: async () => (await getBundle(under.ca)).x509Authorities,
      clock: systemClock,
      wish: { ttlSeconds: 2 * 3_600, dnsNames: ['cart.example.org'] },
    });
    t.after(() => client.close());
    const { signal } = new AbortController();
    const { response } = await client.issueX509Svid(freshCsr(), under.token(), signal);
    assert.deepEqual(said(response.x509Svid[0]), {
      dnsNames: ['cart.shop.svc', 'cart.example.org'],
      hours: 2,
    });
  });

  it('is bounded by the policy, and refused a DNS name of another', async (t) => {
    const under = await caWithPolicy(t);
    const client = await under.connect();
    const ask = async (ttlSeconds: number, dnsNames: string[], serviceAccount = 'cart') => {
      const request = IssueX509SvidRequest.encode({ csr: freshCsr(), ttlSeconds, dnsNames }).finish();
      const answer = await rawCall(client, ISSUE, request, bearer(under.token({ serviceAccount })));
      return said(IssueX509SvidResponse.decode(answer).x509Svid[0]);
    };
    assert.deepEqual(await ask(0, []), { dnsNames: ['cart.shop.svc'], hours: 12 });
    assert.deepEqual(await ask(10, []), { dnsNames: ['cart.shop.svc'], hours: 1 });
    assert.deepEqual(await ask(4_294_967_295, []), { dnsNames: ['cart.shop.svc'], hours: 12 });
    for (const names of [['cart.example.org'], ['web.example.org', 'cart.example.org'], ['*.example.org']])
      assert.equal((await refusalFrom(ask(0, names, 'web'))).code, 'dns_name_denied', names.join());
  });
});
