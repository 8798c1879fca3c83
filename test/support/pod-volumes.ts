/** The volumes of pods, as a kubelet makes them. */
import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { until } from './identity-plane.ts';
import type { KubernetesObject } from './kubernetes-api.ts';
import type { KubernetesCluster } from './kubernetes-cluster.ts';

/** A volume of a pod's spec; kinds that no test pod has are missing. */
export interface VolumeSpec {
  readonly name: string;
  readonly emptyDir?: { readonly medium?: string };
  readonly secret?: { readonly secretName: string };
  readonly configMap?: ConfigMapSource;
  readonly projected?: { readonly sources: readonly Projection[] };
}

interface ConfigMapSource {
  readonly name: string;
  readonly items?: readonly { readonly key: string; readonly path: string }[];
}

interface Projection {
  readonly serviceAccountToken?: {
    readonly audience?: string;
    readonly expirationSeconds: number;
    readonly path: string;
  };
  readonly configMap?: ConfigMapSource;
  readonly downwardAPI?: { readonly items: readonly { readonly path: string }[] };
}

/** Where a volume in memory is: a tmpfs that every Linux has. */
const MEMORY = '/dev/shm';

/** Where a volume of a pod lies on this machine. */
export function volumeFolder(folder: string, podUid: string, { name, emptyDir }: VolumeSpec): string {
  // The folder's own name, so that whoever removes that folder knows which these are.
  const parent = emptyDir?.medium === 'Memory' ? join(MEMORY, basename(folder)) : folder;
  return join(parent, 'pods', podUid, name);
}

/** Removes what {@link volumeFolder} has in memory below that folder's name. */
export function removeMemoryVolumes(folder: string): void {
  rmSync(join(MEMORY, basename(folder)), { recursive: true, force: true });
}

/** What {@link mountVolume} takes. */
export interface MountOptions {
  readonly cluster: KubernetesCluster;
  readonly pod: KubernetesObject;
  readonly volume: VolumeSpec;
  /** Where it goes; made here. */
  readonly folder: string;
  /** Changes what a ConfigMap says, for this pod. */
  readonly localised: (text: string) => string;
}

/** Fills a volume. As a kubelet does, it waits for the ConfigMaps and Secrets that the volume is made of. */
export async function mountVolume(options: MountOptions): Promise<void> {
  const { volume, folder } = options;
  const { secret, configMap, projected } = volume;
  mkdirSync(folder, { recursive: true });
  // An emptyDir belongs to root and is open to all.
  chmodSync(folder, 0o777);
  if (secret !== undefined) await writeSecret(options, secret.secretName);
  if (configMap !== undefined) await writeConfigMap(options, configMap);
  for (const source of projected?.sources ?? []) {
    if (source.configMap !== undefined) await writeConfigMap(options, source.configMap);
    if (source.serviceAccountToken !== undefined) await writeToken(options, source.serviceAccountToken);
    // The only field that Kubernetes itself projects.
    for (const { path } of source.downwardAPI?.items ?? []) write(folder, path, namespaceOf(options.pod));
  }
}

async function writeSecret({ cluster, pod, folder }: MountOptions, name: string): Promise<void> {
  const data = await dataOf(cluster, `/api/v1/namespaces/${namespaceOf(pod)}/secrets/${name}`);
  for (const [key, value] of Object.entries(data)) write(folder, key, Buffer.from(value, 'base64'));
}

async function writeConfigMap(
  { cluster, pod, folder, localised }: MountOptions,
  { name, items }: ConfigMapSource,
): Promise<void> {
  const data = await dataOf(cluster, `/api/v1/namespaces/${namespaceOf(pod)}/configmaps/${name}`);
  const files = items ?? Object.keys(data).map((key) => ({ key, path: key }));
  for (const { key, path } of files) write(folder, path, localised(data[key] ?? ''));
}

async function writeToken(
  { cluster, pod, folder }: MountOptions,
  { audience = cluster.issuer, expirationSeconds, path }: NonNullable<Projection['serviceAccountToken']>,
): Promise<void> {
  const { serviceAccountName } = pod['spec'] as { readonly serviceAccountName: string };
  const bound = { serviceAccount: serviceAccountName, audience, seconds: expirationSeconds, pod };
  write(folder, path, await cluster.tokenFor(namespaceOf(pod), bound));
}

async function dataOf(cluster: KubernetesCluster, path: string): Promise<Readonly<Record<string, string>>> {
  await until(`${path} is there`, async () => (await cluster.admin.request('GET', path)).status === 200);
  return ((await cluster.admin.get(path))['data'] ?? {}) as Readonly<Record<string, string>>;
}

function namespaceOf(pod: KubernetesObject): string {
  return pod.metadata?.namespace ?? '';
}

function write(folder: string, path: string, content: string | Uint8Array): void {
  writeFileSync(join(folder, path), content, { mode: 0o644 });
}
