import { KedgeError, quote } from '../../pki/kedge-error.ts';
import type { BundleSnapshot, IdentitySnapshot } from '../snapshot.ts';

/**
 * The SDS resource names that stand for whatever identity the agent has; null = that name is not served.
 * The names by default, and what they mean, are those of SPIRE's agent (`default_svid_name` and so on).
 */
export interface SdsNames {
  /** TlsCertificate: the SVID. */
  readonly svid: string | null;
  /** CertificateValidationContext: the bundle of the own trust domain. */
  readonly bundle: string | null;
  /** CertificateValidationContext: the bundles of all trust domains, each for its own SVIDs. */
  readonly allBundles: string | null;
}

export const DEFAULT_SDS_NAMES: SdsNames = { svid: 'default', bundle: 'ROOTCA', allBundles: 'ALL' };

/** In xDS, the name of everything that there is. */
export const WILDCARD = '*';

/** How a name that is not to be served is written in a setting. */
export const NO_NAME = '-';

/** What a resource name stands for. */
export type SdsTarget =
  | { readonly kind: 'svid' }
  | { readonly kind: 'bundle'; readonly bundle: BundleSnapshot }
  | { readonly kind: 'allBundles' };

/** Names as they stand in settings; `-` = not served. Throws `config_invalid`: a name twice, or one with a meaning. */
export function parseSdsNames(settings: Readonly<Record<keyof SdsNames, string>>): SdsNames {
  const names = {
    svid: settingName(settings.svid),
    bundle: settingName(settings.bundle),
    allBundles: settingName(settings.allBundles),
  };
  const given = Object.values(names).filter((name) => name !== null);
  if (new Set(given).size < given.length) {
    throw new KedgeError('config_invalid', 'two SDS resource names are the same', {
      hint: `give each its own, or ${NO_NAME} for one that is not to be served`,
    });
  }
  return names;
}

function settingName(name: string): string | null {
  if (name === NO_NAME) return null;
  if (/^[!-~]{1,255}$/.test(name) && name !== WILDCARD && !name.includes(':')) return name;
  throw new KedgeError('config_invalid', `the SDS resource name ${quote(name)} cannot be given`, {
    hint: `allowed are 1 to 255 printable ASCII characters without space and colon, not ${WILDCARD}`,
  });
}

/** What `name` stands for in `snapshot`; null = nothing. */
export function targetOf(name: string, snapshot: IdentitySnapshot, names: SdsNames): SdsTarget | null {
  if (name === snapshot.svid.spiffeId.toString() || name === names.svid) return { kind: 'svid' };
  const bundle = bundlesOf(snapshot).find(({ trustDomain }) => trustDomain.id === name);
  if (bundle !== undefined) return { kind: 'bundle', bundle };
  if (name === names.bundle) return { kind: 'bundle', bundle: snapshot.bundle };
  if (name === names.allBundles) return { kind: 'allBundles' };
  return null;
}

/** The names of everything: each thing once, under its own name. */
export function everythingIn(snapshot: IdentitySnapshot): readonly string[] {
  return [...bundlesOf(snapshot).map(({ trustDomain }) => trustDomain.id), snapshot.svid.spiffeId.toString()];
}

/** Every bundle of a snapshot, in the order of the trust domains' names. */
export function bundlesOf(snapshot: IdentitySnapshot): readonly BundleSnapshot[] {
  return [snapshot.bundle];
}

/**
 * The names that only Istio's own agent understands: files and Kubernetes objects that it reads for Envoy.
 *
 * Kedge's agent reads no file that a client names, since it may read what the client may not; nor has it any use for
 * credentials of the Kubernetes API.
 */
const ISTIO_NAMES: readonly { readonly prefix: string; readonly hint: string }[] = [
  {
    prefix: 'file-cert:',
    hint: 'let Envoy read the files itself: `filename` in tls_certificates, or a file-based SDS config',
  },
  {
    prefix: 'file-root:',
    hint:
      "let Envoy read the file itself: `filename` in trusted_ca; for file-root:system the system's bundle, such as " +
      '/etc/ssl/certs/ca-certificates.crt',
  },
  ...['kubernetes://', 'kubernetes-gateway://', 'configmap://', 'builtin://', 'invalid://'].map((prefix) => ({
    prefix,
    hint: "take such secrets from Istio's control plane over ADS, not from the workload's socket",
  })),
];

/** Throws `sds_name_unsupported` for a name that no identity can ever have. */
export function refuseIstioName(name: string): void {
  const found = ISTIO_NAMES.find(({ prefix }) => name.startsWith(prefix));
  if (found === undefined) return;
  throw new KedgeError('sds_name_unsupported', `the agent does not serve ${quote(name)}`, {
    hint: found.hint,
  });
}
