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

/** The keys of one of `attest.issuers`, in the same way. */
export const ISSUER_KEYS: readonly ConfigKey[] = [
  { key: 'issuer', value: 'text', default: 'required', means: 'the `iss` of its tokens, exactly' },
  {
    key: 'cluster',
    value: 'text',
    default: 'required',
    means: 'its name, in the audit log and for {cluster} in the SPIFFE ID template; no two have the same',
  },
  {
    key: 'audience',
    value: 'text',
    default: 'attest.audience',
    means: 'the audience that its tokens must be for',
  },
  {
    key: 'idTemplate',
    value: 'text',
    default: 'svid.idTemplate',
    means: 'the path of the SPIFFE IDs of its workloads',
  },
  {
    key: 'keys',
    value: 'discovery, kubernetes, url, file',
    default: 'discovery',
    means:
      "where its keys are: where OpenID Connect Discovery at the issuer's URL says, at our own API server, at keysUrl, in keysFile",
  },
  { key: 'keysUrl', value: 'https URL', default: 'none', means: 'the JWK Set, for keys: url' },
  {
    key: 'keysFile',
    value: 'path',
    default: 'none',
    means: 'a file with the JWK Set, for keys: file; read again every 10s',
  },
  {
    key: 'authoritiesFile',
    value: 'path',
    default: 'the CAs that Node trusts',
    means: 'PEM certificates that the server must chain to, for keys: discovery and url',
  },
  {
    key: 'tokenFile',
    value: 'path',
    default: 'none',
    means: 'a bearer token to present there; to the first host only, where discovery leads to another',
  },
  {
    key: 'tokenReview',
    value: 'true, false',
    default: 'false',
    means:
      'asks our own API server as well, after the signature was verified, so that the pod must still be there',
  },
];

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
  {
    key: 'webhook.address',
    value: 'address',
    default: 'none: no webhook',
    means: 'where the API server finds the webhook that injects the agent, by HTTPS',
  },
  {
    key: 'webhook.configuration',
    value: 'text',
    default: 'kedge',
    means:
      'the MutatingWebhookConfiguration that is kept as it should be, with the trust anchors in its caBundle',
  },
  {
    key: 'webhook.namespace',
    value: 'text',
    default: 'kedge',
    means: 'the namespace of the CA, where nothing is injected',
  },
  {
    key: 'webhook.service',
    value: 'text',
    default: 'kedge-ca',
    means: 'the Service of the CA in that namespace, through which the API server finds the webhook',
  },
  {
    key: 'webhook.servicePort',
    value: 'number',
    default: '443',
    means: 'the port of that Service that leads to the webhook',
  },
  {
    key: 'webhook.url',
    value: 'text',
    default: 'none: by the Service',
    means:
      'for an API server outside the network of the cluster: https URL of the webhook, with the path /mutate',
  },
  {
    key: 'webhook.failurePolicy',
    value: 'Fail, Ignore',
    default: 'Fail',
    means:
      'what becomes of a new pod in a meshed namespace while no replica answers: Fail refuses it, Ignore starts it without an agent',
  },
  {
    key: 'webhook.timeout',
    value: 'duration',
    default: '5s',
    means: 'how long the API server waits for an answer of the webhook, at most 30s',
  },
  {
    key: 'injection.image',
    value: 'image',
    default: 'kedge:<version of the CA>',
    means: 'the image of injected agents',
  },
  {
    key: 'injection.imagePullPolicy',
    value: 'Always, IfNotPresent, Never',
    default: 'IfNotPresent',
    means: 'when that image is pulled',
  },
  {
    key: 'injection.caAddress',
    value: 'address',
    default: '<webhook.service>.<webhook.namespace>.svc:8443',
    means: 'where injected agents find the CA',
  },
  {
    key: 'injection.sidecar',
    value: 'auto, native, container',
    default: 'auto',
    means:
      'whether agents are native sidecars; auto asks the version of the API server; on 1.28 native needs its feature gate, and every kubelet must be 1.29 or newer',
  },
  {
    key: 'injection.tokenTtl',
    value: 'duration',
    default: '1h',
    means: 'lifetime of the projected tokens of agents, 10m or more; the kubelet renews them',
  },
  {
    key: 'injection.clusterTrustBundle',
    value: 'true, false',
    default: 'false',
    means:
      'takes the trust bundle of agents from the ClusterTrustBundle, not from the ConfigMap; kubelets need its feature gates',
  },
  {
    key: 'injection.logLevel',
    value: 'debug, info, warn, error',
    default: 'info',
    means: 'log level of injected agents',
  },
  {
    key: 'injection.cpuRequest',
    value: 'quantity',
    default: '10m',
    means: 'CPU that an injected agent requests',
  },
  {
    key: 'injection.memoryRequest',
    value: 'quantity',
    default: '80Mi',
    means: 'memory that an injected agent requests',
  },
  {
    key: 'injection.memoryLimit',
    value: 'quantity',
    default: '160Mi',
    means: 'memory that an injected agent may use',
  },
  {
    key: 'injection.userId',
    value: 'number',
    default: '65532',
    means: 'user and group that injected agents run as',
  },
  {
    key: 'injection.httpHost',
    value: '0.0.0.0, [::]',
    default: '0.0.0.0',
    means: 'where in its pod an injected agent serves HTTP; [::] where pods have IPv6',
  },
  {
    key: 'injection.httpPort',
    value: 'number',
    default: '15940',
    means:
      'port of /metrics, /livez and /readyz of injected agents; 0 = not served, and startup is probed by the socket',
  },
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
