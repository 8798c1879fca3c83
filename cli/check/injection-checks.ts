import { AGENT_CONTAINER } from '../../ca/inject/injection-settings.ts';
import { WEBHOOK_CONFIGURATION_NAME } from '../../ca/inject/webhook-configuration.ts';
import { INJECTED_LABEL, INJECTED_SELECTOR } from '../../ca/kubernetes/cluster-names.ts';
import { CONFIG_MAP, POD } from '../../ca/kubernetes/objects.ts';
import { KedgeError, isKedgeError } from '../../pki/kedge-error.ts';
import { decodePem } from '../../pki/pem.ts';
import { INSTALL_NAMES } from '../install/install-names.ts';
import type { Check, CheckAnswer, CheckContext } from './check.ts';
import { fieldOf, listOf, textOf } from './field.ts';
import { named } from './plane-checks.ts';
import { MUTATING_WEBHOOK_CONFIGURATION } from './resource-types.ts';
import { meshedNamespaces, newestAnchors } from './trust-checks.ts';

const CATEGORY = 'injection';

/** Whether new pods get the agent, and those that have one are as the CA wants them. */
export const INJECTION_CHECKS: readonly Check[] = [
  {
    category: CATEGORY,
    statement: 'the webhook trusts what the CA shows it',
    ask: webhookTrustAnswer,
  },
  {
    category: CATEGORY,
    statement: 'the API server reaches the webhook, which injects the agent',
    ask: reachAnswer,
  },
  {
    category: 'workloads',
    statement: 'every pod of a meshed namespace has the agent',
    ask: async (context) => {
      const { meshed, without } = await meshedPods(context);
      if (meshed === 0) return { verdict: 'skipped', detail: 'there is no pod in a meshed namespace' };
      if (without.length === 0) return { verdict: 'ok', detail: `${meshed} pods` };
      return {
        verdict: 'warning',
        detail: `without: ${named(without)}`,
        hint: 'pods from before the label, or that opted out: kubectl rollout restart gives them the agent',
      };
    },
  },
  {
    category: 'workloads',
    statement: 'the agent of every pod is ready',
    ask: async (context) => {
      const pods = await injectedPods(context);
      const unready = pods.filter((pod) => !agentIsReady(pod)).map(podName);
      if (pods.length === 0) return { verdict: 'skipped', detail: 'no pod has the agent' };
      if (unready.length === 0) return { verdict: 'ok', detail: `${pods.length} agents` };
      return {
        verdict: 'warning',
        detail: `not ready: ${named(unready)}`,
        hint: `kubectl logs <pod> -c ${AGENT_CONTAINER} says why`,
      };
    },
  },
  {
    category: 'workloads',
    statement: "the tokens of agents are for the CA's audience",
    ask: audienceAnswer,
  },
];

type Pod = Awaited<ReturnType<CheckContext['api']['get']>>;

async function webhookTrustAnswer(context: CheckContext): Promise<CheckAnswer> {
  const { api, signal } = context;
  const configuration = await api.get(
    MUTATING_WEBHOOK_CONFIGURATION,
    { name: WEBHOOK_CONFIGURATION_NAME },
    { signal },
  );
  const hint = 'the CA writes its caBundle by itself: its log says why it does not';
  const webhooks = listOf(configuration, 'webhooks');
  if (webhooks.length === 0) return { verdict: 'failed', detail: 'it has no webhook', hint };
  const anchors = await newestAnchors(context);
  if (anchors === null) return { verdict: 'skipped', detail: 'no namespace has a trust bundle yet' };
  const want = new Set(anchors.map((der) => Buffer.from(der).toString('base64')));
  for (const webhook of webhooks) {
    const pem = Buffer.from(textOf(webhook, 'clientConfig', 'caBundle'), 'base64').toString('latin1');
    const has = new Set(certificatesOf(pem).map((der) => Buffer.from(der).toString('base64')));
    if (has.size === 0) return { verdict: 'failed', detail: 'its caBundle is empty', hint };
    if ([...want].some((anchor) => !has.has(anchor))) {
      return { verdict: 'warning', detail: 'its caBundle lacks an anchor of the newest trust bundle', hint };
    }
  }
  return { verdict: 'ok' };
}

/** A pod that is never made (dry run) shows what would become of a real one. */
async function reachAnswer(context: CheckContext): Promise<CheckAnswer> {
  const { api, signal } = context;
  const [namespace] = await meshedNamespaces(context);
  if (namespace === undefined) return { verdict: 'skipped', detail: 'no namespace is meshed' };
  const draft = {
    metadata: { name: 'kedge-check-injection', namespace },
    spec: { containers: [{ name: 'check', image: 'kedge-check' }] },
  };
  try {
    const pod = await api.apply(POD, draft, { fieldManager: 'kedge-check', dryRun: true, signal });
    if (pod.metadata.labels?.[INJECTED_LABEL] === 'true') {
      return { verdict: 'ok', detail: `asked by a dry run in namespace ${namespace}` };
    }
    return {
      verdict: 'failed',
      detail: `a new pod in namespace ${namespace} would have no agent`,
      hint: `look at MutatingWebhookConfiguration ${WEBHOOK_CONFIGURATION_NAME}, the Service ${INSTALL_NAMES.ca}, and network policies`,
    };
  } catch (error) {
    if (!isKedgeError(error) || error.code !== 'kubernetes_forbidden') throw error;
    return { verdict: 'skipped', detail: `needs the right to patch pods in namespace ${namespace}` };
  }
}

async function audienceAnswer(context: CheckContext): Promise<CheckAnswer> {
  const { api, namespace, signal } = context;
  const pods = await injectedPods(context);
  if (pods.length === 0) return { verdict: 'skipped', detail: 'no pod has the agent' };
  const config = await api.get(CONFIG_MAP, { namespace, name: INSTALL_NAMES.config }, { signal });
  const { readSettings } = await import('../../ca/config-schema.ts');
  const settings = readSettings(textOf(config, 'data', 'ca.yaml'), `${INSTALL_NAMES.config}/ca.yaml`, {});
  const audience = settings.attest?.audience ?? 'kedge';
  const others = pods.filter((pod) => !audiencesOf(pod).includes(audience)).map(podName);
  if (others.length === 0) return { verdict: 'ok', detail: audience };
  return {
    verdict: 'failed',
    detail: `for another audience: ${named(others)}`,
    hint: 'kubectl rollout restart gives them a token for the audience that the CA takes',
  };
}

function audiencesOf(pod: Pod): readonly string[] {
  return listOf(pod, 'spec', 'volumes').flatMap((volume) =>
    listOf(volume, 'projected', 'sources').map((source) => textOf(source, 'serviceAccountToken', 'audience')),
  );
}

async function meshedPods(
  context: CheckContext,
): Promise<{ readonly meshed: number; readonly without: readonly string[] }> {
  let meshed = 0;
  const without: string[] = [];
  for (const namespace of await meshedNamespaces(context)) {
    const { items } = await context.api.list(POD, { namespace, signal: context.signal });
    for (const pod of items.filter(isLive)) {
      meshed += 1;
      if (pod.metadata.labels?.[INJECTED_LABEL] !== 'true') without.push(podName(pod));
    }
  }
  return { meshed, without };
}

async function injectedPods({ api, signal }: CheckContext): Promise<readonly Pod[]> {
  const { items } = await api.list(POD, { labelSelector: INJECTED_SELECTOR, signal });
  return items.filter(isLive);
}

function isLive(pod: Pod): boolean {
  const phase = textOf(pod, 'status', 'phase');
  return (
    phase !== 'Succeeded' && phase !== 'Failed' && fieldOf(pod, 'metadata', 'deletionTimestamp') === undefined
  );
}

function agentIsReady(pod: Pod): boolean {
  return ['initContainerStatuses', 'containerStatuses'].some((list) =>
    listOf(pod, 'status', list).some(
      (status) => textOf(status, 'name') === AGENT_CONTAINER && fieldOf(status, 'ready') === true,
    ),
  );
}

function podName({ metadata }: Pod): string {
  return `${metadata.namespace ?? ''}/${metadata.name}`;
}

function certificatesOf(pem: string): readonly Uint8Array[] {
  try {
    return decodePem(pem, 'CERTIFICATE');
  } catch (error) {
    if (error instanceof KedgeError) return [];
    throw error;
  }
}
