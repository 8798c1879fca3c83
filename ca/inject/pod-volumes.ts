import type { BundleSource, InjectionSettings } from './injection-settings.ts';
import type { Json, JsonMap } from './json.ts';
import type { PodOptions } from './pod-options.ts';
import type { PodView } from './pod-view.ts';

/** Where things are in the containers of a pod. */
export const POD_PATHS = {
  /** Token and trust bundle: the agent's alone. */
  identity: '/var/run/secrets/kedge.io',
  token: '/var/run/secrets/kedge.io/token',
  bundle: '/var/run/secrets/kedge.io/trust-bundle',
  /** What the agent keeps over its own restarts: the agent's alone. */
  cache: '/var/run/kedge/cache',
  workload: '/var/run/kedge/workload',
  /** The Workload API and Envoy SDS. */
  socket: '/var/run/kedge/workload/api.sock',
  files: '/var/run/kedge/files',
  haproxy: '/var/run/kedge/haproxy',
  /** Where Istio's proxy looks for an SDS server that is not its agent's own. */
  istio: '/var/run/secrets/workload-spiffe-uds',
  istioSocket: '/var/run/secrets/workload-spiffe-uds/socket',
} as const;

/** The variable in which the SPIFFE Workload API's clients find it (SPIFFE_Workload_Endpoint section 4). */
export const ENDPOINT_VARIABLE = 'SPIFFE_ENDPOINT_SOCKET';

/** A volume that the agent shares with the containers of its pod, or has alone. */
export interface PodVolume {
  readonly name: string;
  readonly mountPath: string;
  /** Null for one that the pod has already. */
  readonly source: JsonMap | null;
  readonly readOnlyForAgent: boolean;
  /** Whether the other containers mount it, and how. */
  readonly others: 'none' | 'read-only' | 'read-write';
}

/** Everything in memory: keys never reach a disk of the node. */
const memory = (sizeLimit: string): JsonMap => ({ emptyDir: { medium: 'Memory', sizeLimit } });

/** The volumes of a pod with these options. */
export function podVolumes(
  settings: InjectionSettings,
  options: PodOptions,
  pod: Pick<PodView, 'containers' | 'initContainers'>,
): readonly PodVolume[] {
  const shared = (
    name: string,
    mountPath: string,
    sizeLimit: string,
    others: PodVolume['others'],
  ): PodVolume => ({
    name,
    mountPath,
    source: memory(sizeLimit),
    readOnlyForAgent: false,
    others,
  });
  return [
    {
      name: 'kedge-identity',
      mountPath: POD_PATHS.identity,
      source: identitySource(settings),
      readOnlyForAgent: true,
      others: 'none',
    },
    shared('kedge-cache', POD_PATHS.cache, '8Mi', 'none'),
    ...(options.workloadApi ? [shared('kedge-workload', POD_PATHS.workload, '1Mi', 'read-only')] : []),
    ...(options.istioSds ? [istioVolume(pod, shared)] : []),
    ...(options.files === null ? [] : [shared('kedge-files', POD_PATHS.files, '16Mi', 'read-only')]),
    // HAProxy makes its stats socket in there.
    ...(options.haproxySockets === null
      ? []
      : [shared('kedge-haproxy', POD_PATHS.haproxy, '16Mi', 'read-write')]),
  ];
}

/** Istio's own injection mounts a volume there into its proxy: then that one is shared. */
function istioVolume(
  { containers, initContainers }: Pick<PodView, 'containers' | 'initContainers'>,
  shared: (name: string, mountPath: string, sizeLimit: string, others: PodVolume['others']) => PodVolume,
): PodVolume {
  const theirs = [...initContainers, ...containers]
    .map(({ mounts }) => mounts.get(POD_PATHS.istio))
    .find((name) => name !== undefined);
  const ours = shared('kedge-istio', POD_PATHS.istio, '1Mi', 'read-only');
  return theirs === undefined || theirs === ours.name
    ? ours
    : { ...ours, name: theirs, source: null, others: 'none' };
}

/** One projected volume, so that what the kubelet renews in it changes at once. */
function identitySource({ audience, tokenTtlSeconds, bundle }: InjectionSettings): JsonMap {
  return {
    projected: {
      sources: [
        { serviceAccountToken: { audience, expirationSeconds: tokenTtlSeconds, path: 'token' } },
        bundleProjection(bundle),
      ],
    },
  };
}

/** Not optional: a pod waits for its trust bundle, which comes within moments, instead of starting without one. */
function bundleProjection(bundle: BundleSource): JsonMap {
  const path = 'trust-bundle';
  switch (bundle.kind) {
    case 'config-map':
      return { configMap: { name: bundle.name, items: [{ key: bundle.key, path }] } };
    case 'cluster-trust-bundle':
      return { clusterTrustBundle: { name: bundle.name, path } };
  }
  return bundle satisfies never;
}

/** A volume as it stands in a pod's spec. */
export function volumeEntry({ name, source }: PodVolume): Json {
  return { name, ...source };
}
