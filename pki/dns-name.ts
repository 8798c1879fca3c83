/** A label of the preferred name syntax (RFC 1034 section 3.5, RFC 1123 section 2.1), lower case. */
const LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/**
 * True when `name` may stand as a DNS SAN in an SVID: labels of lower-case letters, digits and inner dashes, at most
 * 63 characters each and 253 together, no wildcard, no trailing dot, and not an IPv4 address in disguise
 * (RFC 5280 section 4.2.1.6).
 */
export function isDnsName(name: string): boolean {
  if (name.length === 0 || name.length > 253) return false;
  return name.split('.').every((label) => LABEL.test(label)) && !/(?:^|\.)\d+$/.test(name);
}
