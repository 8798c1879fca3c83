import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { configOf } from '../../../../../ca/config.ts';
import { readSettings } from '../../../../../ca/config-schema.ts';
import { vaultProblems, vaultSettings } from '../../../../../ca/upstream/vault/vault-config.ts';
import { expectCode } from '../../../../support/expect-code.ts';

const ADDRESS = 'https://vault.example.com:8200';
const yaml = (vault: object, kind = 'vault') =>
  configOf(readSettings(JSON.stringify({ upstream: { kind, vault } }), 'ca.yaml', {}), '/etc/kedge').upstream;

describe('upstream.vault', () => {
  it('has a default for everything but where Vault is and how to log in', () => {
    const { kind, vault } = yaml({ address: ADDRESS, login: 'kubernetes', role: 'kedge' });
    assert.equal(kind, 'vault');
    assert.deepEqual(vault, {
      address: ADDRESS,
      namespace: null,
      login: {
        kind: 'kubernetes',
        mount: 'kubernetes',
        role: 'kedge',
        tokenFile: '/var/run/secrets/kubernetes.io/serviceaccount/token',
      },
      authoritiesFile: null,
      serverName: null,
      certificateFile: null,
      keyFile: null,
      timeoutMs: 15_000,
      mount: 'pki',
      issuerRef: null,
      signPath: null,
      anchorsFile: null,
      pollMs: 60_000,
    });
  });

  it('takes each way to log in, with paths relative to the file', () => {
    const login = (vault: object) => yaml({ address: `${ADDRESS}/`, ...vault }).vault?.login;
    assert.deepEqual(login({ login: 'token', tokenFile: 'token' }), {
      kind: 'token',
      tokenFile: '/etc/kedge/token',
    });
    assert.deepEqual(
      login({ login: 'appRole', roleIdFile: 'id', secretIdFile: '/run/secret', loginMount: 'mesh/a' }),
      {
        kind: 'appRole',
        mount: 'mesh/a',
        roleIdFile: '/etc/kedge/id',
        secretIdFile: '/run/secret',
      },
    );
    assert.deepEqual(login({ login: 'jwt', role: 'kedge', tokenFile: 'jwt' }), {
      kind: 'jwt',
      mount: 'jwt',
      role: 'kedge',
      tokenFile: '/etc/kedge/jwt',
    });
    assert.deepEqual(login({ login: 'certificate', certificateFile: 'c.pem', keyFile: 'c.key' }), {
      kind: 'certificate',
      mount: 'cert',
      role: null,
    });
  });

  it('is kept beside another kind: it is what the CA moves away from', () => {
    assert.notEqual(yaml({ address: ADDRESS, login: 'token', tokenFile: 't' }, 'self').vault, null);
  });

  const base = { address: ADDRESS, login: 'token', tokenFile: 't' };
  for (const { vault, want } of [
    { vault: undefined, want: /upstream\.kind: vault needs to be found: set upstream\.vault\.address/ },
    { vault: { login: 'token' }, want: /upstream\.vault\.address/ },
    { vault: { address: ADDRESS }, want: /upstream\.vault\.login.*token.*appRole/s },
    { vault: { ...base, address: 'vault:8200' }, want: /address: "vault:8200" is no https URL/ },
    { vault: { ...base, address: 'http://vault.example.com' }, want: /in the clear/ },
    { vault: { ...base, address: `${ADDRESS}/v1` }, want: /is all that belongs here/ },
    { vault: { ...base, address: 'https://u:p@vault' }, want: /no path, no credentials/ },
    { vault: { ...base, mount: '/pki' }, want: /mount: "\/pki" is no path in Vault/ },
    { vault: { ...base, mount: 'pki/../sys' }, want: /mount: .* is no path in Vault/ },
    { vault: { ...base, signPath: 'a?b' }, want: /signPath: .* is no path in Vault/ },
    { vault: { ...base, namespace: 'a b' }, want: /namespace: .* is no path in Vault/ },
    { vault: { ...base, issuerRef: 'a/b' }, want: /issuerRef: "a\/b" is no name in Vault/ },
    { vault: { ...base, certificateFile: 'a' }, want: /certificateFile and keyFile go together/ },
    { vault: { ...base, role: 'kedge' }, want: /role: is of no use to log in by token/ },
    { vault: { address: ADDRESS, login: 'token' }, want: /tokenFile: is needed to log in by token/ },
    { vault: { address: ADDRESS, login: 'kubernetes' }, want: /role: is needed to log in by kubernetes/ },
    { vault: { address: ADDRESS, login: 'appRole' }, want: /roleIdFile: is needed to log in by appRole/ },
    {
      vault: { address: ADDRESS, login: 'certificate' },
      want: /certificateFile: is needed to log in by certificate/,
    },
    { vault: { ...base, serverName: 'a b' }, want: /serverName.*not a host name/s },
    { vault: { ...base, skipVerify: true }, want: /upstream\.vault.*skipVerify/s },
  ]) {
    it(`refuses ${JSON.stringify(vault ?? 'nothing')}`, () => {
      const error = expectCode('config_invalid', () =>
        configOf(readSettings(JSON.stringify({ upstream: { kind: 'vault', vault } }), 'ca.yaml', {}), '/etc'),
      );
      assert.match(error.message, want);
    });
  }

  it('takes a Vault on loopback without TLS', () => {
    for (const address of ['http://127.0.0.1:8200', 'http://localhost:8200', 'http://[::1]:8200']) {
      assert.deepEqual(vaultProblems({ address, login: 'token', tokenFile: 't' }), []);
      assert.equal(
        vaultSettings({ address: `${address}/`, login: 'token', tokenFile: 't' }, '/').address,
        address,
      );
    }
  });
});
