import { resolve } from 'node:path';
import type { Pkcs11Config } from '../../config-settings.ts';

/** How the token is reached. Paths are absolute. */
export interface Pkcs11Settings {
  /** The PKCS#11 library of the token's maker. */
  readonly module: string;
  /** Label of the token. */
  readonly token: string;
  readonly pinFile: string;
  /** For one call, milliseconds. */
  readonly timeoutMs: number;
}

const TIMEOUT_MS = 10_000;

/** What `keys.pkcs11` of the configuration says. Relative paths start at `folder`. */
export function pkcs11Settings(config: Pkcs11Config, folder: string): Pkcs11Settings {
  return {
    module: resolve(folder, config.module),
    token: config.token,
    pinFile: resolve(folder, config.pinFile),
    timeoutMs: config.timeout ?? TIMEOUT_MS,
  };
}
