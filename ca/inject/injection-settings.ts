import { AGENT_NODE_OPTIONS } from '../../host/node-options.ts';

/** How the agent goes into a pod. */
export const SIDECAR_MODES = ['native', 'container'] as const;

/** `native`: an init container that stays; `container`: one beside the others. */
export type SidecarMode = (typeof SIDECAR_MODES)[number];

/** The setting: `auto` takes what the cluster can do. */
export const SIDECAR_SETTINGS = ['auto', ...SIDECAR_MODES] as const;
export type SidecarSetting = (typeof SIDECAR_SETTINGS)[number];

export const IMAGE_PULL_POLICIES = ['Always', 'IfNotPresent', 'Never'] as const;
export type ImagePullPolicy = (typeof IMAGE_PULL_POLICIES)[number];

export const AGENT_LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const;
export type AgentLogLevel = (typeof AGENT_LOG_LEVELS)[number];

/** Where the trust bundle that an agent starts from is. */
export type BundleSource =
  | { readonly kind: 'config-map'; readonly name: string; readonly key: string }
  /** A ClusterTrustBundle by its name; the kubelet projects it where its feature gates are on. */
  | { readonly kind: 'cluster-trust-bundle'; readonly name: string };

/** Quantities as Kubernetes writes them; null = none. */
export interface AgentResources {
  readonly cpuRequest: string;
  readonly memoryRequest: string;
  readonly cpuLimit: string | null;
  readonly memoryLimit: string;
}

/** What every injected agent gets where its pod says nothing else. */
export interface InjectionSettings {
  /** Trust domain name, no scheme. */
  readonly trustDomain: string;
  /** `host:port` of the CA, as pods reach it. */
  readonly caAddress: string;
  /** Audience of the projected token: the CA's. */
  readonly audience: string;
  /** Lifetime of the projected token, seconds; the API server takes 600 or more. */
  readonly tokenTtlSeconds: number;
  readonly bundle: BundleSource;
  readonly image: string;
  readonly imagePullPolicy: ImagePullPolicy;
  readonly sidecar: SidecarSetting;
  readonly logLevel: AgentLogLevel;
  readonly resources: AgentResources;
  /** User and group that the agent runs as; not 0. */
  readonly userId: number;
  /** The address in its pod on which the agent serves /metrics, /livez and /readyz. */
  readonly httpHost: '0.0.0.0' | '[::]';
  /** Its port; null = not served. */
  readonly httpPort: number | null;
}

/** The namespaces that Kubernetes itself lives in: nothing is ever injected there. */
export const SYSTEM_NAMESPACES: readonly string[] = ['kube-system', 'kube-public', 'kube-node-lease'];

/** The agent's program in Kedge's image, which has no shell: `deploy/Dockerfile` puts it there. */
export const AGENT_PROGRAM: readonly string[] = [
  '/usr/local/bin/node',
  ...AGENT_NODE_OPTIONS,
  '/usr/local/lib/kedge/kedge-agent.mjs',
];

/** Names of the injected things. All are Kedge's own; a pod that has one of them already is refused. */
export const AGENT_CONTAINER = 'kedge-agent';
/** The annotation that says what was injected, as JSON. */
export const STATUS_ANNOTATION = 'kedge.io/status';
