/** How the API server is found and talked to: `kubernetes` in the CA's configuration. Times are milliseconds. */
export interface KubernetesSettings {
  /** Null: the cluster that this process is a pod of, else `KUBECONFIG`, else `~/.kube/config`. */
  readonly kubeconfig: string | null;
  /** Null: the kubeconfig's `current-context`. */
  readonly context: string | null;
  readonly timeoutMs: number;
  readonly connections: number;
}

/** What holds where nothing is configured. */
export const DEFAULT_KUBERNETES_SETTINGS: KubernetesSettings = {
  kubeconfig: null,
  context: null,
  timeoutMs: 10_000,
  connections: 64,
};
