import { LIMITS } from '../../pki/limits.ts';
import type { ApiRequest } from './api-message.ts';
import { accessOf, describe, pathOf, type Query, type Target } from './api-path.ts';
import type { RefusedRequest } from './api-refusal.ts';
import type { ObjectRef } from './kubernetes-api.ts';
import type { ObjectDraft, ResourceType } from './objects.ts';

/** Media types of what is sent. */
export const JSON_TYPE = 'application/json';
/** By {@link Patch.kind}. */
export const PATCH_TYPES = {
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
  json: 'application/json-patch+json',
} as const;
/** YAML is the one form that every version takes, and JSON is YAML. */
export const APPLY_TYPE = 'application/apply-patch+yaml';

/** One call of the object APIs, in the terms of Kubernetes. */
export interface ApiCall {
  /** RBAC's verb. */
  readonly verb: string;
  readonly method: ApiRequest['method'];
  readonly target: Target;
  readonly query?: Query;
  readonly body?: ApiRequest['body'];
  /** Longest answer that is taken, bytes; default: one object. */
  readonly maxBytes?: number;
  /** True for what changes nothing although it is posted. */
  readonly isRead?: boolean;
}

/** The HTTP request of a call. Throws `usage_invalid` for a name that is no path segment. */
export function requestOf({ verb, method, target, query, body, maxBytes, isRead }: ApiCall): ApiRequest {
  return {
    method,
    path: pathOf(target, query),
    ...(body === undefined ? {} : { body }),
    maxBytes: maxBytes ?? LIMITS.kubernetesObjectBytes,
    isRead: isRead ?? method === 'GET',
    what: describe(verb, target),
  };
}

/** The call, for what is said of its refusal. */
export function refusedOf({ verb, target }: ApiCall): RefusedRequest {
  return {
    what: describe(verb, target),
    access: accessOf(verb, target),
    sensitive: target.type.sensitive === true,
  };
}

/** Names the answer to a call in messages. */
export function answerTo({ verb, target }: ApiCall): string {
  return `the answer to ${describe(verb, target)}`;
}

/** A draft as it is sent, JSON. */
export function complete(type: ResourceType, draft: ObjectDraft): string {
  return JSON.stringify({ ...draft, apiVersion: type.apiVersion, kind: type.kind });
}

/** Which object a draft is of. */
export function refOf({ metadata }: ObjectDraft): ObjectRef {
  const namespace = metadata?.namespace;
  return { name: metadata?.name ?? '', ...(namespace === undefined ? {} : { namespace }) };
}
