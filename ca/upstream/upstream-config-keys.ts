import type { ConfigKey } from '../config-key.ts';
import { KEDGE_CONFIG_KEYS } from './kedge/kedge-config-keys.ts';
import { DISK_CONFIG_KEYS } from './disk/disk-config-keys.ts';
import { VAULT_CONFIG_KEYS } from './vault/vault-config-keys.ts';

/** The keys `upstream`: who holds the trust anchor's key. */
export const UPSTREAM_CONFIG_KEYS: readonly ConfigKey[] = [
  {
    key: 'upstream.kind',
    value: 'self, disk, vault, kedge',
    default: 'self',
    means:
      "who holds the trust anchor's key: the CA's own key manager, a CA in files, Vault, or another Kedge CA",
  },
  ...DISK_CONFIG_KEYS,
  ...VAULT_CONFIG_KEYS,
  ...KEDGE_CONFIG_KEYS,
];
