import { INJECT_KEY } from '../kubernetes/cluster-names.ts';
import { SYSTEM_NAMESPACES } from './injection-settings.ts';
import type { Json, JsonMap } from './json.ts';

/** What becomes of a new pod in a meshed namespace while the webhook cannot be reached. */
export const FAILURE_POLICIES = ['Fail', 'Ignore'] as const;
export type FailurePolicy = (typeof FAILURE_POLICIES)[number];

/** Where the API server finds the webhook. */
export type WebhookTarget =
  | { readonly kind: 'service'; readonly namespace: string; readonly name: string; readonly port: number }
  /** For an API server outside the cluster's network; `https://`, with the path. */
  | { readonly kind: 'url'; readonly url: string };

/** What a MutatingWebhookConfiguration is made from. */
export interface WebhookConfigurationOptions {
  readonly target: WebhookTarget;
  readonly failurePolicy: FailurePolicy;
  /** How long the API server waits for an answer, seconds: 1 to 30. */
  readonly timeoutSeconds: number;
  /** The namespace of the identity plane itself. */
  readonly ownNamespace: string;
}

/** The path of the webhook. */
export const MUTATE_PATH = '/mutate';
/** The name of the MutatingWebhookConfiguration, unless it is configured. */
export const WEBHOOK_CONFIGURATION_NAME = 'kedge';
/** The webhooks in it: for labelled namespaces, and for labelled pods in namespaces that say nothing. */
export const WEBHOOK_NAMES = ['namespace.inject.kedge.io', 'pod.inject.kedge.io'] as const;

/** The label that Kubernetes 1.21 and newer put on each namespace. */
const NAMESPACE_NAME = 'kubernetes.io/metadata.name';

/**
 * The webhooks of the MutatingWebhookConfiguration, without their caBundle. Every field that the API server would fill
 * in is there, so that what was edited by hand can be told.
 *
 * Kedge can never keep a cluster from starting Kedge, whatever the failure policy: the API server does not ask about
 * pods in the namespaces of Kubernetes and of Kedge, nor about pods that are labelled `kedge.io/inject: disabled`, as
 * Kedge's own are, nor about any pod in a namespace without the label. On 1.20, where namespaces have no label with
 * their name, the first of these rests on nobody labelling those namespaces.
 */
export function webhooks(options: WebhookConfigurationOptions): readonly JsonMap[] {
  const [ofNamespace, ofPod] = WEBHOOK_NAMES;
  const notOurs = {
    key: NAMESPACE_NAME,
    operator: 'NotIn',
    values: [...SYSTEM_NAMESPACES, options.ownNamespace],
  };
  const inject = (operator: 'In' | 'NotIn', ...values: readonly string[]): JsonMap => ({
    key: INJECT_KEY,
    operator,
    values,
  });
  return [
    webhook(ofNamespace, options, {
      namespaceSelector: { matchExpressions: [inject('In', 'enabled'), notOurs] },
      objectSelector: { matchExpressions: [inject('NotIn', 'disabled')] },
    }),
    webhook(ofPod, options, {
      namespaceSelector: { matchExpressions: [inject('NotIn', 'enabled', 'disabled'), notOurs] },
      objectSelector: { matchExpressions: [inject('In', 'enabled')] },
    }),
  ];
}

function webhook(
  name: string,
  { target, failurePolicy, timeoutSeconds }: WebhookConfigurationOptions,
  selectors: JsonMap,
): JsonMap {
  return {
    name,
    clientConfig: clientConfig(target),
    rules: [
      {
        operations: ['CREATE'],
        apiGroups: [''],
        apiVersions: ['v1'],
        resources: ['pods'],
        scope: 'Namespaced',
      },
    ],
    ...selectors,
    failurePolicy,
    matchPolicy: 'Equivalent',
    sideEffects: 'None',
    timeoutSeconds,
    admissionReviewVersions: ['v1', 'v1beta1'],
    // What another webhook adds after us gets its share.
    reinvocationPolicy: 'IfNeeded',
  };
}

function clientConfig(target: WebhookTarget): JsonMap {
  if (target.kind === 'url') return { url: target.url };
  const { namespace, name, port } = target;
  return { service: { namespace, name, path: MUTATE_PATH, port } };
}

/** The webhooks with the trust anchors that the API server is to trust there, PEM. */
export function withCaBundle(hooks: readonly JsonMap[], anchorsPem: string): readonly JsonMap[] {
  const caBundle = Buffer.from(anchorsPem).toString('base64');
  return hooks.map((hook) => ({ ...hook, clientConfig: { ...(hook['clientConfig'] as JsonMap), caBundle } }));
}

/** The whole object, as it is installed: without a caBundle, which the CA puts in. */
export function mutatingWebhookConfiguration(
  name: string,
  options: WebhookConfigurationOptions,
  labels: Readonly<Record<string, string>>,
): JsonMap {
  return {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'MutatingWebhookConfiguration',
    metadata: { name, labels: labels as Json },
    webhooks: webhooks(options),
  };
}
