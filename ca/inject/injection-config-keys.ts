import type { ConfigKey } from '../config-key.ts';

/** The keys `webhook` and `injection`: how the agent gets into pods. */
export const INJECTION_CONFIG_KEYS: readonly ConfigKey[] = [
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
];
