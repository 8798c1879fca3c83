import type { ConfigKey } from './config-key.ts';
import { INJECTION_CONFIG_KEYS } from './inject/injection-config-keys.ts';
import { PKCS11_CONFIG_KEYS } from './keys/pkcs11/pkcs11-config-keys.ts';
import { DOWNSTREAM_CONFIG_KEYS } from './upstream/kedge/kedge-config-keys.ts';
import { UPSTREAM_CONFIG_KEYS } from './upstream/upstream-config-keys.ts';

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
    key: 'issuer.keyManager',
    value: 'store, pkcs11',
    default: 'store',
    means:
      'where the keys of new issuers are made: sealed in the trust state, or in the PKCS#11 token of keys.pkcs11',
  },
  {
    key: 'anchor.lifetime',
    value: 'duration',
    default: '1825d',
    means: 'lifetime of a new trust anchor',
    flag: 'anchor-lifetime',
  },
  {
    key: 'anchor.renewAfter',
    value: 'duration',
    default: 'two thirds of anchor.lifetime',
    means: 'age at which a trust anchor of our own is rotated by itself; those of other upstreams never are',
  },
  {
    key: 'anchor.keyAlgorithm',
    value: 'ec-p256, ec-p384, rsa-3072',
    default: 'ec-p256',
    means: 'the key of new trust anchors',
  },
  {
    key: 'anchor.keyManager',
    value: 'store, pkcs11',
    default: 'store',
    means:
      'where the keys of new trust anchors are made: sealed in the trust state, or in the PKCS#11 token of keys.pkcs11',
  },
  {
    key: 'anchor.uriNameConstraints',
    value: 'true, false',
    default: 'false',
    means:
      'confines new trust anchors to their trust domain by a URI name constraint; not every TLS library takes one',
  },
  ...UPSTREAM_CONFIG_KEYS,
  ...DOWNSTREAM_CONFIG_KEYS,
  {
    key: 'rotation.automatic',
    value: 'true, false',
    default: 'true',
    means:
      'whether a rotation of the trust anchor begins by itself: by its age, or as the upstream authority has another one, or is another; false waits for kedge rotate start',
  },
  {
    key: 'rotation.evidence',
    value: 'best, proven',
    default: 'best',
    means:
      'what lets a rotation go on: the best evidence that each feed can give, or a handshake of every agent with its own proxy',
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
    key: 'attest.kind',
    value: 'development, tokenReview, oidc',
    default: 'development',
    means:
      'who says whose a token is: the local development issuer, the Kubernetes API server, or the keys of attest.issuers',
  },
  {
    key: 'attest.cluster',
    value: 'text',
    default: 'development, or kubernetes where attest.kind is tokenReview or oidc',
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
  ...INJECTION_CONFIG_KEYS,
  {
    key: 'attest.allowUnboundTokens',
    value: 'true, false',
    default: 'false',
    means:
      'takes tokens that are bound to no pod: all that hold one of a ServiceAccount then count as one workload instance',
  },
  {
    key: 'attest.reviewReuse',
    value: 'duration',
    default: '5s',
    means:
      'how long a TokenReview is good for, at most 10s; a deleted pod has this long more than the 10s that the API server gives it',
  },
  {
    key: 'attest.reviewsAtOnce',
    value: 'number',
    default: '32',
    means: 'TokenReviews that go on at once; others wait',
  },
  {
    key: 'attest.issuers',
    value: 'list',
    default: 'none',
    means: 'the clusters whose tokens are taken where attest.kind is oidc; see below',
  },
  {
    key: 'kubernetes.kubeconfig',
    value: 'path',
    default: "none: the pod's own cluster, else KUBECONFIG, else ~/.kube/config",
    means: 'the kubeconfig through which the Kubernetes API server is found, where something here needs it',
  },
  {
    key: 'kubernetes.context',
    value: 'text',
    default: 'current-context of the kubeconfig',
    means: 'the context of the kubeconfig',
  },
  {
    key: 'kubernetes.timeout',
    value: 'duration',
    default: '10s',
    means: 'how long the API server may take to answer one call',
  },
  {
    key: 'kubernetes.connections',
    value: 'number',
    default: '64',
    means: 'calls to the API server that go on at once; more wait, nothing else is throttled',
  },
  {
    key: 'policy.file',
    value: 'path',
    default: 'none: every attested workload gets an SVID of svid.ttl',
    means: 'the policy: TTLs, key types, DNS names, deny list; followed while the CA runs',
    flag: 'policy',
  },
  {
    key: 'store.kind',
    value: 'sqlite, kubernetes',
    default: 'sqlite',
    means:
      'where the trust state is: a file in the data folder, or a Secret that the replicas of one cluster share; with kubernetes the CA also keeps the trust bundle in the meshed namespaces and knows its fleet by the pods',
    flag: 'store',
  },
  {
    key: 'store.secret',
    value: 'name',
    default: 'kedge-trust-state',
    means: 'the Secret with the trust state, in the namespace of the CA; a ConfigMap of that name marks it',
  },
  {
    key: 'keys.sealingKeyFile',
    value: 'path',
    default: 'sealing-key in the data folder, made where it is missing; with store.kind kubernetes: none',
    means: 'file with the 32 bytes that seal the CA keys in the trust store; readable by its owner alone',
  },
  {
    key: 'keys.sealingKeySecret',
    value: 'name',
    default: 'kedge-sealing-key, with store.kind kubernetes and without keys.sealingKeyFile',
    means:
      'the Secret with the sealing key, in the namespace of the CA; made while there is no trust state yet',
  },
  {
    key: 'keys.otherSealingKeyFiles',
    value: 'list of paths',
    default: 'none',
    means:
      'files with sealing keys that keys in the trust state may still, or already, be sealed under; for a change of the sealing key',
  },
  {
    key: 'keys.otherSealingKeySecrets',
    value: 'list of names',
    default: 'none',
    means: 'the same in Secrets, with store.kind kubernetes',
  },
  {
    key: 'keys.transit.key',
    value: 'name',
    default: 'none',
    means:
      "the key of Vault's transit engine that seals the sealing key in its file; Vault is reached as upstream.vault says, whatever upstream.kind is",
  },
  {
    key: 'keys.transit.mount',
    value: 'path',
    default: 'transit',
    means: 'where the transit engine is mounted',
  },
  ...PKCS11_CONFIG_KEYS,
  {
    key: 'fleet.replica',
    value: 'name',
    default: 'the host name, which in a pod is its name',
    means: 'what this replica is called among those that share a trust state in the Kubernetes API',
  },
  {
    key: 'audit.standardOutput',
    value: 'true, false',
    default: 'false',
    means:
      "writes each line of the audit log to standard output as well, once it is durable in the data folder: for the cluster's log collector",
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
