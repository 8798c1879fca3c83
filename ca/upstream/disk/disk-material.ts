import { isUtf8 } from 'node:buffer';
import { createPublicKey, type KeyObject } from 'node:crypto';
import { algorithmOfKeyType, signWith, type SvidKeyType } from '../../../pki/algorithms.ts';
import { attempt } from '../../../pki/attempt.ts';
import type { AuthoritySigner } from '../../../pki/authority-signer.ts';
import { equalBytes } from '../../../pki/bytes.ts';
import { KedgeError, quote } from '../../../pki/kedge-error.ts';
import { keyTypeOfSpki } from '../../../pki/public-key.ts';
import { Secret } from '../../../pki/secret.ts';
import type { TrustDomain } from '../../../pki/spiffe-id.ts';
import { checkCaPath, checkPathValidity } from './ca-path-check.ts';
import { type CaPath, pathsToRoots } from './ca-paths.ts';
import { parseCertificatesFile } from './certificates-file.ts';
import type { DiskFile, DiskFiles } from './disk-files.ts';
import type { DiskMode } from './disk-settings.ts';
import { parsePrivateKeyFile } from './private-key-file.ts';

/** What the files say, found good together. */
export interface DiskMaterial {
  readonly key: KeyObject;
  readonly signer: AuthoritySigner;
  /** Every good way from a certificate of the key to a root, the one with the newest root first. */
  readonly paths: readonly [CaPath, ...CaPath[]];
}

/** The keys that each mode can sign with; RSA is PKCS#1 v1.5 with SHA-256. */
const KEY_TYPES: Readonly<Record<DiskMode, readonly SvidKeyType[]>> = {
  intermediate: ['ec-p256', 'ec-p384', 'rsa-2048', 'rsa-3072', 'rsa-4096'],
  // What the key manager can hold.
  issuer: ['ec-p256', 'ec-p384', 'rsa-3072'],
};

/**
 * Makes of the files what can be signed with. Key and passphrase bytes are overwritten.
 *
 * Throws the codes of its parts, `disk_key_mismatch` when no certificate is of the key, `disk_chain_incomplete` when
 * none leads to a root.
 */
export function readMaterial(
  files: DiskFiles,
  mode: DiskMode,
  trustDomain: TrustDomain,
  nowMs: number,
): DiskMaterial {
  const { certificate, anchors, key: keyFile } = files;
  const certificates = parseCertificatesFile(textOf(certificate), certificate.path);
  const roots = anchors === null ? [] : parseCertificatesFile(textOf(anchors), anchors.path);
  const key = privateKeyOf(files);
  const signer = signerOf(key, mode, keyFile.path);
  const starts = certificates.filter(({ spki }) => equalBytes(spki, signer.spki));
  if (starts.length === 0) {
    throw new KedgeError(
      'disk_key_mismatch',
      `the private key ${quote(keyFile.path, 200)} is of none of the certificates in ${quote(certificate.path, 200)}`,
      {
        hint: 'replace both together; of files that are replaced one by one the old pair stays in use meanwhile',
      },
    );
  }
  const all = [...certificates, ...roots];
  const paths = starts.flatMap((start) => pathsToRoots(start, all));
  if (paths.length === 0) {
    throw new KedgeError(
      'disk_chain_incomplete',
      `no certificates lead from the one of the key in ${quote(certificate.path, 200)} to a root`,
      {
        hint: 'add the CA certificates in between, and the root, or name the file with the root in upstream.disk.anchorsFile',
      },
    );
  }
  const [first, ...others] = goodPaths(paths, mode, trustDomain, nowMs);
  return { key, signer, paths: [first, ...others] };
}

/** The ways that pass every check, newest root first. Throws why the first does not, when none does. */
function goodPaths(
  paths: readonly CaPath[],
  mode: DiskMode,
  trustDomain: TrustDomain,
  nowMs: number,
): readonly [CaPath, ...CaPath[]] {
  const tried = paths.map((path) =>
    attempt(() => {
      checkCaPath(path, mode, trustDomain);
      checkPathValidity(path, nowMs);
      return path;
    }),
  );
  const good = tried.flatMap((one) => (one.ok ? [one.value] : []));
  const [first, ...others] = good.toSorted((a, b) => rootBeginsMs(b) - rootBeginsMs(a));
  if (first !== undefined) return [first, ...others];
  const refusal = tried.find((one) => !one.ok);
  if (refusal === undefined || refusal.ok) throw new TypeError('there is no way to look at');
  throw refusal.refusal;
}

function rootBeginsMs(path: CaPath): number {
  return (path.at(-1) ?? path[0]).notBeforeMs;
}

function privateKeyOf({ key, passphrase }: DiskFiles): KeyObject {
  const secret = passphrase === null ? null : passphraseOf(passphrase);
  try {
    return parsePrivateKeyFile(textOf(key), key.path, secret);
  } finally {
    secret?.destroy();
    key.bytes.fill(0);
  }
}

/** All of the file but one line end at its end, as every editor leaves one. Throws `disk_passphrase_missing`. */
function passphraseOf({ path, bytes }: DiskFile): Secret {
  let end = bytes.length;
  if (bytes[end - 1] === 0x0a) end -= 1;
  if (bytes[end - 1] === 0x0d) end -= 1;
  if (end === 0) {
    throw new KedgeError('disk_passphrase_missing', `the passphrase file ${quote(path, 200)} is empty`, {
      hint: 'write the passphrase into it; without encryption leave upstream.disk.passphraseFile out',
    });
  }
  return new Secret(bytes.subarray(0, end));
}

function signerOf(key: KeyObject, mode: DiskMode, name: string): AuthoritySigner {
  const spki = new Uint8Array(createPublicKey(key).export({ format: 'der', type: 'spki' }));
  const found = attempt(() => keyTypeOfSpki(spki, 'disk_key_unsupported'));
  if (!found.ok || !KEY_TYPES[mode].includes(found.value)) {
    const what = found.ok ? `is ${found.value}` : `cannot be used: ${found.refusal.message}`;
    throw new KedgeError('disk_key_unsupported', `the private key ${quote(name, 200)} ${what}`, {
      hint: `in upstream.disk.mode ${mode} use one of ${KEY_TYPES[mode].join(', ')}`,
    });
  }
  const algorithm = algorithmOfKeyType(found.value);
  return { algorithm, spki, sign: (data) => signWith(algorithm, key, data) };
}

function textOf({ path, bytes }: DiskFile): string {
  // Text around the blocks may be in any encoding, but a file that is not text at all is not PEM.
  if (bytes.includes(0)) {
    throw new KedgeError('disk_pem_missing', `${quote(path, 200)} is not text`, {
      hint: 'give PEM, not DER: openssl x509 or openssl pkey with -inform DER converts it',
    });
  }
  return bytes.toString(isUtf8(bytes) ? 'utf8' : 'latin1');
}
