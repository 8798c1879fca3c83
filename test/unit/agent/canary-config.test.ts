import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { canaryConfigOf, type CanarySettings } from '../../../agent/canary-config.ts';
import { expectCode } from '../../support/expect-code.ts';

describe('the configuration of the canary', () => {
  const read = (change: Partial<CanarySettings>) =>
    canaryConfigOf({
      address: '127.0.0.1:8443',
      protocol: 'http',
      path: '/',
      intervalMs: 60_000,
      allowRemote: false,
      ...change,
    });

  it('is off without an address', () => assert.equal(read({ address: undefined }), undefined));

  it('takes loopback addresses', () => {
    for (const [address, host] of [
      ['127.0.0.1:8443', '127.0.0.1'],
      ['127.9.9.9:1', '127.9.9.9'],
      ['[::1]:8443', '::1'],
      ['[0:0:0:0:0:0:0:1]:8443', '0:0:0:0:0:0:0:1'],
    ]) {
      assert.equal(read({ address })?.target.host, host);
    }
  });

  it('refuses every other address unless that is said, and names and port 0 always', () => {
    for (const address of ['10.0.0.1:8443', '0.0.0.0:8443', '[fd00::1]:8443', '[::]:80', '[1::1]:80']) {
      expectCode('config_invalid', () => read({ address }));
      assert.equal(read({ address, allowRemote: true })?.target.port, Number(address.split(':').at(-1)));
    }
    for (const address of ['localhost:8443', 'web.shop.svc:8443', '127.0.0.1:0', '127.1:80']) {
      expectCode('config_invalid', () => read({ address, allowRemote: true }));
    }
  });

  it('refuses a path that would be more than a path in the request', () => {
    for (const path of ['', 'x', '/a b', '/\r\nHost: x', '/\u00e4', `/${'a'.repeat(1024)}`]) {
      expectCode('config_invalid', () => read({ path }));
    }
    assert.equal(read({ path: '/ready?full=1' })?.target.path, '/ready?full=1');
  });
});
