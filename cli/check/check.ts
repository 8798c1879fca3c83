import type { KubernetesApi } from '../../ca/kubernetes/kubernetes-api.ts';
import type { Clock } from '../../host/clock.ts';

/** What a check found. `detail` and `hint` are of one line each. */
export type CheckAnswer =
  | { readonly verdict: 'ok'; readonly detail?: string }
  /** Works, but somebody should look. */
  | { readonly verdict: 'warning'; readonly detail: string; readonly hint: string }
  | { readonly verdict: 'failed'; readonly detail: string; readonly hint: string }
  /** Could not be asked here, and why. Never counts as ok. */
  | { readonly verdict: 'skipped'; readonly detail: string };

/** All that a check may look at. */
export interface CheckContext {
  readonly api: KubernetesApi;
  /** Namespace of the identity plane. */
  readonly namespace: string;
  readonly clock: Clock;
  /** Ends every call. */
  readonly signal: AbortSignal;
}

/** One question to the cluster. */
export interface Check {
  /** The heading that it stands under. */
  readonly category: string;
  /** As a statement that should hold: `can reach the Kubernetes API`. */
  readonly statement: string;
  /** What follows makes no sense where this fails: everything after it is skipped. */
  readonly fatal?: boolean;
  /** Asks. A KedgeError that it throws is a failure with that error's hint. */
  readonly ask: (context: CheckContext) => Promise<CheckAnswer>;
}

/** The answer to one check, as it is printed. */
export interface CheckResult {
  readonly category: string;
  readonly statement: string;
  readonly verdict: CheckAnswer['verdict'];
  readonly detail: string;
  readonly hint: string;
}
