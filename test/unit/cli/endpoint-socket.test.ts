import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseEndpointSocket, socketTarget } from '../../../cli/endpoint-socket.ts';

describe('parseEndpointSocket', () => {
  const taken = [
    { address: 'unix:///run/kedge/workload.sock', want: 'unix:///run/kedge/workload.sock' },
    { address: 'unix:/run/kedge/workload.sock', want: 'unix:///run/kedge/workload.sock' },
    { address: 'unix:///run/a%20b', want: 'unix:///run/a b' },
    { address: 'tcp://127.0.0.1:8000', want: 'ipv4:127.0.0.1:8000' },
    { address: 'tcp://[::1]:8000', want: 'ipv6:[::1]:8000' },
  ];
  for (const { address, want } of taken) {
    it(`takes ${address}`, () => assert.equal(parseEndpointSocket(address), want));
  }

  const refused = [
    { address: '', rule: /scheme unix or tcp/ },
    { address: 'run/kedge.sock', rule: /scheme unix or tcp/ },
    { address: 'http://127.0.0.1:80', rule: /no scheme "http"/ },
    { address: 'unix://host/run/x', rule: /no authority/ },
    { address: 'unix://', rule: /absolute path/ },
    { address: 'unix:///', rule: /absolute path/ },
    { address: 'unix:relative', rule: /scheme unix or tcp/ },
    { address: 'unix:///run/x?y=1', rule: /query or a fragment/ },
    { address: 'unix:///run/x#y', rule: /query or a fragment/ },
    { address: 'unix:///run/%zz', rule: /percent-encoding/ },
    { address: 'unix:///run/%00', rule: /zero byte/ },
    { address: 'tcp://127.0.0.1', rule: /an IP and a port/ },
    { address: 'tcp://localhost:80', rule: /an IP and a port/ },
    { address: 'tcp://127.0.0.1:80/', rule: /no path/ },
    { address: 'tcp://127.0.0.1:0', rule: /1 and 65535/ },
    { address: 'tcp://127.0.0.1:65536', rule: /1 and 65535/ },
    { address: 'tcp://::1:80', rule: /an IP and a port/ },
    { address: 'tcp://[127.0.0.1]:80', rule: /brackets/ },
    { address: 'tcp://user@127.0.0.1:80', rule: /an IP and a port/ },
  ];
  for (const { address, rule } of refused) {
    it(`refuses ${JSON.stringify(address)}, naming the rule`, () => {
      assert.throws(() => parseEndpointSocket(address), { code: 'usage_invalid', message: rule });
    });
  }
});

describe('socketTarget', () => {
  it('takes a plain absolute path as it is', () => {
    assert.equal(socketTarget('/run/a%20b'), 'unix:///run/a%20b');
  });

  it('refuses where no socket is named, and says how to name one', () => {
    assert.throws(() => socketTarget(undefined), { code: 'usage_invalid', hint: /SPIFFE_ENDPOINT_SOCKET/ });
  });
});
