import { resolve } from 'node:path';
import type { KedgeUpstreamConfig, ListenAddress } from '../../config-settings.ts';
import { KEDGE_POLL_MS, KEDGE_TIMEOUT_MS, type KedgeUpstreamSettings } from './kedge-settings.ts';

/** What `upstream.kedge` of the configuration says. Relative paths start at `folder`. */
export function kedgeUpstreamSettings(config: KedgeUpstreamConfig, folder: string): KedgeUpstreamSettings {
  return {
    address: addressOf(config.address),
    certificateFile: resolve(folder, config.certificateFile),
    keyFile: resolve(folder, config.keyFile),
    bundleFile: resolve(folder, config.bundleFile),
    timeoutMs: config.timeout ?? KEDGE_TIMEOUT_MS,
    pollMs: config.pollInterval ?? KEDGE_POLL_MS,
  };
}

function addressOf({ host, port }: ListenAddress): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}
