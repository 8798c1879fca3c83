import { createPrivateKey, type KeyObject } from 'node:crypto';
import { KedgeError, quote } from '../../../pki/kedge-error.ts';
import type { Secret } from '../../../pki/secret.ts';
import { checkKeyDerivation } from './key-derivation.ts';
import { type PemBlock, pemBlocks, pemBytes } from './pem-blocks.ts';

/** The forms of a private key in PEM: RFC 5958, RFC 5915, RFC 8017 appendix A.1.2. */
const KEY_LABELS: ReadonlySet<string> = new Set([
  'PRIVATE KEY',
  'ENCRYPTED PRIVATE KEY',
  'EC PRIVATE KEY',
  'RSA PRIVATE KEY',
]);

/**
 * Reads the one private key of a PEM file: PKCS#8 in the clear or encrypted (RFC 5958), SEC 1 (RFC 5915) or PKCS#1,
 * these two also in the encrypted form of old OpenSSL. Blocks beside it, such as EC PARAMETERS, are passed over.
 *
 * Throws `disk_files_swapped`, `disk_file_truncated`, `disk_pem_missing`, `disk_key_malformed`,
 * `disk_passphrase_missing`, `disk_passphrase_wrong`, `disk_key_unsupported`. No message holds anything of the key.
 */
export function parsePrivateKeyFile(text: string, name: string, passphrase: Secret | null): KeyObject {
  const blocks = pemBlocks(text, name);
  const [block, ...more] = blocks.filter(({ label }) => KEY_LABELS.has(label));
  if (block === undefined) throw noKey(blocks, name);
  if (more.length > 0) {
    throw malformed(name, `holds ${more.length + 1} private keys`, 'leave the one of the certificate in it');
  }
  const old = /^\s*Proc-Type: 4,ENCRYPTED/.test(block.body);
  if (!old) checkBytes(block, name);
  if (!old && block.label !== 'ENCRYPTED PRIVATE KEY') return keyOf(block, name);
  if (passphrase === null) {
    throw new KedgeError('disk_passphrase_missing', `the private key ${quote(name, 200)} is encrypted`, {
      hint: 'name the file with its passphrase in upstream.disk.passphraseFile',
    });
  }
  try {
    return createPrivateKey({
      key: pemOf(block),
      format: 'pem',
      passphrase: Buffer.from(passphrase.expose()),
    });
  } catch (cause) {
    throw new KedgeError(
      'disk_passphrase_wrong',
      `the private key ${quote(name, 200)} does not open with its passphrase`,
      {
        hint: 'correct the passphrase file; the CA takes all of it but a line end at its end',
        cause: reasonOf(cause),
      },
    );
  }
}

function checkBytes(block: PemBlock, name: string): void {
  const der = pemBytes(block);
  if (der === null) throw malformed(name, 'is not base64', 'write it anew');
  if (block.label === 'ENCRYPTED PRIVATE KEY') checkKeyDerivation(der, name);
}

function keyOf(block: PemBlock, name: string): KeyObject {
  try {
    return createPrivateKey({ key: pemOf(block), format: 'pem' });
  } catch (cause) {
    throw malformed(
      name,
      `is not ${quote(block.label)} as its first line says`,
      'write it anew',
      reasonOf(cause),
    );
  }
}

function pemOf({ label, body }: PemBlock): string {
  return `-----BEGIN ${label}-----${body}-----END ${label}-----\n`;
}

/** What OpenSSL says, without what Node adds to it. */
function reasonOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
}

function noKey(blocks: readonly PemBlock[], name: string): KedgeError {
  if (blocks.some(({ label }) => label === 'CERTIFICATE')) {
    return new KedgeError('disk_files_swapped', `${quote(name, 200)} holds certificates and no private key`, {
      hint: 'upstream.disk.keyFile is to name the private key, upstream.disk.certificateFile the certificates',
    });
  }
  return malformed(
    name,
    `holds no private key but ${quote(blocks[0]?.label ?? '')}`,
    'give PKCS#8 (PRIVATE KEY), SEC 1 (EC PRIVATE KEY) or PKCS#1 (RSA PRIVATE KEY)',
  );
}

function malformed(name: string, what: string, hint: string, cause?: unknown): KedgeError {
  return new KedgeError('disk_key_malformed', `the private key ${quote(name, 200)} ${what}`, { hint, cause });
}
