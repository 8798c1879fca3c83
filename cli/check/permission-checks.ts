import type { AccessQuestion } from '../../ca/kubernetes/kubernetes-api.ts';
import { missingRule } from '../../ca/kubernetes/api-refusal.ts';
import type { KubernetesObject } from '../install/kubernetes-object.ts';
import type { Check } from './check.ts';

const PLURALS: Readonly<Record<string, string>> = {
  Namespace: 'namespaces',
  PriorityClass: 'priorityclasses',
  ServiceAccount: 'serviceaccounts',
  ClusterRole: 'clusterroles',
  ClusterRoleBinding: 'clusterrolebindings',
  Role: 'roles',
  RoleBinding: 'rolebindings',
  ConfigMap: 'configmaps',
  Service: 'services',
  Deployment: 'deployments',
  PodDisruptionBudget: 'poddisruptionbudgets',
  NetworkPolicy: 'networkpolicies',
  MutatingWebhookConfiguration: 'mutatingwebhookconfigurations',
};

/** Whether who asks may make each kind of object that `kedge install` prints. */
export function permissionChecks(objects: readonly KubernetesObject[]): readonly Check[] {
  const byResource = new Map(objects.map((object) => [`${object.apiVersion}/${object.kind}`, object]));
  return [...byResource.values()].map((object) => {
    const question = questionOf(object);
    return {
      category: 'permissions',
      statement: `you may create ${question.resource}`,
      ask: async ({ api, signal }) => {
        if (await api.mayI(question, { signal })) return { verdict: 'ok' };
        return {
          verdict: 'failed',
          detail: `the API server would refuse a ${object.kind} from you`,
          hint: missingRule(question),
        };
      },
    } satisfies Check;
  });
}

function questionOf({ apiVersion, kind, metadata }: KubernetesObject): AccessQuestion {
  const resource = PLURALS[kind];
  if (resource === undefined) throw new TypeError(`no plural of ${kind}`);
  const slash = apiVersion.indexOf('/');
  return {
    verb: 'create',
    group: slash < 0 ? '' : apiVersion.slice(0, slash),
    resource,
    ...(metadata.namespace === undefined ? {} : { namespace: metadata.namespace }),
  };
}
