import { createHash } from 'node:crypto';
import { configurationOptions, webhookSettings } from '../../ca/inject/injection-config.ts';
import { mutatingWebhookConfiguration } from '../../ca/inject/webhook-configuration.ts';
import { readSettings } from '../../ca/config-schema.ts';
import { INJECT_KEY } from '../../ca/kubernetes/cluster-names.ts';
import { caConfigText } from './ca-config-text.ts';
import { caDeployment } from './ca-deployment.ts';
import { CA_SELECTOR, INSTALL_NAMES, INSTALL_PORTS, INSTALLED_LABELS } from './install-names.ts';
import type { InstallValues } from './install-values.ts';
import type { KubernetesObject } from './kubernetes-object.ts';
import type { KubernetesVersion } from './kubernetes-version.ts';
import { networkPolicies } from './network-policies.ts';
import { rbac } from './rbac.ts';

/** Everything that `kedge install` makes, in the order in which it can be applied. */
export function manifests(values: InstallValues, version: KubernetesVersion): readonly KubernetesObject[] {
  const config = configMap(values);
  const hash = createHash('sha256').update(JSON.stringify(config.data)).digest('hex');
  return [
    namespaceObject(values),
    priorityClass(),
    ...rbac(values),
    config,
    service(values),
    caDeployment(values, hash),
    ...(Number(values.replicas) > 1 ? [disruptionBudget(values, version)] : []),
    ...(values.networkPolicies === 'true' ? networkPolicies(values) : []),
    webhookConfiguration(config.data['ca.yaml'] ?? ''),
  ];
}

/** From the very configuration that the CA reads: it keeps the object as this says. */
function webhookConfiguration(caYaml: string): KubernetesObject {
  const settings = webhookSettings(readSettings(caYaml, 'ca.yaml', {}));
  if (settings === null) throw new TypeError('the configuration of the CA has no webhook');
  return mutatingWebhookConfiguration(
    settings.configuration,
    configurationOptions(settings),
    INSTALLED_LABELS,
  ) as unknown as KubernetesObject;
}

function namespaceObject({ namespace }: InstallValues): KubernetesObject {
  return {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: {
      name: namespace,
      labels: {
        ...INSTALLED_LABELS,
        // The webhook leaves it alone: Kedge must be able to start without Kedge.
        [INJECT_KEY]: 'disabled',
        'pod-security.kubernetes.io/enforce': 'restricted',
      },
    },
  };
}

function priorityClass(): KubernetesObject {
  return {
    apiVersion: 'scheduling.k8s.io/v1',
    kind: 'PriorityClass',
    metadata: { name: INSTALL_NAMES.priorityClass, labels: INSTALLED_LABELS },
    // The highest that is not reserved for Kubernetes' own.
    value: 1_000_000_000,
    globalDefault: false,
    description: 'The identity CA of the mesh: what needs an identity cannot start without it.',
  };
}

function configMap(
  values: InstallValues,
): KubernetesObject & { readonly data: Readonly<Record<string, string>> } {
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: INSTALL_NAMES.config, namespace: values.namespace, labels: INSTALLED_LABELS },
    data: { 'ca.yaml': caConfigText(values), 'policy.yaml': 'rules: []\ndeny: []\n' },
  };
}

function service(values: InstallValues): KubernetesObject {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: INSTALL_NAMES.ca, namespace: values.namespace, labels: INSTALLED_LABELS },
    spec: {
      type: 'ClusterIP',
      selector: CA_SELECTOR,
      ports: [
        { name: 'grpc', port: INSTALL_PORTS.grpc, targetPort: 'grpc', protocol: 'TCP' },
        { name: 'webhook', port: 443, targetPort: 'webhook', protocol: 'TCP' },
      ],
    },
  };
}

function disruptionBudget(values: InstallValues, { minor }: KubernetesVersion): KubernetesObject {
  return {
    // policy/v1 is there since 1.21, its beta gone since 1.25.
    apiVersion: minor >= 21 ? 'policy/v1' : 'policy/v1beta1',
    kind: 'PodDisruptionBudget',
    metadata: { name: INSTALL_NAMES.ca, namespace: values.namespace, labels: INSTALLED_LABELS },
    spec: { maxUnavailable: 1, selector: { matchLabels: CA_SELECTOR } },
  };
}
