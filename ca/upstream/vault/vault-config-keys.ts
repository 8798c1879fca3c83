import type { ConfigKey } from '../../config-key.ts';

/** The keys `upstream.vault`: a PKI mount of Vault or OpenBao. */
export const VAULT_CONFIG_KEYS: readonly ConfigKey[] = [
  {
    key: 'upstream.vault.address',
    value: 'https URL',
    default: 'required for upstream.kind vault',
    means: 'where Vault or OpenBao is, without a path; http on loopback alone',
  },
  {
    key: 'upstream.vault.namespace',
    value: 'path',
    default: 'none: the root namespace',
    means: 'the namespace, of Vault Enterprise and OpenBao, for logins too',
  },
  {
    key: 'upstream.vault.mount',
    value: 'path',
    default: 'pki',
    means: 'where the PKI secrets engine is mounted',
  },
  {
    key: 'upstream.vault.issuerRef',
    value: 'name or id',
    default: "none: the mount's default issuer",
    means: 'the one issuer of the mount that may sign, for an incident; Vault 1.11 and newer, OpenBao',
  },
  {
    key: 'upstream.vault.signPath',
    value: 'path',
    default: "none: the mount's root/sign-intermediate, or issuer/<ref>/sign-intermediate",
    means: 'another path to have issuers signed at',
  },
  {
    key: 'upstream.vault.anchorsFile',
    value: 'path',
    default: 'none: the mount holds its root',
    means:
      'PEM file with the root that an intermediate CA of the mount hangs under, where Vault does not give it',
  },
  {
    key: 'upstream.vault.pollInterval',
    value: 'duration',
    default: '1m',
    means: 'how often the mount is looked at for another root',
  },
  {
    key: 'upstream.vault.login',
    value: 'token, appRole, kubernetes, jwt, certificate',
    default: 'required for upstream.kind vault',
    means: 'how the CA logs in to Vault',
  },
  {
    key: 'upstream.vault.loginMount',
    value: 'path',
    default: 'approle, kubernetes, jwt or cert, after upstream.vault.login',
    means: 'where the auth method is mounted, below auth/',
  },
  {
    key: 'upstream.vault.role',
    value: 'name',
    default: 'required to log in by kubernetes and jwt; none by certificate: Vault looks for one',
    means: 'the role to log in as',
  },
  {
    key: 'upstream.vault.tokenFile',
    value: 'path',
    default: "required to log in by token and jwt; by kubernetes: the pod's own ServiceAccount token",
    means: 'file with the Vault token, or with the JWT to log in with; read again at each login',
  },
  {
    key: 'upstream.vault.roleIdFile',
    value: 'path',
    default: 'required to log in by appRole',
    means: 'file with the role id of the AppRole',
  },
  {
    key: 'upstream.vault.secretIdFile',
    value: 'path',
    default: 'none: the AppRole has no secret id',
    means: 'file with the secret id of the AppRole; read again at each login',
  },
  {
    key: 'upstream.vault.authoritiesFile',
    value: 'path',
    default: 'none: the CAs that Node trusts',
    means: "PEM file with the CAs that Vault's certificate must chain to; followed while the CA runs",
  },
  {
    key: 'upstream.vault.serverName',
    value: 'host name',
    default: 'the host of upstream.vault.address',
    means: "the name to ask for by SNI, and to find in Vault's certificate",
  },
  {
    key: 'upstream.vault.certificateFile',
    value: 'path',
    default: 'none',
    means: 'PEM file with the TLS client certificate; followed while the CA runs',
  },
  {
    key: 'upstream.vault.keyFile',
    value: 'path',
    default: 'none',
    means: 'PEM file with the key of the TLS client certificate',
  },
  {
    key: 'upstream.vault.timeout',
    value: 'duration',
    default: '15s',
    means: 'how long Vault may take to answer one call',
  },
];
