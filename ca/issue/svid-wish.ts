import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { isDnsName } from '../../pki/dns-name.ts';
import { LIMITS } from '../../pki/limits.ts';
import type { PolicyDecision } from './policy.ts';

/** What a workload asks of its SVID beside the identity that its token proves. The policy bounds it. */
export interface SvidWish {
  /** Milliseconds; null = as long as the policy grants. */
  readonly ttlMs: number | null;
  readonly dnsNames: readonly string[];
}

/** A wish as it came. Throws `dns_name_denied` for what is no DNS name, and for too many. */
export function checkedWish(ttlSeconds: number, dnsNames: readonly string[]): SvidWish | undefined {
  if (ttlSeconds === 0 && dnsNames.length === 0) return undefined;
  if (dnsNames.length > LIMITS.policyDnsNames) {
    throw new KedgeError('dns_name_denied', `the request names ${dnsNames.length} DNS names`, {
      hint: `ask for ${LIMITS.policyDnsNames} at most`,
    });
  }
  const bad = dnsNames.find((name) => !isDnsName(name));
  if (bad !== undefined) {
    throw new KedgeError('dns_name_denied', `the request names ${quote(bad)}, which is no DNS name`, {
      hint: 'ask for lower-case names without wildcard and without a dot at the end',
    });
  }
  return { ttlMs: ttlSeconds === 0 ? null : ttlSeconds * 1_000, dnsNames };
}

/**
 * What the policy makes of a wish: a lifetime is cut to what it allows, at both ends; DNS names are added to those that it
 * gives anyway. Throws `dns_name_denied` for a name that this identity may not have.
 */
export function withWish(decision: PolicyDecision, wish: SvidWish | undefined): PolicyDecision {
  if (wish === undefined || decision.kind === 'denied') return decision;
  const { grant, latitude } = decision;
  const { ttlMs, dnsNames } = grant;
  const { minTtlMs, allowedDnsNames } = latitude ?? { minTtlMs: ttlMs, allowedDnsNames: [] };
  const denied = wish.dnsNames.find((name) => !dnsNames.includes(name) && !allowedDnsNames.includes(name));
  if (denied !== undefined) {
    throw new KedgeError('dns_name_denied', `the policy does not allow the DNS name ${quote(denied)}`, {
      hint:
        allowedDnsNames.length === 0
          ? 'allowedDnsNames of the policy says which names an identity may ask for; this one may ask for none'
          : `this identity may ask for ${allowedDnsNames.join(', ')}`,
    });
  }
  const wished = wish.ttlMs === null ? ttlMs : Math.max(minTtlMs, Math.min(ttlMs, wish.ttlMs));
  return {
    kind: 'granted',
    grant: { ...grant, ttlMs: wished, dnsNames: [...new Set([...dnsNames, ...wish.dnsNames])] },
  };
}
