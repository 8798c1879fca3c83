import { join } from 'node:path';
import { readSmallFile } from '../../host/small-file.ts';
import { KedgeError } from '../../pki/kedge-error.ts';
import { type ClusterAccess, parseServer } from './cluster-access.ts';

/** Where the kubelet puts a pod's ServiceAccount. */
export const SERVICE_ACCOUNT_FOLDER = '/var/run/secrets/kubernetes.io/serviceaccount';

/** The longest name of a namespace, and the line feed that someone may have put after it. */
const NAMESPACE_BYTES = 64;

/** Whether this process runs in a pod that may know its API server. */
export function isInCluster(environment: Readonly<Record<string, string | undefined>>): boolean {
  return environment['KUBERNETES_SERVICE_HOST'] !== undefined;
}

/**
 * The cluster in which this process runs as a pod. Token and CA stay files: the kubelet renews them.
 * https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/. Throws `config_invalid`, `file_unreadable`.
 */
export async function inClusterAccess(
  environment: Readonly<Record<string, string | undefined>>,
  folder: string = SERVICE_ACCOUNT_FOLDER,
): Promise<ClusterAccess> {
  const host = environment['KUBERNETES_SERVICE_HOST'];
  const port = environment['KUBERNETES_SERVICE_PORT'] ?? '443';
  if (host === undefined || host === '') {
    throw new KedgeError('config_invalid', 'KUBERNETES_SERVICE_HOST is not set: this is no pod', {
      hint: 'name a kubeconfig by kubernetes.kubeconfig',
    });
  }
  const namespace = await readSmallFile(join(folder, 'namespace'), NAMESPACE_BYTES, 'the namespace file');
  return {
    server: parseServer(
      `https://${host.includes(':') ? `[${host}]` : host}:${port}`,
      'KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT',
    ),
    tlsServerName: undefined,
    certificateAuthority: { kind: 'file', path: join(folder, 'ca.crt') },
    authentication: { kind: 'token', token: { kind: 'file', path: join(folder, 'token') } },
    namespace: Buffer.from(namespace).toString('utf8').trim(),
  };
}
