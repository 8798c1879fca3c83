/** CAs, and clients of the API server, on a control plane for tests. */
import { copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { CLUSTER_RULES, manifestRule, NAMESPACE_RULES } from '../../cli/install/rbac.ts';
import { DEVELOPMENT_KEY_FILE, DevelopmentIssuer } from '../../ca/attest/development-issuer.ts';
import type { KubernetesApi } from '../../ca/kubernetes/kubernetes-api.ts';
import { DEFAULT_KUBERNETES_SETTINGS } from '../../ca/kubernetes/kubernetes-settings.ts';
import { openKubernetes } from '../../ca/kubernetes/open-kubernetes.ts';
import { systemClock } from '../../host/clock.ts';
import { silentLog } from '../../host/log.ts';
import { systemRandom } from '../../host/random.ts';
import type { KubernetesCluster } from './kubernetes-cluster.ts';

/** The product's own client, as the user of a kubeconfig; an admin where none is given. Ends with the test. */
export async function clusterClient(
  t: Pick<TestContext, 'after'>,
  cluster: KubernetesCluster,
  options: { readonly kubeconfig?: string; readonly timeoutMs?: number } = {},
): Promise<KubernetesApi> {
  const { kubeconfig = cluster.kubeconfig, timeoutMs = 60_000 } = options;
  const api = await openKubernetes({
    settings: { ...DEFAULT_KUBERNETES_SETTINGS, kubeconfig, timeoutMs },
    environment: {},
    clock: systemClock,
    log: silentLog,
  });
  t.after(() => api.close());
  return api;
}

/** Lets what goes over the network go on for a moment. */
export async function moment(): Promise<void> {
  await delay(25);
}

/** Gives data folders the key of one development issuer, so that all accept the same tokens. */
export async function shareDevelopmentIssuer(folders: readonly string[]): Promise<void> {
  const [first = '', ...others] = folders;
  for (const folder of folders) mkdirSync(folder, { recursive: true, mode: 0o700 });
  await DevelopmentIssuer.open({ folder: first, clock: systemClock, random: systemRandom });
  for (const folder of others) {
    copyFileSync(join(first, DEVELOPMENT_KEY_FILE), join(folder, DEVELOPMENT_KEY_FILE));
  }
}

/** The rights of a CA with its trust state in the namespace, and nothing beyond them: docs/kubernetes.md. */
export async function grantCaRights(
  cluster: KubernetesCluster,
  user: string,
  namespace: string,
): Promise<void> {
  const name = user;
  const subjects = [{ kind: 'User', name: user, apiGroup: 'rbac.authorization.k8s.io' }];
  const rbac = '/apis/rbac.authorization.k8s.io/v1';
  const clusterRules = CLUSTER_RULES.map(manifestRule);
  const rules = NAMESPACE_RULES.map(manifestRule);
  const roleRef = (kind: string): object => ({ apiGroup: 'rbac.authorization.k8s.io', kind, name });
  const metadata = { name };
  await cluster.admin.create(`${rbac}/clusterroles`, { metadata, rules: clusterRules });
  await cluster.admin.create(`${rbac}/clusterrolebindings`, {
    metadata,
    subjects,
    roleRef: roleRef('ClusterRole'),
  });
  const inNamespace = `${rbac}/namespaces/${namespace}`;
  await cluster.admin.create(`${inNamespace}/roles`, { metadata, rules });
  await cluster.admin.create(`${inNamespace}/rolebindings`, { metadata, subjects, roleRef: roleRef('Role') });
}
