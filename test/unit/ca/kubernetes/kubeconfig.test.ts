import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseKubeconfig } from '../../../../ca/kubernetes/kubeconfig.ts';
import { expectCode } from '../../../support/expect-code.ts';

interface Parts {
  readonly cluster?: object;
  readonly user?: object;
  readonly context?: object;
  readonly more?: object;
}

const kubeconfig = ({ cluster, user, context, more }: Parts = {}): string =>
  JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    preferences: {},
    'current-context': 'main',
    contexts: [
      { name: 'main', context: { cluster: 'c', user: 'u', ...context } },
      { name: 'other', context: { cluster: 'd', user: '', namespace: 'elsewhere' } },
    ],
    clusters: [
      { name: 'c', cluster: { server: 'https://10.0.0.1:6443', ...cluster } },
      { name: 'd', cluster: { server: 'https://d.example/prefix', 'tls-server-name': 'kubernetes' } },
    ],
    users: [{ name: 'u', user: { token: 'abc', ...user } }],
    ...more,
  });
const base64 = (text: string): string => Buffer.from(text).toString('base64');

describe('parseKubeconfig', () => {
  it('reads the current context', () => {
    const access = parseKubeconfig(kubeconfig(), '/home/me/.kube/config');
    assert.equal(access.server.href, 'https://10.0.0.1:6443/');
    assert.equal(access.namespace, 'default');
    assert.equal(access.certificateAuthority, undefined);
    assert.ok(access.authentication.kind === 'token' && access.authentication.token.kind === 'inline');
    assert.equal(Buffer.from(access.authentication.token.bytes.expose()).toString(), 'abc');
  });

  it('reads the context that is named', () => {
    const access = parseKubeconfig(kubeconfig(), 'config', 'other');
    assert.equal(access.server.href, 'https://d.example/prefix');
    assert.equal(access.tlsServerName, 'kubernetes');
    assert.equal(access.namespace, 'elsewhere');
    assert.equal(access.authentication.kind, 'none');
  });

  it('takes inline data before files, a token file before a token, and paths relative to its folder', () => {
    const access = parseKubeconfig(
      kubeconfig({
        cluster: { 'certificate-authority': 'ca.crt', 'certificate-authority-data': base64('CA') },
        user: { tokenFile: '../token', 'client-certificate': 'a', 'client-key': 'b' },
      }),
      '/home/me/.kube/config',
    );
    assert.equal(access.certificateAuthority?.kind, 'inline');
    assert.deepEqual(access.authentication, {
      kind: 'token',
      token: { kind: 'file', path: '/home/me/token' },
    });
  });

  it('reads a client certificate', () => {
    const user = { token: '', 'client-certificate-data': base64('cert'), 'client-key': 'key.pem' };
    const { authentication } = parseKubeconfig(kubeconfig({ user }), '/k/config');
    assert.ok(authentication.kind === 'clientCertificate');
    assert.equal(authentication.certificate.kind, 'inline');
    assert.deepEqual(authentication.key, { kind: 'file', path: '/k/key.pem' });
  });

  const REFUSED: readonly {
    readonly name: string;
    readonly text: string;
    readonly context?: string;
    readonly says: RegExp;
  }[] = [
    {
      name: 'a context that is not there',
      text: kubeconfig(),
      context: 'nowhere',
      says: /no context "nowhere"/,
    },
    {
      name: 'no current context',
      text: kubeconfig({ more: { 'current-context': '' } }),
      says: /no context is chosen/,
    },
    {
      name: 'a cluster that is not there',
      text: kubeconfig({ context: { cluster: 'x' } }),
      says: /no cluster "x"/,
    },
    { name: 'a user that is not there', text: kubeconfig({ context: { user: 'x' } }), says: /no user "x"/ },
    {
      name: 'skipped TLS checks',
      text: kubeconfig({ cluster: { 'insecure-skip-tls-verify': true } }),
      says: /insecure-skip-tls-verify/,
    },
    {
      name: 'plain HTTP to another host',
      text: kubeconfig({ cluster: { server: 'http://10.0.0.1' } }),
      says: /not https/,
    },
    {
      name: 'a server with a password in it',
      text: kubeconfig({ cluster: { server: 'https://a:b@10.0.0.1' } }),
      says: /more than scheme/,
    },
    { name: 'a server that is no URL', text: kubeconfig({ cluster: { server: 'ten' } }), says: /not a URL/ },
    { name: 'no server', text: kubeconfig({ cluster: { server: undefined } }), says: /no server/ },
    { name: 'a proxy', text: kubeconfig({ cluster: { 'proxy-url': 'http://p' } }), says: /proxy-url/ },
    {
      name: 'a password',
      text: kubeconfig({ user: { username: 'root', password: 'x' } }),
      says: /no passwords/,
    },
    { name: 'a plugin', text: kubeconfig({ user: { exec: { command: 'aws' } } }), says: /plugin/ },
    { name: 'impersonation', text: kubeconfig({ user: { as: 'root' } }), says: /impersonation/ },
    {
      name: 'a certificate without a key',
      text: kubeconfig({ user: { token: '', 'client-certificate': 'a' } }),
      says: /without its key/,
    },
    {
      name: 'a CA that is not base64',
      text: kubeconfig({ cluster: { 'certificate-authority-data': '!!' } }),
      says: /not base64/,
    },
    { name: 'YAML that is none', text: '{', says: /config:1:/ },
    { name: 'a list', text: '[]', says: /not a mapping/ },
    { name: 'contexts that are a text', text: '{"contexts":"main"}', says: /contexts: "main" is not a list/ },
  ];
  for (const { name, text, context, says } of REFUSED) {
    it(`refuses ${name}`, () => {
      assert.match(
        expectCode('config_invalid', () => parseKubeconfig(text, 'config', context)).message,
        says,
      );
    });
  }

  it('lets kubectl proxy on loopback pass, which has no TLS', () => {
    for (const server of ['http://127.0.0.1:8001', 'http://localhost:8001', 'http://[::1]:8001']) {
      assert.equal(parseKubeconfig(kubeconfig({ cluster: { server } }), 'config').server.protocol, 'http:');
    }
  });
});
