import { CONFIG_MAP, NAMESPACE, POD } from '../../ca/kubernetes/objects.ts';
import { KEDGE_VERSION } from '../../host/version.ts';
import { isKedgeError, quote } from '../../pki/kedge-error.ts';
import { CA_SELECTOR, INSTALL_NAMES } from '../install/install-names.ts';
import type { Check, CheckAnswer, CheckContext } from './check.ts';
import { fieldOf, listOf, numberOf, textOf } from './field.ts';
import { DEPLOYMENT } from './resource-types.ts';

const CATEGORY = 'identity-plane';
const CA_LABEL_SELECTOR = Object.entries(CA_SELECTOR)
  .map(([key, value]) => `${key}=${value}`)
  .join(',');

/** Before an installation: nothing is in its way. */
export const ABSENCE_CHECKS: readonly Check[] = [
  {
    category: CATEGORY,
    statement: 'is not installed yet',
    ask: async ({ api, namespace, signal }) => {
      if (
        (await found(() => api.get(DEPLOYMENT, { namespace, name: INSTALL_NAMES.ca }, { signal }))) === null
      ) {
        return { verdict: 'ok' };
      }
      return {
        verdict: 'warning',
        detail: `namespace ${namespace} has a Deployment ${INSTALL_NAMES.ca} already`,
        hint: 'applying the manifests changes it; ask kedge check about it first',
      };
    },
  },
];

/** After an installation: the CA is there and runs. */
export const PLANE_CHECKS: readonly Check[] = [
  {
    category: CATEGORY,
    statement: 'has its namespace',
    fatal: true,
    ask: async ({ api, namespace, signal }) => {
      const object = await found(() => api.get(NAMESPACE, { name: namespace }, { signal }));
      if (object !== null) return { verdict: 'ok', detail: namespace };
      return {
        verdict: 'failed',
        detail: `there is no namespace ${quote(namespace)}`,
        hint: 'kedge install | kubectl apply --server-side -f -, or name another with --namespace',
      };
    },
  },
  {
    category: CATEGORY,
    statement: 'has every replica of the CA ready',
    ask: replicasAnswer,
  },
  {
    category: CATEGORY,
    statement: 'has more than one replica, on more than one node',
    ask: spreadAnswer,
  },
  {
    category: CATEGORY,
    statement: 'has replicas that do not restart',
    ask: async (context) => {
      const restarting = (await caPods(context)).flatMap((pod) => {
        const count = listOf(pod, 'status', 'containerStatuses').reduce<number>(
          (sum, status) => sum + numberOf(status, 'restartCount'),
          0,
        );
        return count > 2 ? [`${pod.metadata.name} (${count} times)`] : [];
      });
      if (restarting.length === 0) return { verdict: 'ok' };
      return {
        verdict: 'warning',
        detail: `restarted: ${named(restarting)}`,
        hint: 'kubectl logs --previous tells what ended it',
      };
    },
  },
  {
    category: CATEGORY,
    statement: `runs version ${KEDGE_VERSION}, as this command does`,
    ask: async (context) => {
      const images = new Set(
        (await caPods(context)).flatMap((pod) =>
          listOf(pod, 'spec', 'containers').map((container) => textOf(container, 'image')),
        ),
      );
      const others = [...images].filter((image) => !image.endsWith(`:${KEDGE_VERSION}`));
      if (others.length === 0) return { verdict: 'ok' };
      return {
        verdict: 'warning',
        detail: `images: ${named(others.map((image) => quote(image)))}`,
        hint: 'use the command of the version that runs, or finish the upgrade',
      };
    },
  },
  {
    category: CATEGORY,
    statement: 'has its configuration',
    ask: async ({ api, namespace, signal }) => {
      const config = await api.get(CONFIG_MAP, { namespace, name: INSTALL_NAMES.config }, { signal });
      const text = textOf(config, 'data', 'ca.yaml');
      const { readSettings } = await import('../../ca/config-schema.ts');
      const { trustDomain } = readSettings(text, `${INSTALL_NAMES.config}/ca.yaml`, {});
      return { verdict: 'ok', detail: `trust domain ${trustDomain?.name ?? 'example.org'}` };
    },
  },
];

async function replicasAnswer({ api, namespace, signal }: CheckContext): Promise<CheckAnswer> {
  const deployment = await api.get(DEPLOYMENT, { namespace, name: INSTALL_NAMES.ca }, { signal });
  const want = numberOf(deployment, 'spec', 'replicas');
  const ready = numberOf(deployment, 'status', 'readyReplicas');
  const observed = numberOf(deployment, 'status', 'observedGeneration');
  if (observed < numberOf(deployment, 'metadata', 'generation')) {
    return {
      verdict: 'warning',
      detail: 'the newest change of the Deployment is not taken up yet',
      hint: 'ask again in a moment',
    };
  }
  if (ready >= want && want > 0) return { verdict: 'ok', detail: `${ready} of ${want}` };
  return {
    verdict: ready === 0 ? 'failed' : 'warning',
    detail: `${ready} of ${want} replicas are ready`,
    hint: `kubectl -n ${namespace} describe pods -l ${CA_LABEL_SELECTOR}, and their logs`,
  };
}

async function spreadAnswer(context: CheckContext): Promise<CheckAnswer> {
  const pods = await caPods(context);
  const nodes = new Set(pods.map((pod) => textOf(pod, 'spec', 'nodeName')).filter((name) => name !== ''));
  if (nodes.size > 1) return { verdict: 'ok', detail: `${pods.length} replicas on ${nodes.size} nodes` };
  return {
    verdict: 'warning',
    detail: `${pods.length} replicas on ${nodes.size} nodes: a node that goes takes the CA with it`,
    hint: 'kedge install --ha; workloads keep their SVIDs meanwhile, new pods wait',
  };
}

/** The pods of the CA. */
export async function caPods({
  api,
  namespace,
  signal,
}: CheckContext): Promise<readonly Awaited<ReturnType<CheckContext['api']['get']>>[]> {
  const { items } = await api.list(POD, { namespace, labelSelector: CA_LABEL_SELECTOR, signal });
  return items.filter((pod) => fieldOf(pod, 'metadata', 'deletionTimestamp') === undefined);
}

/** What `get` gives, or null where there is none. */
export async function found<T>(get: () => Promise<T>): Promise<T | null> {
  try {
    return await get();
  } catch (error) {
    if (isKedgeError(error) && error.code === 'kubernetes_not_found') return null;
    throw error;
  }
}

/** The first few names, and how many more there are. */
export function named(names: readonly string[], most = 5): string {
  const rest = names.length - most;
  return `${names.slice(0, most).join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`;
}
