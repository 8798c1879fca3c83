/**
 * How one name meets one name constraint (RFC 5280 section 4.2.1.10). Pure functions on the names as certificates
 * carry them; host names are compared without regard to case and without a trailing dot.
 *
 * Each answers `null` where it cannot judge: a URI without a host name, a constraint that is none. The caller
 * must refuse then, because a constraint that is ignored is a constraint lifted.
 */

import { toHex } from './bytes.ts';

/** Whether a name lies in a subtree; null = the standard gives no answer. */
export type Judgement = boolean | null;

const HOST_NAME = /^(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*$/;
const IPV4_LITERAL = /^[0-9]+(?:\.[0-9]+){3}$/;

/**
 * A URI against a URI constraint: `example.org` is that host alone, `.example.org` every host below it and not
 * the host itself. Of a SPIFFE ID the trust domain is the host.
 */
export function uriInSubtree(uri: string, constraint: string): Judgement {
  const host = hostOfUri(uri);
  const wanted = canonical(constraint);
  const below = wanted.startsWith('.');
  if (host === null || !HOST_NAME.test(below ? wanted.slice(1) : wanted)) return null;
  return below ? host.endsWith(wanted) : host === wanted;
}

/**
 * A DNS name against a DNS constraint: `example.org` is that host and everything below it, `.example.org` (which
 * OpenSSL and Go know too) only what is below, the empty constraint every name.
 *
 * Of a wildcard name both answers matter: `all` asks whether every host that it stands for is in the subtree
 * (for permitted subtrees), `any` whether one may be (for excluded ones).
 */
export function dnsNameInSubtree(name: string, constraint: string, wildcard: 'all' | 'any'): Judgement {
  const host = canonical(name);
  const wanted = canonical(constraint);
  const base = wanted.startsWith('.') ? wanted.slice(1) : wanted;
  const plain = host.startsWith('*.') ? host.slice(2) : host;
  if (!HOST_NAME.test(plain)) return null;
  if (constraint === '') return true;
  if (!HOST_NAME.test(base)) return null;
  if (plain.endsWith(`.${base}`)) return true;
  if (plain === host) return host === wanted;
  // `*.example.org` stands for names one label below example.org, so all of them are below it ...
  if (plain === base) return true;
  // ... and one of them may be, or be above, a constraint deeper down.
  return wildcard === 'any' && base.endsWith(`.${plain}`);
}

/** An IP address (4 or 16 octets) against an address with its mask (8 or 32 octets). */
export function ipAddressInSubtree(address: Uint8Array, constraint: Uint8Array): Judgement {
  const known = (length: number): boolean => length === 4 || length === 16;
  if (!known(address.length) || !known(constraint.length / 2)) return null;
  if (address.length * 2 !== constraint.length) return false;
  const base = numberOf(constraint.subarray(0, address.length));
  const mask = numberOf(constraint.subarray(address.length));
  return ((numberOf(address) ^ base) & mask) === 0n;
}

/** The host name of a URI in lower case, or null when it has none: no authority, or an IP address (RFC 5280). */
function hostOfUri(uri: string): string | null {
  const authority = /^[a-z][a-z0-9+.-]*:\/\/([^/?#]*)/i.exec(uri)?.[1];
  if (authority === undefined) return null;
  const host = canonical(authority.slice(authority.lastIndexOf('@') + 1).replace(/:[0-9]*$/, ''));
  return HOST_NAME.test(host) && !IPV4_LITERAL.test(host) ? host : null;
}

function numberOf(octets: Uint8Array): bigint {
  return BigInt(`0x${toHex(octets)}`);
}

function canonical(name: string): string {
  return name.toLowerCase().replace(/\.$/, '');
}
