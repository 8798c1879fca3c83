/** A kind of object that the API server serves. */
export interface ResourceType {
  /** `v1`, or group and version as in `authentication.k8s.io/v1`. */
  readonly apiVersion: string;
  readonly kind: string;
  /** As it stands in paths and in RBAC rules: `tokenreviews`. */
  readonly plural: string;
  readonly namespaced: boolean;
  /** True where objects hold secrets: the API server's messages, which may quote them, then stay out of errors. */
  readonly sensitive?: boolean;
}

/** Metadata of an object. What is named here has the type that it says; nothing else was looked at. */
export interface ObjectMeta {
  /** Empty where the API gives none, as for a TokenReview. */
  readonly name: string;
  readonly namespace?: string;
  readonly uid?: string;
  /** Opaque: to be given back, and compared for equality only. */
  readonly resourceVersion?: string;
  readonly deletionTimestamp?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly [member: string]: unknown;
}

/** An object as the API server gave it: kind and metadata checked, everything else not. */
export interface KubernetesObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: ObjectMeta;
  readonly [member: string]: unknown;
}

/** An object to be sent. The API client fills in apiVersion and kind. */
export interface ObjectDraft {
  readonly metadata?: {
    readonly name?: string;
    readonly namespace?: string;
    readonly resourceVersion?: string;
    readonly [member: string]: unknown;
  };
  readonly [member: string]: unknown;
}

const core = (kind: string, plural: string): ResourceType => ({
  apiVersion: 'v1',
  kind,
  plural,
  namespaced: true,
});

export const POD: ResourceType = core('Pod', 'pods');
export const CONFIG_MAP: ResourceType = core('ConfigMap', 'configmaps');
export const SERVICE_ACCOUNT: ResourceType = core('ServiceAccount', 'serviceaccounts');
export const SECRET: ResourceType = { ...core('Secret', 'secrets'), sensitive: true };
export const NAMESPACE: ResourceType = { ...core('Namespace', 'namespaces'), namespaced: false };
export const TOKEN_REVIEW: ResourceType = {
  apiVersion: 'authentication.k8s.io/v1',
  kind: 'TokenReview',
  plural: 'tokenreviews',
  namespaced: false,
  sensitive: true,
};
/** A subresource of a ServiceAccount, `token`. */
export const TOKEN_REQUEST: ResourceType = {
  apiVersion: 'authentication.k8s.io/v1',
  kind: 'TokenRequest',
  plural: 'tokenrequests',
  namespaced: true,
  sensitive: true,
};
export const SELF_SUBJECT_ACCESS_REVIEW: ResourceType = {
  apiVersion: 'authorization.k8s.io/v1',
  kind: 'SelfSubjectAccessReview',
  plural: 'selfsubjectaccessreviews',
  namespaced: false,
};

/** The API group of a type; empty for the core group. */
export function groupOf({ apiVersion }: ResourceType): string {
  const slash = apiVersion.indexOf('/');
  return slash < 0 ? '' : apiVersion.slice(0, slash);
}
