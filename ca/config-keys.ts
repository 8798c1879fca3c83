/** One key of the configuration file, for its documentation and for the command line. */
export interface ConfigKey {
  /** Dotted, as messages name it. */
  readonly key: string;
  /** What a value is: `duration`, `address`, `path`, `text`, `number`, `yes or no`, or the allowed words. */
  readonly value: string;
  /** As written in a file; what it follows from where it is not fixed. */
  readonly default: string;
  readonly means: string;
  /** The option of `kedge ca` that sets it, without dashes. */
  readonly flag?: string;
}

/** Every key of the CA's configuration. `docs/configuration.md` and the schema are held against it by tests. */
export const CONFIG_KEYS: readonly ConfigKey[] = [
  {
    key: 'trustDomain',
    value: 'trust domain',
    default: 'example.org',
    means: 'the trust domain whose identities this CA issues; fixed once the data folder has a trust state',
    flag: 'trust-domain',
  },
  {
    key: 'dataFolder',
    value: 'path',
    default: './.kedge',
    means: 'trust store, audit log, keys of the embedded backends and the admin socket; made with mode 0700',
    flag: 'data',
  },
  {
    key: 'logLevel',
    value: 'debug, info, warn, error',
    default: 'info',
    means: 'log lines below this level are dropped',
    flag: 'log-level',
  },
  {
    key: 'listen.grpc',
    value: 'address',
    default: '127.0.0.1:8443',
    means: 'where agents connect, by gRPC over TLS',
    flag: 'grpc-address',
  },
  {
    key: 'listen.http',
    value: 'address',
    default: '127.0.0.1:9443',
    means: 'where /metrics, /livez and /readyz are, in the clear',
    flag: 'http-address',
  },
  {
    key: 'svid.ttl',
    value: 'duration',
    default: '24h',
    means: 'lifetime of an X.509-SVID, and the longest that the policy file can give',
    flag: 'svid-ttl',
  },
  {
    key: 'svid.backdate',
    value: 'duration',
    default: '2m, or svid.ttl where that is shorter',
    means: 'how far before the present certificates begin, for peers whose clock is behind',
    flag: 'svid-backdate',
  },
  {
    key: 'svid.idTemplate',
    value: 'text',
    default: 'ns/{namespace}/sa/{serviceAccount}',
    means:
      "the path of a workload's SPIFFE ID; placeholders: namespace, serviceAccount, podName, podUid, cluster",
  },
  {
    key: 'svid.allowSharedIds',
    value: 'true, false',
    default: 'false',
    means:
      'lets svid.idTemplate leave out {namespace} or {serviceAccount}, so that several share one SPIFFE ID',
  },
  {
    key: 'issuer.lifetime',
    value: 'duration',
    default: '30d',
    means: 'lifetime of an issuer, the intermediate CA that signs SVIDs',
    flag: 'issuer-lifetime',
  },
  {
    key: 'issuer.renewAfter',
    value: 'duration',
    default: 'two thirds of issuer.lifetime',
    means:
      'age at which an issuer is replaced by the next one; what is left of its life must be svid.ttl or more',
    flag: 'issuer-renew-after',
  },
  {
    key: 'issuer.keyAlgorithm',
    value: 'ec-p256, ec-p384, rsa-3072',
    default: 'ec-p256',
    means: 'the key of new issuers',
  },
  {
    key: 'anchor.lifetime',
    value: 'duration',
    default: '1825d',
    means: 'lifetime of a new trust anchor',
    flag: 'anchor-lifetime',
  },
  {
    key: 'anchor.keyAlgorithm',
    value: 'ec-p256, ec-p384, rsa-3072',
    default: 'ec-p256',
    means: 'the key of new trust anchors',
  },
  {
    key: 'anchor.uriNameConstraints',
    value: 'true, false',
    default: 'false',
    means:
      'confines new trust anchors to their trust domain by a URI name constraint; not every TLS library takes one',
  },
  {
    key: 'bundle.refreshHint',
    value: 'duration',
    default: '5m',
    means: 'how often those who poll the bundle are to look for a new one',
  },
  {
    key: 'clockSkew',
    value: 'duration',
    default: '5m, or a tenth of issuer.lifetime where that is shorter',
    means: 'how far the clocks of replicas and agents may differ',
  },
  {
    key: 'attest.cluster',
    value: 'text',
    default: 'development',
    means: 'the cluster that the tokens come from, as audit log and SPIFFE ID template name it',
  },
  {
    key: 'attest.issuer',
    value: 'text',
    default: 'https://development-issuer.kedge.invalid',
    means: 'the `iss` of the tokens of the local development issuer, whose key is in the data folder',
  },
  {
    key: 'attest.audience',
    value: 'text',
    default: 'kedge',
    means: 'the audience that a token must be for',
    flag: 'audience',
  },
  {
    key: 'attest.leeway',
    value: 'duration',
    default: '30s',
    means: "tolerance between the token issuer's clock and the CA's, at most 5m",
  },
  {
    key: 'policy.file',
    value: 'path',
    default: 'none: every attested workload gets an SVID of svid.ttl',
    means: 'the policy: TTLs, key types, DNS names, deny list; followed while the CA runs',
    flag: 'policy',
  },
  {
    key: 'keys.sealingKeyFile',
    value: 'path',
    default: 'sealing-key in the data folder, made where it is missing',
    means: 'file with the 32 bytes that seal the CA keys in the trust store; readable by its owner alone',
  },
  {
    key: 'limits.queue',
    value: 'number',
    default: '4096',
    means: 'requests for an SVID that may wait',
  },
  {
    key: 'limits.instanceQueue',
    value: 'number',
    default: '8',
    means: 'requests of one workload instance that may wait',
  },
  {
    key: 'limits.connections',
    value: 'number',
    default: '20000',
    means: 'connections to listen.grpc; more are dropped when they arrive',
  },
  {
    key: 'limits.connectionsPerAddress',
    value: 'number',
    default: '512',
    means: 'the same for each IP address; a node whose pods share its address needs two for each pod',
  },
  {
    key: 'limits.watchStreams',
    value: 'number',
    default: '20000',
    means: 'Watch streams',
  },
  {
    key: 'limits.instances',
    value: 'number',
    default: '100000',
    means: 'workload instances whose coverage is remembered',
  },
  {
    key: 'limits.renewalsPerSecond',
    value: 'number',
    default: '500',
    means: 'how many renewals a second the CA asks agents for when an issuer was replaced',
  },
  {
    key: 'drain.timeout',
    value: 'duration',
    default: '20s',
    means: 'how long a CA that was told to end answers what waits before it cuts what is left',
    flag: 'drain-timeout',
  },
];
