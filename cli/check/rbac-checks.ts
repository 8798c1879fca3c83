import { missingRule } from '../../ca/kubernetes/api-refusal.ts';
import type { AccessQuestion } from '../../ca/kubernetes/kubernetes-api.ts';
import { isKedgeError } from '../../pki/kedge-error.ts';
import { INSTALL_NAMES } from '../install/install-names.ts';
import { CLUSTER_RULES, NAMESPACE_RULES, type RbacRule } from '../install/rbac.ts';
import type { Check, CheckAnswer, CheckContext } from './check.ts';
import { fieldOf } from './field.ts';
import { SUBJECT_ACCESS_REVIEW } from './resource-types.ts';

/** Whether the ServiceAccount of the CA may do what each rule of its roles is for. */
export function rbacChecks(): readonly Check[] {
  const inCluster = CLUSTER_RULES.map((rule) => checkOf(rule, () => null));
  const inNamespace = NAMESPACE_RULES.map((rule) => checkOf(rule, ({ namespace }) => namespace));
  return [...inCluster, ...inNamespace];
}

function checkOf(rule: RbacRule, namespaceOf: (context: CheckContext) => string | null): Check {
  return {
    category: 'rbac',
    statement: `the CA may ${rule.why}`,
    ask: async (context) => {
      for (const question of questionsOf(rule, namespaceOf(context))) {
        const answer = await answerTo(question, context);
        if (answer !== null) return answer;
      }
      return { verdict: 'ok' };
    },
  };
}

function questionsOf(rule: RbacRule, namespace: string | null): readonly AccessQuestion[] {
  const names = rule.resourceNames ?? [undefined];
  return rule.apiGroups.flatMap((group) =>
    rule.resources.flatMap((full) =>
      rule.verbs.flatMap((verb) =>
        names.map((name): AccessQuestion => {
          const [resource = '', subresource] = full.split('/');
          return {
            verb,
            group,
            resource,
            ...(subresource === undefined ? {} : { subresource }),
            ...(namespace === null ? {} : { namespace }),
            ...(name === undefined ? {} : { name }),
          };
        }),
      ),
    ),
  );
}

/** Null where it may. */
async function answerTo(question: AccessQuestion, context: CheckContext): Promise<CheckAnswer | null> {
  const { api, namespace, signal } = context;
  const draft = {
    spec: {
      user: `system:serviceaccount:${namespace}:${INSTALL_NAMES.ca}`,
      groups: ['system:serviceaccounts', `system:serviceaccounts:${namespace}`, 'system:authenticated'],
      resourceAttributes: question,
    },
  };
  try {
    const review = await api.create(SUBJECT_ACCESS_REVIEW, draft, { signal });
    if (fieldOf(review, 'status', 'allowed') === true) return null;
  } catch (error) {
    if (!isKedgeError(error) || error.code !== 'kubernetes_forbidden') throw error;
    return { verdict: 'skipped', detail: 'needs the right to create SubjectAccessReviews' };
  }
  return {
    verdict: 'failed',
    detail: `its ServiceAccount ${namespace}/${INSTALL_NAMES.ca} may not`,
    hint: missingRule(question),
  };
}
