import { CONFIG_MAP } from '../../ca/kubernetes/objects.ts';
import { isKedgeError, quote } from '../../pki/kedge-error.ts';
import { OLDEST_MINOR } from '../install/kubernetes-version.ts';
import type { Check, CheckAnswer, CheckContext } from './check.ts';
import { clockVerdict } from './clock-verdict.ts';

const CATEGORY = 'kubernetes-api';

/** Whether the cluster is there, and one that Kedge runs on. */
export const CLUSTER_CHECKS: readonly Check[] = [
  {
    category: CATEGORY,
    statement: 'can ask the Kubernetes API',
    fatal: true,
    ask: async (context) => ({ verdict: 'ok', detail: (await versionOf(context)).text }),
  },
  {
    category: CATEGORY,
    statement: `is Kubernetes 1.${OLDEST_MINOR} or newer`,
    fatal: true,
    ask: async (context) => {
      const { text, minor } = await versionOf(context);
      if (minor >= OLDEST_MINOR) return { verdict: 'ok', detail: text };
      return { verdict: 'failed', detail: `it is ${text}`, hint: 'upgrade the cluster first' };
    },
  },
  {
    category: CATEGORY,
    statement: "this machine's clock agrees with the API server's",
    ask: clockAnswer,
  },
  ...(
    [
      ['authentication.k8s.io/v1', 'tokenreviews', 'attest ServiceAccount tokens'],
      ['admissionregistration.k8s.io/v1', 'mutatingwebhookconfigurations', 'inject the agent'],
      ['networking.k8s.io/v1', 'networkpolicies', 'apply its NetworkPolicies'],
      ['v1', 'serviceaccounts/token', 'give pods bound tokens'],
    ] as const
  ).map(
    ([apiVersion, resource, purpose]): Check => ({
      category: CATEGORY,
      statement: `serves ${resource} of ${apiVersion}`,
      ask: async ({ api, signal }) => {
        const served = await api.servedResources(apiVersion, { signal });
        if (served.has(resource)) return { verdict: 'ok' };
        return {
          verdict: 'failed',
          detail: `the API server does not serve ${resource}, with which Kedge would ${purpose}`,
          hint: 'look at --runtime-config and the feature gates of the API server',
        };
      },
    }),
  ),
];

/** The version of the API server. Throws `kubernetes_*`. */
export async function versionOf({
  api,
  signal,
}: CheckContext): Promise<{ readonly text: string; readonly minor: number }> {
  const answer = await api.getPath('/version', { signal });
  const field = (name: string): string => {
    const value = typeof answer === 'object' && answer !== null ? Reflect.get(answer, name) : undefined;
    return typeof value === 'string' ? value.slice(0, 64) : '';
  };
  // Some providers write "27+".
  const minor = field('major') === '1' ? Number.parseInt(field('minor'), 10) : Number.NaN;
  return { text: field('gitVersion'), minor: Number.isNaN(minor) ? 0 : minor };
}

/** A server-side dry run tells the API server's time in creationTimestamp, and leaves nothing behind. */
async function clockAnswer({ api, clock, signal }: CheckContext): Promise<CheckAnswer> {
  const before = clock.now();
  let created: unknown;
  try {
    const draft = { metadata: { name: 'kedge-check-clock', namespace: 'default' }, data: {} };
    const object = await api.apply(CONFIG_MAP, draft, {
      fieldManager: 'kedge-check',
      dryRun: true,
      signal,
    });
    created = object.metadata['creationTimestamp'];
  } catch (error) {
    if (!isKedgeError(error) || error.code !== 'kubernetes_forbidden') throw error;
    return { verdict: 'skipped', detail: 'needs the right to patch ConfigMaps in namespace default' };
  }
  const after = clock.now();
  const server = typeof created === 'string' ? Date.parse(created) : Number.NaN;
  if (Number.isNaN(server)) {
    return { verdict: 'skipped', detail: `the API server told no time: ${quote(String(created), 40)}` };
  }
  // The answer is cut to the second: the server's time lies in [server, server + 1 s).
  const skew = Math.max(0, before - (server + 1_000), server - after);
  return clockVerdict(skew, 'the clocks differ');
}
