import type { ResourceType } from '../../ca/kubernetes/objects.ts';

/** Types that only checks read. */
export const DEPLOYMENT: ResourceType = {
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  plural: 'deployments',
  namespaced: true,
};
export const MUTATING_WEBHOOK_CONFIGURATION: ResourceType = {
  apiVersion: 'admissionregistration.k8s.io/v1',
  kind: 'MutatingWebhookConfiguration',
  plural: 'mutatingwebhookconfigurations',
  namespaced: false,
};
/** Asks for somebody else, which takes the right to create it. */
export const SUBJECT_ACCESS_REVIEW: ResourceType = {
  apiVersion: 'authorization.k8s.io/v1',
  kind: 'SubjectAccessReview',
  plural: 'subjectaccessreviews',
  namespaced: false,
};
