import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { DEFAULT_SDS_NAMES } from '../../../agent/feed/sds-names.ts';
import { type AgentConfig, loadAgentConfig } from '../../../agent/config.ts';
import { readSettingValue } from '../../../agent/setting-value.ts';
import { AGENT_SETTING_LIST, environmentNameOf, flagOf } from '../../../agent/settings.ts';
import { isKedgeError } from '../../../pki/kedge-error.ts';
import { expectRejection } from '../../support/expect-code.ts';
import { checkProperty } from '../../support/property.ts';
import { suiteFolder } from '../../support/suite-folder.ts';

const folder = suiteFolder();
let files = 0;
const fileWith = (content: string): string => {
  files += 1;
  const path = join(folder, `agent-${files}.json`);
  writeFileSync(path, content);
  return path;
};
const REQUIRED = {
  'trust-domain': 'example.org',
  'token-file': '/token',
  'bootstrap-bundle': '/bundle.pem',
  socket: '/run/agent.sock',
};
const load = (
  flags: Readonly<Record<string, string>> = {},
  env: Readonly<Record<string, string>> = {},
): Promise<AgentConfig> =>
  loadAgentConfig({ flags: new Map(Object.entries({ ...REQUIRED, ...flags })), env });

describe('the configuration of the agent', () => {
  it('has defaults for what need not be given', async () => {
    assert.deepEqual(
      { ...(await load()), trustDomain: null },
      {
        caAddress: '127.0.0.1:8443',
        trustDomain: null,
        tokenFile: '/token',
        bootstrapBundle: '/bundle.pem',
        issueTimeoutMs: 10_000,
        wish: { ttlSeconds: 0, dnsNames: [] },
        workloadApi: {
          socketPaths: ['/run/agent.sock'],
          socketMode: 0o660,
          maxStreams: 128,
          sds: { names: DEFAULT_SDS_NAMES, isValidatorDisabled: false },
        },
        logLevel: 'info',
      },
    );
  });

  it('takes everything from flags', async () => {
    const config = await load({
      'ca-address': '[::1]:9000',
      'expected-spiffe-id': 'spiffe://example.org/web',
      'issue-timeout': '3s',
      'svid-ttl': '1500ms',
      'dns-names': 'a.example.org,b.example.org',
      'socket-mode': '600',
      'max-streams': '5',
      'files-folder': '/files',
      'files-preset': 'postgresql',
      'files-key-format': 'sec1',
      'files-key-mode': '0640',
      'files-owner': '101:102',
      'files-bundle-document': 'true',
      hook: '["nginx","-s","reload"]',
      'hook-timeout': '2s',
      'cache-folder': '/cache',
      'cache-allow-disk': 'true',
      'http-address': '127.0.0.1:9000',
      'log-level': 'debug',
      'istio-socket': '/run/istio.sock',
      'sds-svid-name': 'mine',
      'sds-bundle-name': '-',
      'sds-all-bundles-name': 'ROOTCA',
      'sds-disable-spiffe-cert-validation': 'true',
    });
    assert.equal(config.caAddress, '[::1]:9000');
    assert.equal(config.expectedId?.toString(), 'spiffe://example.org/web');
    assert.equal(config.issueTimeoutMs, 3_000);
    assert.deepEqual(config.wish, { ttlSeconds: 2, dnsNames: ['a.example.org', 'b.example.org'] });
    assert.deepEqual(config.workloadApi, {
      socketPaths: ['/run/agent.sock', '/run/istio.sock'],
      socketMode: 0o600,
      maxStreams: 5,
      sds: { names: { svid: 'mine', bundle: null, allBundles: 'ROOTCA' }, isValidatorDisabled: true },
    });
    assert.deepEqual(config.files, {
      folder: '/files',
      preset: 'postgresql',
      keyFormat: 'sec1',
      keyMode: 0o640,
      owner: { uid: 101, gid: 102 },
      bundleDocument: true,
      hook: { type: 'command', argv: ['nginx', '-s', 'reload'], timeoutMs: 2_000 },
    });
    assert.deepEqual(config.cache, { folder: '/cache', allowDisk: true });
    assert.equal(config.httpAddress, '127.0.0.1:9000');
    assert.equal(config.logLevel, 'debug');
    assert.ok(Object.isFrozen(config));
  });

  it('lets flags win over the environment, and that over the file', async () => {
    const path = fileWith('{"maxStreams": 1, "caAddress": "file:1", "logLevel": "warn"}');
    const env = { KEDGE_AGENT_CONFIG: path, KEDGE_AGENT_MAX_STREAMS: '2', KEDGE_AGENT_CA_ADDRESS: 'env:2' };
    const config = await load({ 'max-streams': '3' }, env);
    assert.equal(config.workloadApi?.maxStreams, 3);
    assert.equal(config.caAddress, 'env:2');
    assert.equal(config.logLevel, 'warn');
  });

  it('takes no notice of an environment variable that is empty', async () => {
    assert.equal((await load({}, { KEDGE_AGENT_LOG_LEVEL: '' })).logLevel, 'info');
  });

  it('reads a hook, numbers and flags in the file in the form of JSON', async () => {
    const path = fileWith(
      '{"hook": ["a", "b c"], "filesFolder": "/f", "maxStreams": 7, "filesBundleDocument": true}',
    );
    const config = await load({ config: path });
    assert.deepEqual(config.files?.hook, { type: 'command', argv: ['a', 'b c'], timeoutMs: 30_000 });
    assert.equal(config.files?.bundleDocument, true);
    assert.equal(config.workloadApi?.maxStreams, 7);
  });

  it('takes the address of the socket as workloads write it', async () => {
    for (const socket of ['unix:///run/agent.sock', 'unix:/run/agent.sock', '/run/agent.sock']) {
      assert.equal((await load({ socket })).workloadApi?.socketPaths[0], '/run/agent.sock');
    }
  });

  it('takes relative paths from the working folder', async () => {
    assert.equal((await load({ 'token-file': 'a/token' })).tokenFile, resolve('a/token'));
  });

  it('takes a process to signal instead of a hook', async () => {
    const config = await load({ 'files-folder': '/f', 'hook-pid-file': '/p', 'hook-signal': 'SIGUSR1' });
    assert.deepEqual(config.files?.hook, { type: 'signal', pidFile: '/p', signal: 'SIGUSR1' });
  });

  it('takes the signal of the preset where none is named', async () => {
    for (const [preset, signal] of [
      ['plain', 'SIGHUP'],
      ['nginx', 'SIGHUP'],
      ['stunnel', 'SIGHUP'],
      ['postgresql', 'SIGHUP'],
      ['ghostunnel', 'SIGUSR1'],
    ] as const) {
      const config = await load({ 'files-folder': '/f', 'files-preset': preset, 'hook-pid-file': '/p' });
      assert.deepEqual(config.files?.hook, { type: 'signal', pidFile: '/p', signal }, preset);
    }
    const named = {
      'files-folder': '/f',
      'files-preset': 'haproxy',
      'hook-pid-file': '/p',
      'hook-signal': 'SIGUSR2',
    };
    assert.deepEqual((await load(named)).files?.hook, { type: 'signal', pidFile: '/p', signal: 'SIGUSR2' });
  });

  it('takes an owner, a group, or both', async () => {
    const owner = async (text: string): Promise<unknown> =>
      (await load({ 'files-folder': '/f', 'files-key-mode': '0640', 'files-owner': text })).files?.owner;
    assert.deepEqual(await owner('101:102'), { uid: 101, gid: 102 });
    assert.deepEqual(await owner('101'), { uid: 101, gid: null });
    assert.deepEqual(await owner(':102'), { uid: null, gid: 102 });
    assert.deepEqual(await owner('0:0'), { uid: 0, gid: 0 });
  });

  const wrong: readonly {
    name: string;
    flags?: Record<string, string>;
    env?: Record<string, string>;
    message: RegExp;
  }[] = [
    {
      name: 'an address without a port',
      flags: { 'ca-address': 'ca' },
      message: /^--ca-address: caAddress does not take "ca"$/,
    },
    { name: 'a port out of range', flags: { 'ca-address': 'ca:65536' }, message: /"ca:65536"/ },
    { name: 'an IPv6 address without brackets', flags: { 'ca-address': '::1:80' }, message: /"::1:80"/ },
    {
      name: 'a number in the environment that is none',
      env: { KEDGE_AGENT_MAX_STREAMS: '1e3' },
      message: /^KEDGE_AGENT_MAX_STREAMS: maxStreams does not take "1e3"$/,
    },
    {
      name: 'a number out of bounds',
      flags: { 'max-streams': '0' },
      message: /maxStreams does not take "0"/,
    },
    {
      name: 'a time out of bounds',
      flags: { 'issue-timeout': '1d' },
      message: /issueTimeout does not take "1d"/,
    },
    {
      name: 'a time without a unit',
      flags: { 'issue-timeout': '10' },
      message: /issueTimeout does not take "10"/,
    },
    {
      name: 'a mode that is not octal',
      flags: { 'socket-mode': '0888' },
      message: /socketMode does not take "0888"/,
    },
    {
      name: 'a mode with a sticky bit',
      flags: { 'socket-mode': '1777' },
      message: /socketMode does not take "1777"/,
    },
    {
      name: 'an owner by name',
      flags: { 'files-owner': 'nginx:nginx' },
      message: /filesOwner does not take/,
    },
    ...['4294967295:0', '0:4294967295', ':', '', '1:', '1:2:3', '-1:0', '1 : 2'].map((owner) => ({
      name: `the owner "${owner}"`,
      flags: { 'files-owner': owner },
      message: /filesOwner does not take/,
    })),
    { name: 'an unknown preset', flags: { 'files-preset': 'apache' }, message: /filesPreset does not take/ },
    {
      name: 'an unknown key format',
      flags: { 'files-key-format': 'pkcs1' },
      message: /filesKeyFormat does not/,
    },
    {
      name: 'a key that PostgreSQL would not take',
      flags: { 'files-folder': '/f', 'files-preset': 'postgresql', 'files-key-mode': '0660' },
      message: /^filesKeyMode 0660 is more than postgresql accepts$/,
    },
    {
      name: 'a key that everybody can read',
      flags: { 'files-folder': '/f', 'files-key-mode': '0644' },
      message: /^filesKeyMode 0644 lets everybody at the private key$/,
    },
    {
      name: "a key of HAProxy's that everybody can read",
      flags: { 'haproxy-folder': '/h', 'haproxy-sockets': '/s', 'haproxy-key-mode': '0604' },
      message: /^haproxyKeyMode 0604 lets everybody at the private key$/,
    },
    {
      name: "a group of HAProxy's that could not read the key",
      flags: { 'haproxy-folder': '/h', 'haproxy-sockets': '/s', 'haproxy-owner': ':101' },
      message: /^haproxyOwner names a group that could not read the key$/,
    },
    ...(
      [
        ['/f', '/f'],
        ['/f/haproxy', '/f'],
        ['/f', '/f/files'],
      ] as const
    ).map(([haproxy, files]) => ({
      name: `the folder ${haproxy} for HAProxy and ${files} for files`,
      flags: { 'haproxy-folder': haproxy, 'haproxy-sockets': '/s', 'files-folder': files },
      message: /are the same, or one is in the other$/,
    })),
    ...[
      '/run/é.sock',
      '/run/a b.sock',
      `/${'s'.repeat(107)}`,
      '127.0.0.1:99999',
      '127.0.0.1:0',
      'run/a.sock',
    ].map((socket) => ({
      name: `a HAProxy at "${socket.slice(0, 20)}"`,
      flags: { 'haproxy-folder': '/h', 'haproxy-sockets': socket },
      message: /^--haproxy-sockets: haproxySockets does not take/,
    })),
    {
      name: 'one path for two sockets',
      flags: { socket: '/s', 'istio-socket': '/s' },
      message: /^socket and istioSocket are the same$/,
    },
    {
      name: 'a group that could not read the key',
      flags: { 'files-folder': '/f', 'files-owner': ':101' },
      message: /names a group that could not read the key$/,
    },
    ...['haproxy', 'envoy'].map((preset) => ({
      name: `a process to signal for ${preset} without the signal`,
      flags: { 'files-folder': '/f', 'files-preset': preset, 'hook-pid-file': '/p' },
      message: new RegExp(`the preset ${preset} has no signal$`),
    })),
    { name: 'a hook as a shell line', flags: { hook: 'nginx -s reload' }, message: /hook does not take/ },
    { name: 'a hook without a program', flags: { hook: '[""]' }, message: /hook does not take/ },
    { name: 'a hook of numbers', flags: { hook: '[1]' }, message: /hook does not take/ },
    { name: 'an empty hook', flags: { hook: '[]' }, message: /hook does not take/ },
    { name: 'an unknown choice', flags: { 'log-level': 'trace' }, message: /logLevel does not take "trace"/ },
    {
      name: 'a flag that is neither',
      flags: { 'cache-allow-disk': 'yes' },
      message: /cacheAllowDisk does not take "yes"/,
    },
    { name: 'an empty path', flags: { 'token-file': '' }, message: /tokenFile does not take ""/ },
    { name: 'a path with a NUL', flags: { 'token-file': 'a\0b' }, message: /tokenFile does not take/ },
    {
      name: 'a trust domain that is none',
      flags: { 'trust-domain': 'Example.org' },
      message: /^trustDomain: /,
    },
    {
      name: 'a SPIFFE ID that is none',
      flags: { 'expected-spiffe-id': 'http://x' },
      message: /^expectedSpiffeId: /,
    },
    {
      name: 'a SPIFFE ID of another trust domain',
      flags: { 'expected-spiffe-id': 'spiffe://other.org/web' },
      message: /expectedSpiffeId is of "other.org"/,
    },
    {
      name: 'a DNS name that is none',
      flags: { 'dns-names': 'a.example.org,*.example.org' },
      message: /dnsNames does not take "\*\.example\.org"/,
    },
    {
      name: 'more DNS names than a CA takes',
      flags: { 'dns-names': Array.from({ length: 17 }, (_, i) => `n${i}.example.org`).join() },
      message: /dnsNames has 17 names/,
    },
    { name: 'a hook without files', flags: { hook: '["a"]' }, message: /without filesFolder/ },
    {
      name: 'a hook and a process to signal',
      flags: { 'files-folder': '/f', hook: '["a"]', 'hook-pid-file': '/p' },
      message: /both hook and hookPidFile/,
    },
  ];
  for (const { name, flags, env, message } of wrong) {
    it(`refuses ${name}, and says what is allowed`, async () => {
      const error = await expectRejection('config_invalid', load(flags, env));
      assert.match(error.message, message);
      assert.ok((error.hint ?? '').length > 0);
    });
  }

  for (const missing of Object.keys(REQUIRED)) {
    it(`refuses to go without ${missing}`, async () => {
      const flags = new Map(Object.entries(REQUIRED));
      flags.delete(missing);
      const error = await expectRejection('config_invalid', loadAgentConfig({ flags, env: {} }));
      assert.match(error.hint ?? '', new RegExp(`--${missing}`));
    });
  }

  const wrongFiles: readonly { name: string; content: string; message: RegExp }[] = [
    {
      name: 'with an unknown key',
      content: '{\n  "caAdress": "x:1"\n}',
      message: /line 2: "caAdress" is no setting$/,
    },
    { name: 'with __proto__', content: '{"__proto__": {"a": 1}}', message: /"__proto__" is no setting$/ },
    { name: 'with a key twice', content: '{"socket":"/a","socket":"/b"}', message: /stands twice/ },
    { name: 'with null', content: '{"maxStreams": null}', message: /line 1: maxStreams does not take null/ },
    {
      name: 'with an object',
      content: '{"hook": {"a": 1}}',
      message: /hook does not take null or an object/,
    },
    {
      name: 'with the wrong type',
      content: '{"maxStreams": "many"}',
      message: /maxStreams does not take "many"/,
    },
    { name: 'that is no object', content: '[]', message: /there is no JSON object/ },
    { name: 'that is no JSON', content: 'caAddress: x', message: /JSON/ },
    { name: 'that is empty', content: '', message: /JSON/ },
  ];
  for (const { name, content, message } of wrongFiles) {
    it(`refuses a file ${name}`, async () => {
      const error = await expectRejection('config_invalid', load({ config: fileWith(content) }));
      assert.match(error.message, message);
    });
  }

  it('refuses a file that is not there, or is too large', async () => {
    await expectRejection('file_unreadable', load({ config: join(folder, 'absent') }));
    await expectRejection('message_too_large', load({ config: fileWith(' '.repeat(2 ** 21)) }));
  });

  it('reads or refuses any text for any setting, with a code', () => {
    checkProperty(
      fc.property(
        fc.constantFrom(...AGENT_SETTING_LIST),
        fc.string({ unit: 'binary', maxLength: 60 }),
        (setting, text) => {
          try {
            readSettingValue(setting, text, 'test');
          } catch (error) {
            assert.ok(isKedgeError(error, 'config_invalid'), String(error));
          }
        },
      ),
      300,
    );
  });
});

describe('the table of settings', () => {
  it('names each setting once, in each of its forms', () => {
    for (const form of [flagOf, environmentNameOf, ({ key }: { key: string }) => key]) {
      const names = AGENT_SETTING_LIST.map(form);
      assert.equal(new Set(names).size, names.length);
    }
    assert.equal(flagOf({ key: 'caAddress' }), 'ca-address');
    assert.equal(environmentNameOf({ key: 'expectedSpiffeId' }), 'KEDGE_AGENT_EXPECTED_SPIFFE_ID');
  });

  for (const setting of AGENT_SETTING_LIST) {
    it(`takes its own default for ${setting.key}`, () => {
      if (setting.default !== undefined) readSettingValue(setting, setting.default, 'the default');
      assert.match(setting.help, /^[a-z].*[^.]$|^Unix|^HTTP|^JSON/);
    });
  }
});
