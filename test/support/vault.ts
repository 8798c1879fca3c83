import { openVaultAccess, type VaultAccess } from '../../ca/upstream/vault/open-vault.ts';
import type { VaultLogin, VaultSettings } from '../../ca/upstream/vault/vault-settings.ts';
import { VaultUpstream } from '../../ca/upstream/vault/vault-upstream.ts';
import type { Clock } from '../../host/clock.ts';
import { type Log, silentLog } from '../../host/log.ts';
import { TrustDomain } from '../../pki/spiffe-id.ts';
import { fixedRandom } from '../fakes/fixed-random.ts';

/** What is asked of a Vault that a test has. */
export interface VaultUnderTest {
  readonly address: string;
  readonly login: VaultLogin;
  readonly clock: Clock;
  readonly settings?: Partial<VaultSettings>;
  readonly log?: Log;
}

/** Settings with the defaults of tests: PKI at `pki`, no TLS, no namespace. */
export function vaultSettings({ address, login, settings }: VaultUnderTest): VaultSettings {
  return {
    address,
    login,
    namespace: null,
    authoritiesFile: null,
    serverName: null,
    certificateFile: null,
    keyFile: null,
    timeoutMs: 5_000,
    mount: 'pki',
    issuerRef: null,
    signPath: null,
    anchorsFile: null,
    pollMs: 60_000,
    ...settings,
  };
}

/** An upstream of example.org at a Vault, and what it asks by. The caller closes the access. */
export function vaultUpstream(vault: VaultUnderTest): VaultAccess & { readonly upstream: VaultUpstream } {
  const settings = vaultSettings(vault);
  const { clock, log = silentLog } = vault;
  const random = fixedRandom(0.5);
  const access = openVaultAccess({ settings, clock, random, log });
  const trustDomain = TrustDomain.parse('example.org');
  const upstream = new VaultUpstream({ settings, trustDomain, ...access, clock, random, log });
  return { ...access, upstream };
}
