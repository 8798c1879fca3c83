import { isIP } from 'node:net';
import { KedgeError, quote } from '../pki/kedge-error.ts';
import type { CanaryTarget } from './canary-probe.ts';

/** How the canary is configured: what it dials, and how often. */
export interface CanaryConfig {
  readonly target: CanaryTarget;
  /** From one try that proved the newest snapshot to the next, milliseconds. */
  readonly intervalMs: number;
}

/** The settings of the canary, each read by its own type. */
export interface CanarySettings {
  /** `host:port`; undefined = no canary. */
  readonly address: string | undefined;
  readonly protocol: string | undefined;
  readonly path: string | undefined;
  readonly intervalMs: number;
  readonly allowRemote: boolean;
}

const MAX_PATH_CHARS = 1024;

/**
 * The configuration of the canary; undefined where it is off. Throws `config_invalid`.
 *
 * The address is an IP address, so that no name server decides where the SVID is presented, and of this pod alone
 * (127.0.0.0/8 or ::1) unless `allowRemote` says otherwise: the canary is no way to make the agent dial others.
 */
export function canaryConfigOf(settings: CanarySettings): CanaryConfig | undefined {
  const { address, protocol, path = '/', intervalMs, allowRemote } = settings;
  if (address === undefined) return undefined;
  const colon = address.lastIndexOf(':');
  const host = address.slice(0, colon).replace(/^\[(.*)\]$/, '$1');
  const port = Number(address.slice(colon + 1));
  const refuse = (what: string, value: string, hint: string): KedgeError =>
    new KedgeError('config_invalid', `${what} does not take ${quote(value)}`, { hint });
  if (isIP(host) === 0 || port === 0) {
    throw refuse('canaryAddress', address, 'allowed is an IP address and a port, as in 127.0.0.1:8443');
  }
  if (!allowRemote && !isLoopback(host)) {
    throw refuse(
      'canaryAddress',
      address,
      'allowed is a loopback address; set canaryAllowRemote where the proxy listens on the address of the pod alone',
    );
  }
  if (!/^\/[\x21-\x7e]*$/.test(path) || path.length > MAX_PATH_CHARS) {
    throw refuse('canaryPath', path, `allowed is / and up to ${MAX_PATH_CHARS} printable ASCII characters`);
  }
  return { target: { host, port, protocol: protocol === 'tls' ? 'tls' : 'http', path }, intervalMs };
}

function isLoopback(ip: string): boolean {
  return isIP(ip) === 4 ? ip.startsWith('127.') : /^(::|(0{1,4}:){7}0{0,3})1$/.test(ip);
}
