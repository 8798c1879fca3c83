import { WEBHOOK_CONFIGURATION_NAME } from '../../ca/inject/webhook-configuration.ts';
import {
  SEALING_KEY_SECRET,
  TRUST_BUNDLE_NAME,
  TRUST_STATE_SECRET,
} from '../../ca/kubernetes/cluster-names.ts';
import { INSTALL_NAMES, INSTALLED_LABELS } from './install-names.ts';
import type { InstallValues } from './install-values.ts';
import type { KubernetesObject } from './kubernetes-object.ts';

/** One rule of a Role or ClusterRole, with why the CA needs it. */
export interface RbacRule {
  /** Shown by docs and by `kedge check`; not part of the manifest. */
  readonly why: string;
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly verbs: readonly string[];
}

/** What the CA may do in every namespace. No wildcard; no Secret. */
export const CLUSTER_RULES: readonly RbacRule[] = [
  {
    why: 'attest the ServiceAccount tokens of workloads',
    apiGroups: ['authentication.k8s.io'],
    resources: ['tokenreviews'],
    verbs: ['create'],
  },
  {
    why: 'know which namespaces are meshed',
    apiGroups: [''],
    resources: ['namespaces'],
    verbs: ['list', 'watch'],
  },
  {
    why: 'know which workload instances are live',
    apiGroups: [''],
    resources: ['pods'],
    verbs: ['get', 'list', 'watch'],
  },
  {
    why: 'make the trust bundle known in a meshed namespace (RBAC cannot limit create to a name)',
    apiGroups: [''],
    resources: ['configmaps'],
    verbs: ['create'],
  },
  {
    why: 'keep the trust bundle of each namespace current, and remove it where it is not wanted',
    apiGroups: [''],
    resources: ['configmaps'],
    resourceNames: [TRUST_BUNDLE_NAME],
    verbs: ['list', 'watch', 'update', 'delete'],
  },
  {
    why: 'publish the trust bundle for the whole cluster, where its API has that',
    apiGroups: ['certificates.k8s.io'],
    resources: ['clustertrustbundles'],
    verbs: ['create'],
  },
  {
    why: 'keep the trust bundle of the cluster current',
    apiGroups: ['certificates.k8s.io'],
    resources: ['clustertrustbundles'],
    resourceNames: [TRUST_BUNDLE_NAME],
    verbs: ['get', 'update'],
  },
  {
    why: 'keep the webhook as it should be, with the trust anchors in its caBundle',
    apiGroups: ['admissionregistration.k8s.io'],
    resources: ['mutatingwebhookconfigurations'],
    resourceNames: [WEBHOOK_CONFIGURATION_NAME],
    verbs: ['list', 'watch', 'update'],
  },
  {
    why: 'say on an object what is wrong with it',
    apiGroups: [''],
    resources: ['events'],
    verbs: ['create'],
  },
];

/** What the CA may do in its own namespace besides. */
export const NAMESPACE_RULES: readonly RbacRule[] = [
  {
    why: 'make the Secrets of the trust state and of its sealing key (RBAC cannot limit create to a name)',
    apiGroups: [''],
    resources: ['secrets'],
    verbs: ['create'],
  },
  {
    why: 'keep the trust state',
    apiGroups: [''],
    resources: ['secrets'],
    resourceNames: [TRUST_STATE_SECRET],
    verbs: ['get', 'list', 'watch', 'update'],
  },
  {
    why: 'read the key that seals the CA keys; its Secret is immutable',
    apiGroups: [''],
    resources: ['secrets'],
    resourceNames: [SEALING_KEY_SECRET],
    verbs: ['get'],
  },
  {
    why: 'tell the other replicas what its agents hold, and learn it from them',
    apiGroups: [''],
    resources: ['configmaps'],
    verbs: ['get', 'list', 'watch', 'create', 'patch', 'delete'],
  },
];

/** A ServiceAccount for the CA, its ClusterRole, its Role in its own namespace, and their bindings. */
export function rbac({ namespace }: InstallValues): readonly KubernetesObject[] {
  const name = INSTALL_NAMES.ca;
  const subjects = [{ kind: 'ServiceAccount', name, namespace }];
  const labels = INSTALLED_LABELS;
  const roleRef = (kind: string): object => ({ apiGroup: 'rbac.authorization.k8s.io', kind, name });
  const apiVersion = 'rbac.authorization.k8s.io/v1';
  return [
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name, namespace, labels } },
    { apiVersion, kind: 'ClusterRole', metadata: { name, labels }, rules: CLUSTER_RULES.map(manifestRule) },
    {
      apiVersion,
      kind: 'ClusterRoleBinding',
      metadata: { name, labels },
      roleRef: roleRef('ClusterRole'),
      subjects,
    },
    {
      apiVersion,
      kind: 'Role',
      metadata: { name, namespace, labels },
      rules: NAMESPACE_RULES.map(manifestRule),
    },
    {
      apiVersion,
      kind: 'RoleBinding',
      metadata: { name, namespace, labels },
      roleRef: roleRef('Role'),
      subjects,
    },
  ];
}

/** A rule as it stands in a Role or ClusterRole. */
export function manifestRule({ why: _why, ...rule }: RbacRule): object {
  return rule;
}
