import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { loadAgentConfig } from '../../../agent/config.ts';
import { expectRejection } from '../../support/expect-code.ts';

const NEEDED = { 'trust-domain': 'example.org', 'token-file': '/t', 'bootstrap-bundle': '/b' };

const load = (flags: Readonly<Record<string, string>>) =>
  loadAgentConfig({ flags: new Map(Object.entries({ ...NEEDED, ...flags })), env: {} });

describe('the settings of the HAProxy feed', () => {
  it('take sockets by path and by port of loopback, with defaults for the rest', async () => {
    const flags = { 'haproxy-sockets': '/run/a.sock,127.0.0.1:9999', 'haproxy-folder': '/run/kedge/haproxy' };
    assert.deepEqual((await load(flags)).haproxy, {
      folder: '/run/kedge/haproxy',
      keyMode: 0o600,
      addresses: [{ path: '/run/a.sock' }, { host: '127.0.0.1', port: 9999 }],
      crls: false,
      serverLinesOnly: false,
      timeoutMs: 2_000,
      maxCommandBytes: 16_384,
    });
    const asJson = { ...flags, 'haproxy-sockets': '["/run/a.sock"]' };
    assert.deepEqual((await load(asJson)).haproxy?.addresses, [{ path: '/run/a.sock' }]);
  });

  const good = { 'haproxy-sockets': '/run/a.sock', 'haproxy-folder': '/run/h' };
  for (const [name, flags] of Object.entries({
    'sockets without a folder': { 'haproxy-sockets': '/run/a.sock' },
    'a folder without sockets': { 'haproxy-folder': '/run/h' },
    'a port of another machine: keys would travel': { ...good, 'haproxy-sockets': '10.0.0.1:9999' },
    'the same socket twice': { ...good, 'haproxy-sockets': '/run/a.sock,/run/a.sock' },
    'too many sockets': {
      ...good,
      'haproxy-sockets': Array.from({ length: 9 }, (_, i) => `/s${i}`).join(','),
    },
    'a relative socket': { ...good, 'haproxy-sockets': 'a.sock' },
    'a path that HAProxy would need quoted': { ...good, 'haproxy-folder': '/run/my folder' },
    'the folder of the files feed': { ...good, 'files-folder': '/run/h' },
    'a command length over all limits': { ...good, 'haproxy-max-command': '1000000' },
  })) {
    it(`refuse ${name}`, async () => {
      await expectRejection('config_invalid', load(flags));
    });
  }
});
