import type { ConfigKey } from '../config-key.ts';
import { DISK_CONFIG_KEYS } from './disk/disk-config-keys.ts';

/** The keys `upstream`: who holds the trust anchor's key. */
export const UPSTREAM_CONFIG_KEYS: readonly ConfigKey[] = [
  {
    key: 'upstream.kind',
    value: 'self, disk',
    default: 'self',
    means: "who holds the trust anchor's key: the CA's own key manager, or a CA in files",
  },
  ...DISK_CONFIG_KEYS,
];
