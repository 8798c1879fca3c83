import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type CaConfig, configOf, loadCaConfig } from '../../../ca/config.ts';
import { CONFIG_KEYS } from '../../../ca/config-keys.ts';
import { configSchema, readFlags, readSettings } from '../../../ca/config-schema.ts';
import { isKedgeError } from '../../../pki/kedge-error.ts';
import { expectCode, expectRejection } from '../../support/expect-code.ts';
import { checkProperty } from '../../support/property.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';

const DAY_MS = 86_400_000;
const yaml = (text: string): CaConfig => configOf(readSettings(text, 'ca.yaml', {}), '/etc/kedge');

describe('the configuration', () => {
  it('has a default for everything', () => {
    const config = configOf({}, '/work');
    assert.equal(config.trustDomain.name, 'example.org');
    assert.deepEqual(
      {
        ...config,
        trustDomain: undefined,
        svid: { ...config.svid, idTemplate: config.svid.idTemplate.toString() },
      },
      {
        trustDomain: undefined,
        dataFolder: '/work/.kedge',
        logLevel: 'info',
        listen: { grpc: { host: '127.0.0.1', port: 8443 }, http: { host: '127.0.0.1', port: 9443 } },
        svid: { ttlMs: DAY_MS, backdateMs: 120_000, idTemplate: 'ns/{namespace}/sa/{serviceAccount}' },
        issuer: {
          lifetimeMs: 30 * DAY_MS,
          renewAfterMs: 20 * DAY_MS,
          keyAlgorithm: 'ec-p256',
          keyManager: 'store',
        },
        anchor: {
          lifetimeMs: 1825 * DAY_MS,
          renewAfterMs: Math.floor((1825 * DAY_MS * 2) / 3),
          keyAlgorithm: 'ec-p256',
          keyManager: 'store',
          uriNameConstraints: false,
        },
        rotation: { automatic: true, evidence: 'best' },
        refreshHintSeconds: 300,
        clockSkewMs: 300_000,
        attest: {
          cluster: 'development',
          issuer: 'https://development-issuer.kedge.invalid',
          audience: 'kedge',
          leewayMs: 30_000,
          kind: 'development',
          unbound: 'refuse',
          reviewReuseMs: 5_000,
          reviewsAtOnce: 32,
          issuers: [],
        },
        webhook: null,
        injection: {
          trustDomain: 'example.org',
          caAddress: 'kedge-ca.kedge.svc:8443',
          audience: 'kedge',
          tokenTtlSeconds: 3_600,
          bundle: { kind: 'config-map', name: 'kedge-trust-bundle', key: 'bundle.pem' },
          image: 'kedge:0.1.0',
          imagePullPolicy: 'IfNotPresent',
          sidecar: 'auto',
          logLevel: 'info',
          resources: { cpuRequest: '10m', memoryRequest: '80Mi', cpuLimit: null, memoryLimit: '160Mi' },
          userId: 65_532,
          httpHost: '0.0.0.0',
          httpPort: 15_940,
        },
        kubernetes: { kubeconfig: null, context: null, timeoutMs: 10_000, connections: 64 },
        upstream: { kind: 'self', disk: null, vault: null, kedge: null },
        downstream: null,
        policyFile: null,
        store: { kind: 'sqlite' },
        sealingKey: { kind: 'file', path: '/work/.kedge/sealing-key', mayCreate: true },
        otherSealingKeys: [],
        transit: null,
        pkcs11: null,
        replica: hostname(),
        audit: { standardOutput: false },
        limits: {
          queue: 4096,
          instanceQueue: 8,
          connections: 20_000,
          connectionsPerAddress: 512,
          watchStreams: 20_000,
          instances: 100_000,
          renewalsPerSecond: 500,
        },
        drainTimeoutMs: 20_000,
      },
    );
  });

  it('keeps trust state and sealing key in Secrets when it is told to, and never makes a key file for several', () => {
    const kubernetes = yaml('store: {kind: kubernetes}');
    assert.deepEqual(kubernetes.store, { kind: 'kubernetes', secret: 'kedge-trust-state' });
    assert.deepEqual(kubernetes.sealingKey, { kind: 'secret', name: 'kedge-sealing-key' });
    const named = yaml(
      'store: {kind: kubernetes, secret: a}\nkeys: {sealingKeySecret: b}\nfleet: {replica: c}',
    );
    assert.deepEqual(
      [named.store, named.sealingKey, named.replica],
      [{ kind: 'kubernetes', secret: 'a' }, { kind: 'secret', name: 'b' }, 'c'],
    );
    const file = yaml('store: {kind: kubernetes}\nkeys: {sealingKeyFile: /run/key}');
    assert.deepEqual(file.sealingKey, { kind: 'file', path: '/run/key', mayCreate: false });
  });

  it('takes a token for the keys of anchors, of issuers, or of both', () => {
    const { anchor, issuer, pkcs11 } = yaml(
      'anchor: {keyManager: pkcs11}\nkeys: {pkcs11: {module: /lib/p11.so, token: kedge, pinFile: /run/pin}}',
    );
    assert.deepEqual([anchor.keyManager, issuer.keyManager], ['pkcs11', 'store']);
    assert.deepEqual(pkcs11, {
      module: '/lib/p11.so',
      token: 'kedge',
      pinFile: '/run/pin',
      timeoutMs: 10_000,
    });
  });

  it('takes a CA in files, with a default for all but its certificate and key', () => {
    const disk = { certificateFile: 'tls.crt', keyFile: '/etc/tls.key' };
    const settings = yaml(`upstream: {kind: disk, disk: ${JSON.stringify(disk)}}`).upstream;
    assert.equal(settings.kind, 'disk');
    const { certificateFile, ...others } = settings.disk ?? assert.fail('no files');
    assert.match(certificateFile, /^\/.*\/tls\.crt$/);
    assert.deepEqual(others, {
      mode: 'intermediate',
      keyFile: '/etc/tls.key',
      passphraseFile: null,
      anchorsFile: null,
      pollMs: 2_000,
    });
    // What the CA moves away from stays configured beside what it moves to.
    assert.notEqual(yaml(`upstream: {kind: self, disk: ${JSON.stringify(disk)}}`).upstream.disk, null);
  });

  const misplaced = [
    { text: 'store: {secret: a}', want: /store\.secret: is only of use with store\.kind kubernetes/ },
    { text: 'keys: {sealingKeySecret: a}', want: /keys\.sealingKeySecret: is only of use with/ },
    {
      text: 'store: {kind: kubernetes}\nkeys: {sealingKeySecret: a, sealingKeyFile: b}',
      want: /keys\.sealingKeySecret: excludes keys\.sealingKeyFile/,
    },
    {
      text: 'anchor: {keyManager: pkcs11}',
      want: /anchor\.keyManager: pkcs11 needs a token: set keys\.pkcs11/,
    },
    { text: 'keys: {pkcs11: {module: a, token: b}}', want: /keys\.pkcs11\.pinFile/ },
    { text: 'upstream: {kind: disk}', want: /upstream\.kind: disk needs the files: set upstream\.disk/ },
    { text: 'upstream: {disk: {keyFile: a}}', want: /upstream\.disk\.certificateFile/ },
    {
      text: `downstream: {address: 'a:1', allow: ['spiffe://e.org/${'x'.repeat(800)}']}`,
      want: /over 800 characters/,
    },
    { text: 'downstream: {allow: ["spiffe://e.org/a"]}', want: /downstream\.allow: is only of use with/ },
    { text: 'store: {kind: etcd}', want: /store\.kind/ },
    { text: 'store: {kind: kubernetes, secret: ../x}', want: /store\.secret: not a name of Kubernetes/ },
  ];
  for (const { text, want } of misplaced) {
    it(`of ${text.replace('\n', ', ')} is refused`, () => {
      assert.match(expectCode('config_invalid', () => yaml(text)).message, want);
    });
  }

  it('of an empty file is the one without a file', () => {
    assert.deepEqual(yaml(''), configOf({}, '/etc/kedge'));
  });

  it('cannot be changed', () => {
    const config = configOf({}, '/');
    assert.throws(() => Object.assign(config, { drainTimeoutMs: 1 }), TypeError);
    assert.throws(() => Object.assign(config.listen.grpc, { port: 1 }), TypeError);
  });

  it('follows the lifetimes that were given', () => {
    const config = yaml('svid: {ttl: 10s}\nissuer: {lifetime: 1m}\nanchor: {lifetime: 1h}');
    assert.deepEqual(
      [config.svid.backdateMs, config.issuer.renewAfterMs, config.clockSkewMs],
      [10_000, 40_000, 6_000],
    );
  });

  it('reads IPv6 addresses, host names and port 0', () => {
    const { listen } = yaml('listen: {grpc: "[::1]:0", http: "localhost:65535"}');
    assert.deepEqual(listen, { grpc: { host: '::1', port: 0 }, http: { host: 'localhost', port: 65_535 } });
  });

  it('tells the injection what it says elsewhere, and the webhook where it is', () => {
    const { webhook, injection } = yaml(
      'trustDomain: prod.test\nattest: {audience: other}\nwebhook: {address: "0.0.0.0:9444", namespace: mesh}\ninjection: {clusterTrustBundle: true, httpPort: 0}',
    );
    assert.deepEqual(webhook, {
      address: { host: '0.0.0.0', port: 9444 },
      configuration: 'kedge',
      namespace: 'mesh',
      service: 'kedge-ca',
      servicePort: 443,
      url: null,
      failurePolicy: 'Fail',
      timeoutMs: 5_000,
    });
    assert.equal(injection.trustDomain, 'prod.test');
    assert.equal(injection.audience, 'other');
    assert.equal(injection.caAddress, 'kedge-ca.mesh.svc:8443');
    assert.deepEqual(injection.bundle, { kind: 'cluster-trust-bundle', name: 'kedge-trust-bundle' });
    assert.equal(injection.httpPort, null);
  });

  const refusals: readonly {
    readonly name: string;
    readonly text: string;
    readonly want: readonly RegExp[];
  }[] = [
    {
      name: 'an unknown key, with its place and those that there are',
      text: 'trustDomain: a.test\ntrustDomian: b.test\n',
      want: [/^ca\.yaml:\d+:\d+: .*unknown key "trustDomian"; allowed: trustDomain, dataFolder/],
    },
    {
      name: 'what an annotation would not take either',
      text: 'injection: {image: "a b", tokenTtl: 1m, cpuRequest: lots, userId: 0}\nwebhook: {namespace: A, url: "http://x/mutate", timeout: 60s}\n',
      want: [
        /injection\.image: "a b" is not an image/,
        /injection\.tokenTtl: "1m" is not within 10m and 1d/,
        /injection\.cpuRequest: "lots" is not a quantity/,
        /injection\.userId/,
        /webhook\.namespace: not a name of Kubernetes/,
        /webhook\.url: not an https URL/,
        /webhook\.timeout: "60s" is not within 1s and 30s/,
      ],
    },
    {
      name: 'an unknown key within a group',
      text: 'svid:\n  ttl: 1h\n  lifetime: 2h\n',
      want: [/svid: unknown key "lifetime"; allowed: ttl, backdate, idTemplate, allowSharedIds/],
    },
    {
      name: 'a number for a duration',
      text: 'svid: {ttl: 3600}',
      want: [/^ca\.yaml:1:13: svid\.ttl: 3600 is not a string/],
    },
    {
      name: 'a duration without a unit',
      text: 'svid: {ttl: "3600"}',
      want: [/svid\.ttl: "3600" is not a duration; a duration is/],
    },
    {
      name: 'a duration with a fraction of a second',
      text: 'svid: {ttl: 1500ms}',
      want: [/"1500ms" is not a whole number of seconds/],
    },
    { name: 'a TTL of zero', text: 'svid: {ttl: 0s}', want: [/svid\.ttl: "0s" is not within 1s and 366d/] },
    {
      name: 'an address without a port',
      text: 'listen: {grpc: localhost}',
      want: [/listen\.grpc: "localhost" is not an address; write host:port/],
    },
    { name: 'port 65536', text: 'listen: {grpc: "localhost:65536"}', want: [/not an address/] },
    {
      name: 'a key algorithm that there is not',
      text: 'issuer: {keyAlgorithm: ed25519}',
      want: [/"ed25519" is not one of ec-p256, ec-p384, rsa-3072/],
    },
    {
      name: 'a trust domain in capitals',
      text: 'trustDomain: Example.org',
      want: [/^ca\.yaml:1:14: trustDomain: /],
    },
    { name: 'a list for a group', text: 'svid: []', want: [/svid: a list is not a mapping/] },
    { name: 'an empty group', text: 'svid:', want: [/svid: an empty value is not a mapping/] },
    {
      name: 'yes in quotes for true',
      text: 'svid: {allowSharedIds: "yes"}',
      want: [/allowSharedIds: "yes" is not a boolean/],
    },
    { name: 'oidc without an issuer', text: 'attest: {kind: oidc}', want: [/name at least one issuer/] },
    {
      name: 'issuers for another kind of attestation',
      text: 'attest: {kind: tokenReview, issuers: [{issuer: "https://a", cluster: a}]}',
      want: [/attest\.issuers: attest\.kind is tokenReview/],
    },
    {
      name: 'two clusters of one name, a key location without what it needs, and one with what it does not',
      text: 'svid: {idTemplate: "{cluster}/{namespace}/{serviceAccount}"}\nattest: {kind: oidc, issuers: [{issuer: "https://a", cluster: a, keysFile: x}, {issuer: b, cluster: a}, {issuer: b, cluster: c, keys: url}]}',
      want: [
        /keysFile belongs to keys: file/,
        /two issuers of the cluster "a"/,
        /"b" is no https URL/,
        /keysUrl belongs to keys: url/,
      ],
    },
    {
      name: 'a review of tokens that are for another audience than the one that is asked for',
      text: 'attest: {kind: oidc, issuers: [{issuer: "https://a", cluster: a, audience: mesh, tokenReview: true}]}',
      want: [/tokenReview asks our own API server for attest.audience, "kedge".*"mesh"/],
    },
    {
      name: 'two clusters whose workloads could have one SPIFFE ID',
      text: 'attest: {kind: oidc, issuers: [{issuer: "https://a", cluster: a}, {issuer: "https://b", cluster: b}]}',
      want: [/clusters "a" and "b" can get the same SPIFFE ID/],
    },
    {
      name: 'unbound tokens under a template that names the pod',
      text: 'svid: {idTemplate: "{namespace}/{serviceAccount}/{podUid}"}\nattest: {allowUnboundTokens: true}',
      want: [/allowUnboundTokens: a SPIFFE ID template names the pod/],
    },
    {
      name: 'reviews that are good for longer',
      text: 'attest: {reviewReuse: 11s}',
      want: [/not within 0s and 10s|not within/],
    },
    { name: 'a limit of zero', text: 'limits: {queue: 0}', want: [/limits\.queue: /] },
    {
      name: 'a limit with a fraction',
      text: 'limits: {queue: 1.5}',
      want: [/limits\.queue: 1\.5 is not a whole number/],
    },
    { name: 'an empty path', text: 'policy: {file: ""}', want: [/policy\.file: an empty path/] },
    { name: 'a key twice', text: 'logLevel: info\nlogLevel: debug\n', want: [/^ca\.yaml:2:1: /] },
    { name: 'an alias', text: 'svid: &a {ttl: 1h}\nissuer: *a\n', want: [/aliases/] },
    { name: 'two documents', text: 'logLevel: info\n---\nlogLevel: debug\n', want: [/ca\.yaml/] },
    {
      name: '__proto__ as a key',
      text: '__proto__: {logLevel: debug}',
      want: [/unknown key "__proto__"|__proto__/],
    },
    {
      name: 'a leeway over five minutes',
      text: 'attest: {leeway: 6m}',
      want: [/attest\.leeway: "6m" is not within/],
    },
    {
      name: 'an SVID that outlives what is left of its issuer',
      text: 'issuer:\n  lifetime: 30d\nsvid:\n  ttl: 11d\n',
      want: [/^ca\.yaml:4:\d+: svid\.ttl: 11d is over what is left of an issuer when it is replaced, 10d/],
    },
    {
      name: 'an issuer that is replaced after its end',
      text: 'issuer: {lifetime: 2d, renewAfter: 2d}',
      want: [/issuer\.renewAfter: 2d is not below issuer\.lifetime, 2d/],
    },
    {
      name: 'an issuer that outlives its anchor',
      text: 'anchor: {lifetime: 10d}',
      want: [/issuer\.lifetime: 30d is over anchor\.lifetime, 10d/],
    },
    {
      name: 'a backdate over the TTL',
      text: 'svid: {ttl: 1m, backdate: 2m}',
      want: [/svid\.backdate: 2m is over svid\.ttl, 1m/],
    },
    {
      name: 'a template that lets ServiceAccounts share an ID',
      text: 'svid: {idTemplate: "ns/{namespace}"}',
      want: [/svid\.idTemplate: /],
    },
    {
      name: 'several things, all of them told',
      text: 'logLevel: loud\nlisten: {grpc: here}\nsvid: {ttl: soon}\n',
      want: [
        /:1:11: logLevel: "loud" is not one of debug, info, warn, error/,
        /:2:16: listen\.grpc/,
        /:3:13: svid\.ttl/,
      ],
    },
  ];
  for (const { name, text, want } of refusals) {
    it(`refuses ${name}`, () => {
      const { message } = expectCode('config_invalid', () => readSettings(text, 'ca.yaml', {}));
      for (const pattern of want) assert.match(message, pattern);
    });
  }

  it('takes a template that shares IDs when that is said', () => {
    const config = yaml('svid: {idTemplate: "ns/{namespace}", allowSharedIds: true}');
    assert.equal(config.svid.idTemplate.toString(), 'ns/{namespace}');
  });

  it('has in its schema exactly the keys that are documented', () => {
    // The schema itself says which keys it takes: when it refuses one.
    const members = new Map<string, Set<string>>();
    for (const { key } of CONFIG_KEYS) {
      const names = key.split('.');
      for (const [depth, name] of names.entries()) {
        const group = names.slice(0, depth).join('.');
        members.set(group, (members.get(group) ?? new Set()).add(name));
      }
    }
    const allowed = (value: unknown): string[] => {
      const result = configSchema.safeParse(value);
      const message = result.error?.issues.map((issue) => issue.message).join() ?? '';
      return (/allowed: (.*)$/.exec(message)?.[1] ?? '').split(', ').sort();
    };
    for (const [group, names] of members) {
      const path = group === '' ? [] : group.split('.');
      const nonsense = path.reduceRight<unknown>((inner, name) => ({ [name]: inner }), { nonsense: 1 });
      assert.deepEqual(allowed(nonsense), [...names].sort(), group);
    }
  });

  it('of any text is read or refused with config_invalid', () => {
    const line = fc.oneof(
      fc.string({ maxLength: 30 }),
      fc
        .tuple(
          fc.constantFrom(...CONFIG_KEYS.map(({ key }) => key.split('.')[0] ?? '')),
          fc.string({ maxLength: 20 }),
        )
        .map(([key, value]) => `${key}: ${value}`),
    );
    checkProperty(
      fc.property(fc.array(line, { maxLength: 6 }), (lines) => {
        try {
          configOf(readSettings(lines.join('\n'), 'ca.yaml', {}), '/');
        } catch (error) {
          assert.ok(isKedgeError(error, 'config_invalid'), String(error));
        }
      }),
      300,
    );
  });
});

describe('the command line of the CA', () => {
  it('is read by the same rules, its problems told by option', () => {
    const flags = new Map([
      ['svid.ttl', 'soon'],
      ['listen.grpc', 'here'],
      ['limits.queue', 'many'],
    ]);
    const { message } = expectCode('config_invalid', () => readFlags(flags));
    assert.match(message, /--svid-ttl: "soon" is not a duration/);
    assert.match(message, /--grpc-address: "here" is not an address/);
    assert.match(message, /limits\.queue: /);
  });

  it('tells what excludes one another without a file', async () => {
    const flags = new Map([['svid.ttl', '20d']]);
    const { message } = await expectRejection('config_invalid', loadCaConfig({ flags }));
    assert.match(message, /^svid\.ttl: 20d is over what is left of an issuer/);
  });

  it('wins over the file, key by key, also where values are weighed', async (t) => {
    const folder = temporaryFolder(t);
    const file = join(folder, 'ca.yaml');
    // By itself the file would be refused: 24h SVIDs from issuers of an hour.
    writeFileSync(file, 'issuer: {lifetime: 1h}\nsvid: {backdate: 1s}\ndataFolder: data\n');
    await expectRejection('config_invalid', loadCaConfig({ file }));
    const config = await loadCaConfig({ file, flags: new Map([['svid.ttl', '5m']]) });
    assert.deepEqual(
      [config.svid.ttlMs, config.svid.backdateMs, config.issuer.lifetimeMs, config.dataFolder],
      [300_000, 1_000, 3_600_000, join(folder, 'data')],
    );
  });

  it('has paths from where it was typed, a file from where it lies', async (t) => {
    const folder = temporaryFolder(t);
    const file = join(folder, 'ca.yaml');
    writeFileSync(file, 'policy: {file: policy.yaml}\nkeys: {sealingKeyFile: ../key}\n');
    const config = await loadCaConfig({ file, flags: new Map([['dataFolder', 'here']]) });
    assert.deepEqual(
      [config.policyFile, config.sealingKey, config.dataFolder],
      [
        join(folder, 'policy.yaml'),
        { kind: 'file', path: join(folder, '../key'), mayCreate: true },
        join(process.cwd(), 'here'),
      ],
    );
  });
});

describe('the configuration file', () => {
  it('that cannot be read is told', async () => {
    const error = await expectRejection('file_unreadable', loadCaConfig({ file: '/nonexistent/ca.yaml' }));
    assert.match(error.message, /"\/nonexistent\/ca\.yaml"/);
  });

  it('that is not UTF-8, or over 1 MiB, is refused', async (t) => {
    const file = join(temporaryFolder(t), 'ca.yaml');
    writeFileSync(file, Buffer.from('logLevel: \xff', 'latin1'));
    assert.match((await expectRejection('config_invalid', loadCaConfig({ file }))).message, /not UTF-8/);
    writeFileSync(file, `# ${'x'.repeat(1024 * 1024)}`);
    assert.match(
      (await expectRejection('config_invalid', loadCaConfig({ file }))).message,
      /over 1048576 bytes/,
    );
  });
});
