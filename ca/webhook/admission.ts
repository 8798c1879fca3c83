import { isKedgeError } from '../../pki/kedge-error.ts';
import type { ClusterCapabilities } from '../inject/cluster-capabilities.ts';
import { type Injection, injectPod } from '../inject/injection.ts';
import { type InjectionSettings } from '../inject/injection-settings.ts';
import { member } from '../inject/json.ts';
import { INJECT_KEY } from '../kubernetes/cluster-names.ts';
import type { AdmissionAnswer, AdmissionRequest } from './admission-review.ts';

/** How an admission ends, as its metric names it. */
export const ADMISSION_OUTCOMES = [
  'injected',
  'unchanged',
  'skipped',
  'refused',
  /** About something else than a new pod. */
  'not-a-pod',
  /** No AdmissionReview, or none that is read to its end. */
  'malformed',
  /** More at once, or in a second, than is read. */
  'overloaded',
  /** Not answered, by a fault on our side. */
  'failed',
] as const;
export type AdmissionOutcome = (typeof ADMISSION_OUTCOMES)[number];

/** An answer and how it is counted. */
export interface Admission {
  readonly outcome: AdmissionOutcome;
  readonly answer: AdmissionAnswer;
  /** Code of the refusal. */
  readonly code?: string;
}

/** What {@link admit} goes by. */
export interface AdmissionContext {
  readonly settings: InjectionSettings;
  readonly capabilities: ClusterCapabilities;
  readonly ownNamespace: string;
}

/**
 * Decides about one request. Pure, so that a dry run is like any other; what goes wrong with the pod is the answer,
 * and only a mistake of ours is thrown.
 *
 * The API server asks about pods of meshed namespaces and about pods that carry the label, and about nothing else, so
 * the label of a namespace, which no request holds, is told by the request itself.
 */
export function admit(request: AdmissionRequest, context: AdmissionContext): Admission {
  const { resource, operation, namespace, object } = request;
  if (resource !== '/v1/pods' || operation !== 'CREATE') {
    const warning = `kedge changes pods as they are created, and was asked about ${operation} of ${resource}: correct the MutatingWebhookConfiguration`;
    return { outcome: 'not-a-pod', answer: { allowed: true, edits: [], warning } };
  }
  // A namespace may be asked about by its name alone: a pod need not repeat it.
  const name = namespace !== '' ? namespace : textOf(member(member(object, 'metadata'), 'namespace'));
  try {
    return admissionOf(
      injectPod(object, { ...context, namespace: { name, labels: { [INJECT_KEY]: 'enabled' } } }),
    );
  } catch (error) {
    if (!isKedgeError(error)) throw error;
    const hint = error.hint === undefined ? '' : `; ${error.hint}`;
    const message = `${error.code}: ${error.message}${hint}`;
    return { outcome: 'refused', answer: { allowed: false, message }, code: error.code };
  }
}

function admissionOf(injection: Injection): Admission {
  const edits = injection.kind === 'injected' ? injection.edits : [];
  return { outcome: injection.kind, answer: { allowed: true, edits } };
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}
