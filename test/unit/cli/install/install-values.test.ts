import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { INSTALL_VALUES, installValues } from '../../../../cli/install/install-values.ts';
import { expectCode } from '../../../support/expect-code.ts';

describe('installValues', () => {
  it('gives each key its default', () => {
    const values = installValues({ ha: false, sets: [] });
    assert.deepEqual(
      Object.entries(values),
      INSTALL_VALUES.map(({ key, default: value }) => [key, value]),
    );
  });

  it('gives another default under --ha, where there is one', () => {
    const values = installValues({ ha: true, sets: [] });
    assert.equal(values.replicas, '3');
    assert.equal(values.failurePolicy, 'Fail');
    assert.equal(values.namespace, 'kedge');
  });

  it('takes --set over both, with equals signs in the value', () => {
    const values = installValues({ ha: true, sets: ['replicas=5', 'audience=a=b'] });
    assert.equal(values.replicas, '5');
    assert.equal(values.audience, 'a=b');
  });

  const refused = [
    {
      name: 'an unknown key, with those that there are',
      sets: ['tursted=1'],
      says: /the keys are namespace,/,
    },
    { name: 'a key without a value', sets: ['namespace'], says: /namespace: "" is empty/ },
    { name: 'an empty value', sets: ['namespace='], says: /is empty/ },
    { name: 'a key given twice', sets: ['replicas=2', 'replicas=3'], says: /given twice/ },
    ...['kube-system', 'kube-public', 'kube-node-lease', 'default'].map((namespace) => ({
      name: `the namespace ${namespace}, whose pods its own policies would stop`,
      sets: [`namespace=${namespace}`],
      says: /a namespace that others need/,
    })),
    { name: 'a port that is none', sets: ['apiServerPorts=443,65536'], says: /up to 8 ports/ },
    { name: 'no port at all', sets: ['apiServerPorts=443,'], says: /up to 8 ports/ },
    { name: 'an address without its bits', sets: ['webhookFrom=10.0.0.1'], says: /CIDRs/ },
    { name: 'more bits than the address has', sets: ['nodeCidrs=10.0.0.0/33'], says: /CIDRs/ },
    { name: 'an address that is none', sets: ['nodeCidrs=10.0.0.256/24'], says: /CIDRs/ },
    { name: 'a namespace with capitals', sets: ['namespace=Kedge'], says: /lower-case/ },
    { name: 'a trust domain that is none', sets: ['trustDomain=Prod!'], says: /trustDomain/ },
    { name: 'no replicas', sets: ['replicas=0'], says: /1 to 100/ },
    { name: 'a fraction of a replica', sets: ['replicas=1.5'], says: /1 to 100/ },
    { name: 'a lifetime that is none', sets: ['svidTtl=soon'], says: /svidTtl/ },
    { name: 'a lifetime below a minute', sets: ['svidTtl=30s'], says: /60s|1m/ },
    { name: 'an image with a space', sets: ['image=kedge latest'], says: /image reference/ },
    { name: 'an image that is an option', sets: ['image=--privileged'], says: /image reference/ },
    { name: 'a quantity with an unknown unit', sets: ['memoryLimit=1GB'], says: /quantity/ },
    {
      name: 'a failurePolicy that Kubernetes does not know',
      sets: ['failurePolicy=Maybe'],
      says: /Ignore, Fail/,
    },
    { name: 'a line break, which would be YAML of its own', sets: ['cluster=a\nb: c'], says: /cluster/ },
  ];
  for (const { name, sets, says } of refused) {
    it(`refuses ${name}`, () => {
      const error = expectCode('usage_invalid', () => installValues({ ha: false, sets }));
      assert.match(`${error.message} ${error.hint ?? ''}`, says);
    });
  }
});
