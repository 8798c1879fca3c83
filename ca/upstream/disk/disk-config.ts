import { resolve } from 'node:path';
import type { DiskConfig } from '../../config-settings.ts';
import { DISK_POLL_MS, type DiskSettings } from './disk-settings.ts';

/** What `upstream.disk` of the configuration says, with a default for everything else. Relative paths start at `folder`. */
export function diskSettings(config: DiskConfig, folder: string): DiskSettings {
  const orNull = (path: string | undefined): string | null =>
    path === undefined ? null : resolve(folder, path);
  return {
    mode: config.mode ?? 'intermediate',
    certificateFile: resolve(folder, config.certificateFile),
    keyFile: resolve(folder, config.keyFile),
    passphraseFile: orNull(config.passphraseFile),
    anchorsFile: orNull(config.anchorsFile),
    pollMs: config.pollInterval ?? DISK_POLL_MS,
  };
}
