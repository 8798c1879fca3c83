/*
 * Names by which the parts of Kedge in a cluster know one another's objects. Each stands here once: injection writes what
 * the fleet counts, trust distribution writes what injection mounts, and the manifests grant rights on both.
 */

/** Who is in charge of an object (Kubernetes' recommended labels). */
export const MANAGED_BY = 'app.kubernetes.io/managed-by';
/** The labels of everything that the CA makes itself. */
export const OWN_LABELS = { [MANAGED_BY]: 'kedge', 'app.kubernetes.io/name': 'kedge' } as const;

/** The label that says whether a namespace or a pod is meshed; on pods an annotation of that name is read too. */
export const INJECT_KEY = 'kedge.io/inject';
/** Its value that asks for the agent. */
export const INJECT_ENABLED = 'enabled';

/** The label that every injected pod carries, with the value `true`. */
export const INJECTED_LABEL = 'kedge.io/injected';
/** Selects the pods that carry the agent. */
export const INJECTED_SELECTOR = `${INJECTED_LABEL}=true`;

/** The ConfigMap with the trust bundle in every meshed namespace, and the ClusterTrustBundle. */
export const TRUST_BUNDLE_NAME = 'kedge-trust-bundle';
/** Its key with the trust anchors as PEM: what agents start from. */
export const BUNDLE_PEM_KEY = 'bundle.pem';

/** The Secret with the trust state, unless it is configured. */
export const TRUST_STATE_SECRET = 'kedge-trust-state';
/** The Secret with the key that seals the CA keys in it, unless it is configured. */
export const SEALING_KEY_SECRET = 'kedge-sealing-key';
