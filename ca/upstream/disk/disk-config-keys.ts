import type { ConfigKey } from '../../config-key.ts';

/** The keys `upstream.disk`: a CA in files. */
export const DISK_CONFIG_KEYS: readonly ConfigKey[] = [
  {
    key: 'upstream.disk.mode',
    value: 'intermediate, issuer',
    default: 'intermediate',
    means:
      "what the files hold: a CA that signs the CA's issuers, or the issuer itself, with which the CA signs SVIDs",
  },
  {
    key: 'upstream.disk.certificateFile',
    value: 'path',
    default: 'required for upstream.kind disk',
    means: 'PEM file with the certificate of the key and what leads from it to the root, in any order',
  },
  {
    key: 'upstream.disk.keyFile',
    value: 'path',
    default: 'required for upstream.kind disk',
    means: 'PEM file with the private key: PKCS#8, also encrypted, SEC 1 or PKCS#1; readable by the CA alone',
  },
  {
    key: 'upstream.disk.passphraseFile',
    value: 'path',
    default: 'none: the key is not encrypted',
    means: 'file with the passphrase of the private key; a line end at its end does not count',
  },
  {
    key: 'upstream.disk.anchorsFile',
    value: 'path',
    default: 'none: the root is in upstream.disk.certificateFile',
    means: 'PEM file with the root, alone or among others',
  },
  {
    key: 'upstream.disk.pollInterval',
    value: 'duration',
    default: '2s',
    means: 'how often the files are looked at; new content is taken once two looks in a row have seen it',
  },
];
