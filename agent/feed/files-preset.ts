/**
 * What each kind of server wants to find in its folder, as tables: names, contents, the signal that makes it look.
 * docs/feeds.md shows them, and a test holds them equal.
 */

/** What one file holds. PEM, but for the JSON documents. */
export type FileContent =
  /** Certificate chain, leaf first, no anchor. */
  | 'chain'
  /** Private key. */
  | 'key'
  /** Trust anchors of the own trust domain. */
  | 'authorities'
  /** Private key, then chain, in one file: whoever opens it once never gets a key without its certificate. */
  | 'key-and-chain'
  /** Chain, then private key: for a server that wants the leaf first. */
  | 'chain-and-key'
  /** CRLs of the own trust domain; no such file while there are none. */
  | 'crls'
  /** SPIFFE bundle document (SPIFFE_Trust_Domain_and_Bundle section 4). */
  | 'bundle-document'
  /** SPIFFE bundle map (the same, section 5). */
  | 'bundle-map'
  /** Envoy `DiscoveryResponse` with the `Secret` named `default`: chain and key. */
  | 'sds-certificate'
  /** Envoy `DiscoveryResponse` with the `Secret` named `ROOTCA`: anchors and CRLs for Envoy's SPIFFE validator. */
  | 'sds-validation-context';

/** How a private key is written: PKCS#8 (RFC 5958), or SEC1 (RFC 5915), which is for EC keys only. */
export const KEY_FORMATS = ['pkcs8', 'sec1'] as const;
export type KeyFormat = (typeof KEY_FORMATS)[number];

/** Contents that a private key is part of. */
const SECRET_CONTENTS: readonly FileContent[] = ['key', 'key-and-chain', 'chain-and-key', 'sds-certificate'];

/** One file of a preset. */
export interface PresetFile {
  readonly name: string;
  readonly content: FileContent;
}

/** Signals that make a server load its files again. */
export const RELOAD_SIGNALS = ['SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGWINCH'] as const;
export type ReloadSignal = (typeof RELOAD_SIGNALS)[number];

/** The files for one kind of server. */
export interface FilesPreset {
  readonly files: readonly PresetFile[];
  /** The signal that makes the server load its files; null = none is safe to send without being told to. */
  readonly reloadSignal: ReloadSignal | null;
  /** Permission bits that the file with the key may have at most; the server refuses one with more. */
  readonly maxKeyMode?: number;
}

/** Names as Kubernetes gives them to a Secret of type `kubernetes.io/tls`. */
const CHAIN: PresetFile = { name: 'tls.crt', content: 'chain' };
const KEY: PresetFile = { name: 'tls.key', content: 'key' };
const AUTHORITIES: PresetFile = { name: 'ca.crt', content: 'authorities' };
const CRLS: PresetFile = { name: 'crl.pem', content: 'crls' };

/** The presets by name. */
export const FILES_PRESETS = {
  plain: {
    files: [CHAIN, KEY, AUTHORITIES, { name: 'credential-bundle.pem', content: 'key-and-chain' }, CRLS],
    reloadSignal: 'SIGHUP',
  },
  nginx: { files: [CHAIN, KEY, AUTHORITIES, CRLS], reloadSignal: 'SIGHUP' },
  haproxy: {
    files: [{ name: 'haproxy.pem', content: 'chain-and-key' }, AUTHORITIES, CRLS],
    // SIGUSR2 reloads the master, and kills an HAProxy that runs without one.
    reloadSignal: null,
  },
  envoy: {
    files: [
      { name: 'sds-certificate.json', content: 'sds-certificate' },
      { name: 'sds-validation-context.json', content: 'sds-validation-context' },
      { name: 'bundle-map.json', content: 'bundle-map' },
      CHAIN,
      AUTHORITIES,
    ],
    // Envoy watches the folder by itself.
    reloadSignal: null,
  },
  stunnel: { files: [CHAIN, KEY, AUTHORITIES, CRLS], reloadSignal: 'SIGHUP' },
  postgresql: {
    files: [
      { name: 'server.crt', content: 'chain' },
      { name: 'server.key', content: 'key' },
      { name: 'root.crt', content: 'authorities' },
      { name: 'root.crl', content: 'crls' },
    ],
    reloadSignal: 'SIGHUP',
    // Group and others get nothing of a key that is the server's own; of one that is root's, the group may read.
    maxKeyMode: 0o640,
  },
  ghostunnel: {
    files: [{ name: 'keystore.pem', content: 'key-and-chain' }, AUTHORITIES],
    reloadSignal: 'SIGUSR1',
  },
} as const satisfies Record<string, FilesPreset>;

/** The name of a preset. */
export type FilesPresetName = keyof typeof FILES_PRESETS;

export const FILES_PRESET_NAMES = Object.keys(FILES_PRESETS) as readonly FilesPresetName[];

/** Written beside the files of any preset where it is asked for. */
export const BUNDLE_DOCUMENT: PresetFile = { name: 'bundle.json', content: 'bundle-document' };

/** The preset of that name, without the literal types of the table. */
export function presetOf(name: FilesPresetName): FilesPreset {
  return FILES_PRESETS[name];
}

/** Whether a private key is part of the content. */
export function isSecret(content: FileContent): boolean {
  return SECRET_CONTENTS.includes(content);
}

const ALL_FILES: readonly PresetFile[] = [
  BUNDLE_DOCUMENT,
  ...FILES_PRESET_NAMES.flatMap((name) => presetOf(name).files),
];

/** Every name that a files feed may ever have written, whatever preset it had then. */
export const ALL_FILE_NAMES: readonly string[] = [...new Set(ALL_FILES.map(({ name }) => name))];
