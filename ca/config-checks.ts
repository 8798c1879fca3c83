import { formatDuration } from '../host/duration.ts';
import { isKedgeError } from '../pki/kedge-error.ts';
import { attestProblems } from './attest/attest-checks.ts';
import { DEFAULT_SPIFFE_ID_TEMPLATE, SpiffeIdTemplate } from './attest/spiffe-id-template.ts';
import { type CaSettings, lifetimesOf } from './config-settings.ts';
import { vaultProblems } from './upstream/vault/vault-config.ts';

/** Two values that exclude one another, told at one of their keys. */
export interface Impossibility {
  /** Dotted. */
  readonly key: string;
  readonly message: string;
}

function storeImpossibilities({ store = {}, keys = {} }: CaSettings): readonly Impossibility[] {
  const found: Impossibility[] = [];
  if (store.kind !== 'kubernetes') {
    const message = 'is only of use with store.kind kubernetes';
    if (store.secret !== undefined) found.push({ key: 'store.secret', message });
    if (keys.sealingKeySecret !== undefined) found.push({ key: 'keys.sealingKeySecret', message });
    if (keys.otherSealingKeySecrets !== undefined) {
      found.push({ key: 'keys.otherSealingKeySecrets', message });
    }
  } else if (keys.sealingKeySecret !== undefined && keys.sealingKeyFile !== undefined) {
    found.push({
      key: 'keys.sealingKeySecret',
      message: 'excludes keys.sealingKeyFile: there is one sealing key',
    });
  }
  return found;
}

function keyManagerImpossibilities(settings: CaSettings): readonly Impossibility[] {
  const { anchor, issuer, keys, upstream } = settings;
  if (keys?.transit !== undefined && upstream?.vault === undefined) {
    const message = 'needs a Vault: set upstream.vault.address and upstream.vault.login';
    return [{ key: 'keys.transit.key', message }];
  }
  if (keys?.pkcs11 !== undefined) return [];
  const message = 'pkcs11 needs a token: set keys.pkcs11.module, keys.pkcs11.token and keys.pkcs11.pinFile';
  return Object.entries({ anchor, issuer })
    .filter(([, group]) => group?.keyManager === 'pkcs11')
    .map(([name]) => ({ key: `${name}.keyManager`, message }));
}

function upstreamImpossibilities({ upstream = {}, downstream = {} }: CaSettings): readonly Impossibility[] {
  // Settings of another kind than the one in force are of what the CA moves away from.
  const found: Impossibility[] = [];
  const missing = (message: string): void => void found.push({ key: 'upstream.kind', message });
  if (upstream.kind === 'disk' && upstream.disk === undefined)
    missing('disk needs the files: set upstream.disk.certificateFile and upstream.disk.keyFile');
  if (upstream.kind === 'vault' && upstream.vault === undefined)
    missing('vault needs to be found: set upstream.vault.address and upstream.vault.login');
  for (const { key, message } of upstream.vault === undefined ? [] : vaultProblems(upstream.vault))
    found.push({ key: `upstream.vault.${key}`, message });
  if (upstream.kind === 'kedge' && upstream.kedge === undefined)
    missing('kedge needs the CA above: set upstream.kedge.address, certificateFile, keyFile and bundleFile');
  if (downstream.allow !== undefined && downstream.address === undefined)
    found.push({ key: 'downstream.allow', message: 'is only of use with downstream.address' });
  return found;
}

/** What cannot be about the settings as a whole: each value by itself is fine. */
export function impossibilities(settings: CaSettings): readonly Impossibility[] {
  const found: Impossibility[] = [];
  const { svidTtlMs, backdateMs, issuerLifetimeMs, renewAfterMs, anchorLifetimeMs, anchorRenewAfterMs } =
    lifetimesOf(settings);
  const d = formatDuration;
  if (backdateMs > svidTtlMs) {
    found.push({
      key: 'svid.backdate',
      message: `${d(backdateMs)} is over svid.ttl, ${d(svidTtlMs)}: an SVID would be due for renewal when it is issued`,
    });
  }
  if (renewAfterMs >= issuerLifetimeMs) {
    found.push({
      key: 'issuer.renewAfter',
      message: `${d(renewAfterMs)} is not below issuer.lifetime, ${d(issuerLifetimeMs)}: an issuer would expire before the next one`,
    });
  } else if (svidTtlMs > issuerLifetimeMs - renewAfterMs) {
    found.push({
      key: 'svid.ttl',
      message: `${d(svidTtlMs)} is over what is left of an issuer when it is replaced, ${d(issuerLifetimeMs - renewAfterMs)}: an SVID never outlives its issuer; shorten it, or raise issuer.lifetime`,
    });
  }
  if (issuerLifetimeMs > anchorLifetimeMs) {
    found.push({
      key: 'issuer.lifetime',
      message: `${d(issuerLifetimeMs)} is over anchor.lifetime, ${d(anchorLifetimeMs)}: an issuer never outlives its anchor`,
    });
  }
  found.push(
    ...storeImpossibilities(settings),
    ...upstreamImpossibilities(settings),
    ...keyManagerImpossibilities(settings),
  );
  if (anchorRenewAfterMs >= anchorLifetimeMs) {
    found.push({
      key: 'anchor.renewAfter',
      message: `${d(anchorRenewAfterMs)} is not below anchor.lifetime, ${d(anchorLifetimeMs)}: a trust anchor would expire before the next one`,
    });
  }
  found.push(...storeImpossibilities(settings), ...upstreamImpossibilities(settings));
  const { svid = {} } = settings;
  try {
    SpiffeIdTemplate.parse(svid.idTemplate ?? DEFAULT_SPIFFE_ID_TEMPLATE, {
      allowSharedIds: svid.allowSharedIds ?? false,
    });
  } catch (error) {
    if (!isKedgeError(error, 'config_invalid')) throw error;
    found.push({
      key: 'svid.idTemplate',
      message: `${error.message}${error.hint === undefined ? '' : `; ${error.hint}`}`,
    });
  }
  const { attest = {} } = settings;
  found.push(
    ...attestProblems({
      kind: attest.kind ?? 'development',
      audience: attest.audience ?? 'kedge',
      issuers: attest.issuers ?? [],
      allowUnboundTokens: attest.allowUnboundTokens ?? false,
      idTemplate: svid.idTemplate ?? DEFAULT_SPIFFE_ID_TEMPLATE,
      allowSharedIds: svid.allowSharedIds ?? false,
    }),
  );
  return found;
}
