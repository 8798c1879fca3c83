import type { KubernetesApi } from '../ca/kubernetes/kubernetes-api.ts';
import { jsonLog } from '../host/log.ts';
import type { Invocation, OptionSpec } from './command.ts';

/** The options of every command that asks a cluster. */
export const KUBERNETES_OPTIONS: readonly OptionSpec[] = [
  {
    name: 'kubeconfig',
    value: 'file',
    env: 'KUBECONFIG',
    default: 'the cluster that this is a pod of, else ~/.kube/config',
    help: 'kubeconfig with the address of the API server and the credentials',
  },
  {
    name: 'context',
    value: 'name',
    default: "the kubeconfig's current-context",
    help: 'context of the kubeconfig',
  },
];

/** A client for the cluster that the options and the environment name. Throws `config_invalid`, `file_unreadable`. */
export async function openCluster({ args, terminal, clock }: Invocation): Promise<KubernetesApi> {
  const [{ openKubernetes }, { DEFAULT_KUBERNETES_SETTINGS }] = await Promise.all([
    import('../ca/kubernetes/open-kubernetes.ts'),
    import('../ca/kubernetes/kubernetes-settings.ts'),
  ]);
  return await openKubernetes({
    settings: {
      ...DEFAULT_KUBERNETES_SETTINGS,
      kubeconfig: args.value('kubeconfig') ?? null,
      context: args.value('context') ?? null,
    },
    environment: terminal.env,
    clock,
    log: jsonLog({ level: 'warn', write: terminal.stderr, now: () => clock.now() }),
  });
}
