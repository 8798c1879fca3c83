import type { KubernetesObject, ObjectDraft, ResourceType } from './objects.ts';

/** Which object. */
export interface ObjectRef {
  readonly name: string;
  /** Required for a namespaced type. */
  readonly namespace?: string;
}

/** Which objects. */
export interface Selection {
  /** Undefined: every namespace. */
  readonly namespace?: string;
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
}

/** What every call takes. */
export interface CallOptions {
  readonly signal: AbortSignal;
  /** Milliseconds until `deadline_exceeded`; default: the client's. */
  readonly timeoutMs?: number;
}

/** What a list takes. */
export interface ListOptions extends CallOptions, Selection {
  /**
   * Is given each object as its page comes, and it is then not in `items`: there may be many large ones, and no more than
   * a page of them is kept. What it was given of a list that fails counts for nothing. A list need not call it. It must
   * not throw.
   */
  readonly take?: (object: KubernetesObject) => void;
}

/** Objects that were there at one instant. */
export interface ObjectList {
  readonly items: readonly KubernetesObject[];
  /** Where a watch goes on from. */
  readonly resourceVersion: string;
}

/** How {@link KubernetesApi.patch} changes an object: RFC 7386, RFC 6902, or Kubernetes' strategic merge. */
export type Patch =
  | { readonly kind: 'merge' | 'strategic'; readonly body: Readonly<Record<string, unknown>> }
  | { readonly kind: 'json'; readonly body: readonly object[] };

/** What server-side apply takes. */
export interface ApplyOptions extends CallOptions {
  readonly fieldManager: string;
  /** Take over fields that another manager owns. Default false: a `kubernetes_conflict`. */
  readonly force?: boolean;
  /** Have the API server check everything and change nothing. */
  readonly dryRun?: boolean;
}

/** What a deletion takes. */
export interface DeleteOptions extends CallOptions {
  /** Delete only the object with this UID; `kubernetes_conflict` otherwise. */
  readonly uid?: string;
  /** Delete only this version; `kubernetes_conflict` otherwise. */
  readonly resourceVersion?: string;
  readonly gracePeriodSeconds?: number;
}

/** What a watch takes. */
export interface WatchOptions extends Selection {
  /** From a list, or from the last event. Events after it come. */
  readonly resourceVersion: string;
  /** How long the API server keeps the watch open, seconds. */
  readonly timeoutSeconds: number;
  /** Ends the watch. */
  readonly signal: AbortSignal;
}

/** What happened to an object. A bookmark only says how far the watch has come; `opened` comes first, once. */
export type WatchEvent =
  | { readonly kind: 'opened' }
  | { readonly kind: 'added' | 'modified' | 'deleted'; readonly object: KubernetesObject }
  | { readonly kind: 'bookmark'; readonly resourceVersion: string };

/** What SelfSubjectAccessReview is asked. */
export interface AccessQuestion {
  readonly verb: string;
  readonly group: string;
  readonly resource: string;
  readonly subresource?: string;
  readonly namespace?: string;
  readonly name?: string;
}

/**
 * The one way in which Kedge talks to the API server of a cluster.
 *
 * Consistency: `get` and `list` read what is committed (no `resourceVersion=0`); `replace` changes the version that
 * `metadata.resourceVersion` names, else nothing. Durability: a change that was answered is committed; one that failed
 * with `kubernetes_unreachable`, `kubernetes_unavailable` or `deadline_exceeded` may be committed or not. Retries are
 * the caller's: no call is repeated in here. Concurrency: any; connections are kept and shared; nothing is throttled
 * beyond the limit of connections.
 *
 * Every call ends by its deadline, and at once when its signal aborts (with the signal's reason). Errors:
 * `kubernetes_unauthorized`, `kubernetes_forbidden` (the hint is the RBAC rule that is missing),
 * `kubernetes_not_found`, `kubernetes_exists`, `kubernetes_conflict`, `kubernetes_gone`, `kubernetes_refused`,
 * `kubernetes_throttled` and `kubernetes_unavailable` (with retryAfterMs where the API server gave one),
 * `kubernetes_unreachable`, `kubernetes_answer_invalid`, `deadline_exceeded`.
 */
export interface KubernetesApi {
  /** The namespace of the credentials: the pod's own, or the one of the kubeconfig context. */
  readonly namespace: string;
  get(type: ResourceType, ref: ObjectRef, options: CallOptions): Promise<KubernetesObject>;
  /** Reads page by page, each with the deadline; the pages are of one instant. */
  list(type: ResourceType, options: ListOptions): Promise<ObjectList>;
  create(type: ResourceType, draft: ObjectDraft, options: CallOptions): Promise<KubernetesObject>;
  /** Posts to a subresource, as TokenRequest to `token` of a ServiceAccount; `answer` is what comes back. */
  createSubresource(
    parent: ResourceType,
    ref: ObjectRef,
    subresource: string,
    answer: ResourceType,
    draft: ObjectDraft,
    options: CallOptions,
  ): Promise<KubernetesObject>;
  /** `draft.metadata` names the object and, for compare-and-swap, its resourceVersion. */
  replace(type: ResourceType, draft: ObjectDraft, options: CallOptions): Promise<KubernetesObject>;
  patch(type: ResourceType, ref: ObjectRef, patch: Patch, options: CallOptions): Promise<KubernetesObject>;
  /** Server-side apply: makes the object, or changes the fields that `draft` names. */
  apply(type: ResourceType, draft: ObjectDraft, options: ApplyOptions): Promise<KubernetesObject>;
  delete(type: ResourceType, ref: ObjectRef, options: DeleteOptions): Promise<void>;
  /**
   * The events after a resourceVersion, bookmarks among them. Ends when the API server ends it, at its time or before.
   * Throws as calls do, `kubernetes_unreachable` when the connection breaks; `kubernetes_gone` asks for a new list.
   */
  watch(type: ResourceType, options: WatchOptions): AsyncIterable<WatchEvent>;
  /** Plural names of what a version of an API serves (`v1`, `apps/v1`); empty where the cluster does not have it. */
  servedResources(apiVersion: string, options: CallOptions): Promise<ReadonlySet<string>>;
  /** A document outside the object APIs, as JSON: `/version`, `/openid/v1/jwks`. */
  getPath(path: `/${string}`, options: CallOptions): Promise<unknown>;
  /** Whether these credentials may do that, by SelfSubjectAccessReview. */
  mayI(question: AccessQuestion, options: CallOptions): Promise<boolean>;
  /** Closes the idle connections. Calls under way go on. */
  close(): void;
}
