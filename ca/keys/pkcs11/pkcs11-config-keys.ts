import type { ConfigKey } from '../../config-key.ts';

/** The keys `keys.pkcs11`: the token for anchors' and issuers' keys. */
export const PKCS11_CONFIG_KEYS: readonly ConfigKey[] = [
  {
    key: 'keys.pkcs11.module',
    value: 'path',
    default: 'required for keyManager pkcs11',
    means: "the PKCS#11 library of the token's maker",
  },
  {
    key: 'keys.pkcs11.token',
    value: 'text',
    default: 'required for keyManager pkcs11',
    means: 'the label of the token, the same for all replicas',
  },
  {
    key: 'keys.pkcs11.pinFile',
    value: 'path',
    default: 'required for keyManager pkcs11',
    means: 'file with the PIN of the token user; read at each login',
  },
  {
    key: 'keys.pkcs11.timeout',
    value: 'duration',
    default: '10s',
    means: 'how long the token may take for one call',
  },
];
