/** What the files of a `disk` upstream hold: a CA that signs Kedge's issuers, or the issuer itself. */
export const DISK_MODES = ['intermediate', 'issuer'] as const;
export type DiskMode = (typeof DISK_MODES)[number];

/** How a `disk` upstream is configured. Paths are absolute. */
export interface DiskSettings {
  readonly mode: DiskMode;
  /** PEM: the certificate of the key, and what leads from it to its root, in any order. */
  readonly certificateFile: string;
  /** PEM: one private key; PKCS#8 in the clear or encrypted, SEC 1, PKCS#1. */
  readonly keyFile: string;
  /** The passphrase of an encrypted key; null: the key is in the clear. */
  readonly passphraseFile: string | null;
  /** PEM: roots; null: the root is in {@link certificateFile}. */
  readonly anchorsFile: string | null;
  /** How often the files are looked at, milliseconds. */
  readonly pollMs: number;
}

/** What {@link DiskSettings.pollMs} is unless configured: new content is taken at the second look that shows it. */
export const DISK_POLL_MS = 2_000;
