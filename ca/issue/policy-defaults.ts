import type { SvidKeyType } from '../../pki/algorithms.ts';
import type { GrantTerms } from './policy.ts';

/** What bounds a policy from outside it. */
export interface PolicyBounds {
  /** What an SVID may live at most, milliseconds; never more than an issuer. */
  readonly maxTtlMs: number;
  /** How far SVIDs are backdated, milliseconds: a TTL below it would be over before its renewal is due. */
  readonly backdateMs: number;
}

/** SVID lifetime where neither file nor rule gives one: 24 hours, as meshes have it. */
export const DEFAULT_TTL_MS = 86_400_000;

/** The shortest lifetime that a workload may ask for where neither file nor rule gives one: what it costs is the CA's. */
export const DEFAULT_MIN_TTL_MS = 600_000;

/** Key types where neither file nor rule gives any: all. */
export const SVID_KEY_TYPES = [
  'ec-p256',
  'ec-p384',
  'ed25519',
  'rsa-2048',
  'rsa-3072',
  'rsa-4096',
] as const satisfies readonly SvidKeyType[];

/** The terms where nothing is configured: everyone, every key type, no DNS name, {@link DEFAULT_TTL_MS}. */
export function fallbackTerms(bounds: PolicyBounds): GrantTerms {
  return {
    ttlMs: Math.min(DEFAULT_TTL_MS, bounds.maxTtlMs),
    keyTypes: new Set(SVID_KEY_TYPES),
    minTtlMs: DEFAULT_MIN_TTL_MS,
    dnsNames: [],
    allowedDnsNames: [],
  };
}
