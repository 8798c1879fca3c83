/** How Kedge proves to Vault who it is. Secrets are in files, which are read again at each login. */
export type VaultLogin =
  /** A token that somebody else gets and renews, such as Vault Agent; Kedge renews it too where it can. */
  | { readonly kind: 'token'; readonly tokenFile: string }
  | {
      readonly kind: 'appRole';
      readonly mount: string;
      readonly roleIdFile: string;
      /** Null for a role that is bound by addresses alone. */
      readonly secretIdFile: string | null;
    }
  | {
      readonly kind: 'kubernetes' | 'jwt';
      readonly mount: string;
      readonly role: string;
      /** Of the projected ServiceAccount token, or of any JWT. */
      readonly tokenFile: string;
    }
  /** By the client certificate of the TLS connection. */
  | { readonly kind: 'certificate'; readonly mount: string; readonly role: string | null };

/** How to reach a Vault or OpenBao, and who to be there. Paths absolute, times milliseconds. */
export interface VaultAccessSettings {
  /** `https:`, or `http:` on loopback; without a path. */
  readonly address: string;
  /** Of Vault Enterprise and OpenBao; null = the root namespace. */
  readonly namespace: string | null;
  readonly login: VaultLogin;
  /** PEM certificates that the server's must chain to; null = those that Node trusts. */
  readonly authoritiesFile: string | null;
  /** The name to ask for (SNI) and to find in the server's certificate; null = the host of the address. */
  readonly serverName: string | null;
  /** Client certificate and its key, PEM; both or neither. */
  readonly certificateFile: string | null;
  readonly keyFile: string | null;
  /** How long Vault may take to answer one call. */
  readonly timeoutMs: number;
}

/** What issuers of Kedge hang under in Vault. */
export interface VaultPkiSettings {
  /** Path of the PKI mount, without slashes at its ends. */
  readonly mount: string;
  /** The one issuer of the mount that may sign; null = its default. */
  readonly issuerRef: string | null;
  /** Where to have issuers signed, instead of the mount's own path; null = the mount's. */
  readonly signPath: string | null;
  /** Roots that the mount itself does not hold, PEM; null = it holds all. */
  readonly anchorsFile: string | null;
  /** How often to look for another root. */
  readonly pollMs: number;
}

/** All of `upstream.vault`. */
export interface VaultSettings extends VaultAccessSettings, VaultPkiSettings {}
