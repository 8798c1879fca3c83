import { KedgeError, quote } from '../../pki/kedge-error.ts';
import type { WorkloadInstance } from './attestor.ts';
import { claimInvalid, type JwtClaims, optionalObject, requireText } from './jwt-claims.ts';
import { isLabelName, isObjectUid, isSubdomainName } from './kubernetes-names.ts';

/** The private claim of Kubernetes' bound ServiceAccount tokens. */
export const KUBERNETES_CLAIM = 'kubernetes.io';

/** `sub` of a ServiceAccount's token. */
export function serviceAccountSubject(namespace: string, serviceAccount: string): string {
  return `system:serviceaccount:${namespace}:${serviceAccount}`;
}

/** What is done with a token that is bound to no pod. */
export type Unbound = 'refuse' | 'take the ServiceAccount for the instance';

/** The refusal of a token that is bound to no pod. */
export function notBoundToPod(): KedgeError {
  return new KedgeError('token_not_bound_to_pod', 'the token is not bound to a pod', {
    hint: 'use a projected ServiceAccount token volume, or bind the TokenRequest to the pod',
  });
}

/**
 * Who holds a bound ServiceAccount token, read from its verified claims: the `kubernetes.io` claim, which `sub`
 * must agree with. Throws `token_claims_invalid`, and `token_not_bound_to_pod` for a token that names no pod (one
 * bound to a Secret or a Node, or to nothing), unless `unbound` says otherwise: then all that hold a token of the
 * ServiceAccount are one instance, named by the ServiceAccount and its UID.
 */
export function workloadInstanceOf(
  claims: JwtClaims,
  cluster: string,
  unbound: Unbound = 'refuse',
): WorkloadInstance {
  const bound = optionalObject(claims.all, KUBERNETES_CLAIM);
  if (bound === undefined) throw claimInvalid(KUBERNETES_CLAIM, 'missing');
  const namespace = requireName(bound, 'namespace', 'namespace', isLabelName);
  const account = optionalObject(bound, 'serviceaccount', `${KUBERNETES_CLAIM}.serviceaccount`);
  if (account === undefined) throw claimInvalid(`${KUBERNETES_CLAIM}.serviceaccount`, 'missing');
  const serviceAccount = requireName(account, 'name', 'serviceaccount.name', isSubdomainName);
  if (claims.subject !== serviceAccountSubject(namespace, serviceAccount)) {
    throw claimInvalid('sub', `not the ServiceAccount that ${KUBERNETES_CLAIM} names`);
  }
  const pod = optionalObject(bound, 'pod', `${KUBERNETES_CLAIM}.pod`);
  if (pod === undefined && unbound === 'refuse') throw notBoundToPod();
  const node = optionalObject(bound, 'node', `${KUBERNETES_CLAIM}.node`);
  return {
    cluster,
    namespace,
    serviceAccount,
    podName: pod === undefined ? serviceAccount : requireName(pod, 'name', 'pod.name', isSubdomainName),
    podUid:
      pod === undefined
        ? requireName(account, 'uid', 'serviceaccount.uid', isObjectUid)
        : requireName(pod, 'uid', 'pod.uid', isObjectUid),
    nodeName: node === undefined ? undefined : requireName(node, 'name', 'node.name', isSubdomainName),
    tokenExpiresAtMs: claims.expiresAtMs,
  };
}

function requireName(
  object: ReadonlyMap<string, unknown>,
  member: string,
  path: string,
  isValid: (name: string) => boolean,
): string {
  const fullPath = `${KUBERNETES_CLAIM}.${path}`;
  const name = requireText(object, member, fullPath);
  if (!isValid(name)) throw claimInvalid(fullPath, `${quote(name)}, which is not a Kubernetes name`);
  return name;
}
