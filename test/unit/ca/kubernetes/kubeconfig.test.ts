import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { kubeconfigAccess, parseKubeconfigs } from '../../../../ca/kubernetes/kubeconfig.ts';
import { expectCode, expectRejection } from '../../../support/expect-code.ts';
import { temporaryFolder } from '../../../support/temporary-folder.ts';

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
const EXEC_V1 = 'client.authentication.k8s.io/v1';
const execConfig = (exec: object, cluster: object = {}): string =>
  kubeconfig({ user: { token: '', exec: { apiVersion: EXEC_V1, command: 'aws', ...exec } }, cluster });
const base64 = (text: string): string => Buffer.from(text).toString('base64');

const parseKubeconfig = (yaml: string, path: string, context?: string) =>
  parseKubeconfigs([{ path, yaml }], context);
const tokenOf = ({ authentication }: ReturnType<typeof parseKubeconfigs>): string => {
  assert.ok(authentication.kind === 'token' && authentication.token.kind === 'inline');
  return Buffer.from(authentication.token.bytes.expose()).toString();
};

describe('parseKubeconfigs', () => {
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

  it('reads a plugin, with what it is told of the cluster only where it asks for that', () => {
    const cluster = {
      'certificate-authority-data': base64('CA'),
      extensions: [{ name: 'client.authentication.k8s.io/exec', extension: { audience: 'x' } }],
    };
    const args = ['eks', 'get-token'];
    const env = [{ name: 'AWS_PROFILE', value: 'prod' }];
    const plain = parseKubeconfig(execConfig({ args, env, installHint: 'get it' }, cluster), '/k/config');
    assert.deepEqual(plain.authentication, {
      kind: 'exec',
      plugin: {
        apiVersion: EXEC_V1,
        command: 'aws',
        args,
        environment: { AWS_PROFILE: 'prod' },
        installHint: 'get it',
      },
    });
    const { authentication } = parseKubeconfig(
      execConfig({ provideClusterInfo: true }, cluster),
      '/k/config',
    );
    assert.ok(authentication.kind === 'exec');
    assert.deepEqual(authentication.plugin.cluster, {
      server: 'https://10.0.0.1:6443',
      'tls-server-name': undefined,
      'certificate-authority-data': base64('CA'),
      config: { audience: 'x' },
    });
  });

  it('looks for a plugin in PATH, and beside the kubeconfig where its name has a slash', () => {
    for (const [command, want] of [
      ['gke-gcloud-auth-plugin', 'gke-gcloud-auth-plugin'],
      ['./bin/plugin', '/home/me/.kube/bin/plugin'],
      ['/usr/bin/plugin', '/usr/bin/plugin'],
    ] as const) {
      const { authentication } = parseKubeconfig(execConfig({ command }), '/home/me/.kube/config');
      assert.equal(authentication.kind === 'exec' && authentication.plugin.command, want);
    }
  });

  it('takes a token of the user before its plugin', () => {
    const user = { token: 'abc', exec: { apiVersion: EXEC_V1, command: 'aws' } };
    assert.equal(tokenOf(parseKubeconfig(kubeconfig({ user }), 'config')), 'abc');
  });

  describe('of several files', () => {
    const first = {
      path: '/a/config',
      yaml: JSON.stringify({
        contexts: [{ name: 'main', context: { cluster: 'c', user: 'u' } }],
        users: [{ name: 'u', user: { token: 'first' } }],
      }),
    };
    const second = {
      path: '/b/config',
      yaml: kubeconfig({ cluster: { 'certificate-authority': 'ca.crt' } }),
    };

    it('takes the first entry of a name, whole, and what the first has not from the next', () => {
      const access = parseKubeconfigs([first, second]);
      assert.equal(tokenOf(access), 'first');
      assert.equal(access.server.href, 'https://10.0.0.1:6443/');
      assert.equal(tokenOf(parseKubeconfigs([second, first])), 'abc');
    });

    it('takes the first current-context that is one', () => {
      const empty = { path: '/0/config', yaml: '{ "current-context": "" }' };
      const other = { path: '/1/config', yaml: '{ "current-context": "other" }' };
      assert.equal(parseKubeconfigs([empty, other, second]).namespace, 'elsewhere');
      assert.equal(parseKubeconfigs([second, other]).namespace, 'default');
    });

    it('starts a relative path at the folder of the file that it stands in', () => {
      assert.deepEqual(parseKubeconfigs([first, second]).certificateAuthority, {
        kind: 'file',
        path: '/b/ca.crt',
      });
    });

    it('names the file in which something is wrong', () => {
      const bad = { path: '/z/config', yaml: '{"contexts":"main"}' };
      assert.match(
        expectCode('config_invalid', () => parseKubeconfigs([first, bad])).message,
        /^\/z\/config/,
      );
    });

    it('passes over those that are missing, but not if all are, nor one that cannot be read', async (t) => {
      const folder = temporaryFolder(t);
      const [there, missing] = [join(folder, 'config'), join(folder, 'missing')];
      writeFileSync(there, second.yaml);
      for (const paths of [
        [missing, there],
        [there, missing],
      ])
        assert.equal(tokenOf(await kubeconfigAccess(paths)), 'abc');
      const error = await expectRejection('file_unreadable', kubeconfigAccess([missing]));
      assert.match(error.message, /missing/);
      await expectRejection('file_unreadable', kubeconfigAccess([folder, there]));
    });
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
    {
      name: 'a plugin of another API',
      text: execConfig({ apiVersion: 'client.authentication.k8s.io/v1alpha1' }),
      says: /exec\.apiVersion/,
    },
    { name: 'a plugin without a command', text: execConfig({ command: '' }), says: /no command/ },
    {
      name: 'a plugin that must ask somebody',
      text: execConfig({ interactiveMode: 'Always' }),
      says: /interactiveMode is Always/,
    },
    {
      name: 'what Kubernetes had before plugins',
      text: kubeconfig({ user: { 'auth-provider': { name: 'gcp' } } }),
      says: /auth-provider/,
    },
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
