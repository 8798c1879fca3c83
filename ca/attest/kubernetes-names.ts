const LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
const SUBDOMAIN = /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*$/;
const UID = /^[0-9A-Za-z](?:[0-9A-Za-z-]{0,62}[0-9A-Za-z])?$/;

/** A name as Kubernetes gives namespaces: an RFC 1123 label, at most 63 characters. */
export function isLabelName(name: string): boolean {
  return LABEL.test(name);
}

/** A name as Kubernetes gives ServiceAccounts, pods and nodes: an RFC 1123 subdomain, at most 253 characters. */
export function isSubdomainName(name: string): boolean {
  return name.length <= 253 && SUBDOMAIN.test(name);
}

/** An object's UID: a UUID in practice, opaque by contract; here letters, digits and hyphens, at most 64. */
export function isObjectUid(uid: string): boolean {
  return UID.test(uid);
}
