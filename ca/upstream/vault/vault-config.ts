import { resolve } from 'node:path';
import { isIP } from 'node:net';
import { quote } from '../../../pki/kedge-error.ts';
import type { VaultLogin, VaultSettings } from './vault-settings.ts';

/** The ways to log in to Vault. */
export const VAULT_LOGINS = ['token', 'appRole', 'kubernetes', 'jwt', 'certificate'] as const;

/** The keys `upstream.vault`. */
export interface VaultConfig {
  readonly address: string;
  readonly namespace?: string | undefined;
  readonly mount?: string | undefined;
  readonly issuerRef?: string | undefined;
  readonly signPath?: string | undefined;
  readonly anchorsFile?: string | undefined;
  readonly pollInterval?: number | undefined;
  readonly login: (typeof VAULT_LOGINS)[number];
  readonly loginMount?: string | undefined;
  readonly role?: string | undefined;
  readonly tokenFile?: string | undefined;
  readonly roleIdFile?: string | undefined;
  readonly secretIdFile?: string | undefined;
  readonly authoritiesFile?: string | undefined;
  readonly serverName?: string | undefined;
  readonly certificateFile?: string | undefined;
  readonly keyFile?: string | undefined;
  readonly timeout?: number | undefined;
}

/** Where Kubernetes puts the token of a pod's ServiceAccount, by itself. */
const SERVICE_ACCOUNT_TOKEN = '/var/run/secrets/kubernetes.io/serviceaccount/token';
const TIMEOUT_MS = 15_000;
const POLL_MS = 60_000;

const PATH = /^[\w.-]{1,128}(?:\/[\w.-]{1,128}){0,15}$/;
const NAME = /^\w(?:[\w.-]{0,126}\w)?$/;

/** Which keys a login takes, and which of them it needs. */
const LOGIN_KEYS: Readonly<
  Record<VaultConfig['login'], { readonly needs: readonly Key[]; readonly takes: readonly Key[] }>
> = {
  token: { needs: ['tokenFile'], takes: [] },
  appRole: { needs: ['roleIdFile'], takes: ['secretIdFile', 'loginMount'] },
  kubernetes: { needs: ['role'], takes: ['tokenFile', 'loginMount'] },
  jwt: { needs: ['role', 'tokenFile'], takes: ['loginMount'] },
  certificate: { needs: ['certificateFile', 'keyFile'], takes: ['role', 'loginMount'] },
};
type Key = keyof VaultConfig;
/** Keys that say how to log in and nothing else. */
const OF_LOGINS: readonly Key[] = ['tokenFile', 'roleIdFile', 'secretIdFile', 'role', 'loginMount'];

/** What is wrong in `upstream.vault`, each with the name of its key there. */
export function vaultProblems(
  config: VaultConfig,
): readonly { readonly key: Key; readonly message: string }[] {
  const found: { key: Key; message: string }[] = [];
  const problem = (key: Key, message: string | null): void => {
    if (message !== null) found.push({ key, message });
  };
  problem('address', addressProblem(config.address));
  for (const key of ['mount', 'signPath', 'loginMount', 'namespace'] as const) {
    const value = config[key];
    if (value !== undefined && (!PATH.test(value) || value.split('/').some((part) => /^\.+$/.test(part)))) {
      problem(
        key,
        `${quote(value)} is no path in Vault: segments of letters, digits, "-", "_" and ".", without a "/" at its ends`,
      );
    }
  }
  for (const key of ['issuerRef', 'role'] as const) {
    const value = config[key];
    if (value !== undefined && !NAME.test(value)) problem(key, `${quote(value)} is no name in Vault`);
  }
  if ((config.certificateFile === undefined) !== (config.keyFile === undefined)) {
    problem('keyFile', 'certificateFile and keyFile go together');
  }
  const { needs, takes } = LOGIN_KEYS[config.login];
  for (const key of needs) {
    if (config[key] === undefined) problem(key, `is needed to log in by ${config.login}`);
  }
  for (const key of OF_LOGINS) {
    if (config[key] !== undefined && ![...needs, ...takes].includes(key)) {
      problem(key, `is of no use to log in by ${config.login}`);
    }
  }
  return found;
}

/** What `upstream.vault` of the configuration says, with a default for everything else. Relative paths start at `folder`. */
export function vaultSettings(config: VaultConfig, folder: string): VaultSettings {
  const file = (path: string | undefined): string | null =>
    path === undefined ? null : resolve(folder, path);
  return {
    address: config.address.replace(/\/$/, ''),
    namespace: config.namespace ?? null,
    login: loginOf(config, folder),
    authoritiesFile: file(config.authoritiesFile),
    serverName: config.serverName ?? null,
    certificateFile: file(config.certificateFile),
    keyFile: file(config.keyFile),
    timeoutMs: config.timeout ?? TIMEOUT_MS,
    mount: config.mount ?? 'pki',
    issuerRef: config.issuerRef ?? null,
    signPath: config.signPath ?? null,
    anchorsFile: file(config.anchorsFile),
    pollMs: config.pollInterval ?? POLL_MS,
  };
}

function loginOf(config: VaultConfig, folder: string): VaultLogin {
  const { login: kind, loginMount, role = '', tokenFile, roleIdFile = '', secretIdFile } = config;
  switch (kind) {
    case 'token':
      return { kind, tokenFile: resolve(folder, tokenFile ?? '') };
    case 'appRole':
      return {
        kind,
        mount: loginMount ?? 'approle',
        roleIdFile: resolve(folder, roleIdFile),
        secretIdFile: secretIdFile === undefined ? null : resolve(folder, secretIdFile),
      };
    case 'kubernetes':
    case 'jwt':
      return {
        kind,
        mount: loginMount ?? kind,
        role,
        tokenFile: resolve(folder, tokenFile ?? SERVICE_ACCOUNT_TOKEN),
      };
    case 'certificate':
      return { kind, mount: loginMount ?? 'cert', role: config.role ?? null };
    default:
      kind satisfies never;
      throw new TypeError('unreachable');
  }
}

/** The token goes with each call: only loopback may be spoken to in the clear. */
function addressProblem(address: string): string | null {
  const url = URL.parse(address);
  if (url === null || !['https:', 'http:'].includes(url.protocol)) {
    return `${quote(address)} is no https URL, such as https://vault.example.com:8200`;
  }
  if (
    url.username !== '' ||
    url.password !== '' ||
    url.search !== '' ||
    url.hash !== '' ||
    url.pathname !== '/'
  ) {
    return `${quote(url.origin)} is all that belongs here: no path, no credentials`;
  }
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const isLoopback = host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
  return url.protocol === 'https:' || isLoopback
    ? null
    : `${quote(address)} is not https: the token would go over the network in the clear`;
}
