import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import type { Clock } from '../../host/clock.ts';
import type { Log } from '../../host/log.ts';
import { ApiConnection } from './api-connection.ts';
import type { ClusterAccess } from './cluster-access.ts';
import { ClusterCredentials } from './cluster-credentials.ts';
import { inClusterAccess, isInCluster } from './in-cluster.ts';
import type { KubernetesApi } from './kubernetes-api.ts';
import { KubernetesClient } from './kubernetes-client.ts';
import type { KubernetesSettings } from './kubernetes-settings.ts';

/** What {@link openKubernetes} needs. */
export interface OpenKubernetesOptions {
  readonly settings: KubernetesSettings;
  /** `process.env`. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly log: Log;
  readonly onCall?: (verb: string, code: string, durationMs: number) => void;
}

/**
 * A client for the API server that the settings and the environment name. Connects when it is first used. Throws
 * `config_invalid`, `file_unreadable`.
 */
export async function openKubernetes(options: OpenKubernetesOptions): Promise<KubernetesApi> {
  const { settings, clock, log, onCall } = options;
  const { server, tlsServerName, namespace, ...access } = await findAccess(options);
  const connection = new ApiConnection({
    server,
    ...(tlsServerName === undefined ? {} : { tlsServerName }),
    credentials: new ClusterCredentials({ access, clock, log }),
    connections: settings.connections,
  });
  log.debug('kubernetes.opened', { server: server.origin, namespace });
  return new KubernetesClient({
    connection,
    namespace,
    clock,
    timeoutMs: settings.timeoutMs,
    ...(onCall === undefined ? {} : { onCall }),
  });
}

async function findAccess({ settings, environment }: OpenKubernetesOptions): Promise<ClusterAccess> {
  const { kubeconfig, context } = settings;
  if (kubeconfig === null && context === null && isInCluster(environment)) {
    return inClusterAccess(environment);
  }
  // Its schema and YAML are some 50 ms that a pod need not pay.
  const { kubeconfigAccess } = await import('./kubeconfig.ts');
  return kubeconfigAccess(kubeconfigPaths(kubeconfig, environment), context ?? undefined);
}

/** One path, or those of KUBECONFIG, which is a list; the one of the home folder where nothing is named. */
function kubeconfigPaths(
  named: string | null,
  environment: OpenKubernetesOptions['environment'],
): readonly string[] {
  const list = environment['KUBECONFIG'] ?? '';
  // The command line gives the environment's value as that of its option.
  if (named !== null && named !== list) return [named];
  const paths = list.split(delimiter).filter((path) => path !== '');
  return paths.length > 0 ? paths : [join(environment['HOME'] ?? homedir(), '.kube', 'config')];
}
