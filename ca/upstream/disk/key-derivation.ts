import { attempt } from '../../../pki/attempt.ts';
import { DerReader } from '../../../pki/der-reader.ts';
import { TAG } from '../../../pki/der-tag.ts';
import { KedgeError, quote } from '../../../pki/kedge-error.ts';
import { LIMITS } from '../../../pki/limits.ts';

const PBES2 = '1.2.840.113549.1.5.13';
const PBKDF2 = '1.2.840.113549.1.5.12';
const SCRYPT = '1.3.6.1.4.1.11591.4.11';
/** A block of scrypt, of which there are N times r times p, takes as long as so many rounds of PBKDF2. */
const SCRYPT_BLOCK_STEPS = 4;

/**
 * Bounds what an encrypted PKCS#8 key (EncryptedPrivateKeyInfo, RFC 5958 section 3, DER) may cost to open: the
 * passphrase is turned into a key by as many steps as the file says, in the thread that everything waits for.
 *
 * Takes PBES2 with PBKDF2 (RFC 8018 appendix A.2) or scrypt (RFC 7914 section 7). Throws `disk_key_malformed`,
 * `disk_key_unsupported`.
 */
export function checkKeyDerivation(der: Uint8Array, name: string): void {
  const found = attempt(() => derivationOf(der));
  if (!found.ok) {
    throw new KedgeError('disk_key_malformed', `the encrypted private key ${quote(name, 200)} is damaged`, {
      hint: 'write it anew: openssl pkcs8 -topk8 -v2 aes-256-cbc',
      cause: found.refusal,
    });
  }
  const { scheme, cost } = found.value;
  if (cost === null || cost > LIMITS.keyDerivationSteps) {
    const what =
      cost === null
        ? `is encrypted by ${scheme}`
        : `takes ${cost} steps to open, over ${LIMITS.keyDerivationSteps}`;
    throw new KedgeError('disk_key_unsupported', `the private key ${quote(name, 200)} ${what}`, {
      hint: 'encrypt it by PBES2 with PBKDF2 or scrypt: openssl pkcs8 -topk8 -v2 aes-256-cbc',
    });
  }
}

/** How the key is encrypted; `cost` is null for a scheme that Kedge does not open. */
function derivationOf(der: Uint8Array): { readonly scheme: string; readonly cost: number | null } {
  const outer = DerReader.of(der, { code: 'disk_key_malformed', what: 'the encrypted private key' });
  const info = outer.enter(TAG.sequence);
  outer.end();
  const algorithm = info.enter(TAG.sequence);
  info.content(TAG.octetString);
  const scheme = algorithm.oid();
  if (scheme !== PBES2) return { scheme, cost: null };
  const derivation = algorithm.enter(TAG.sequence).enter(TAG.sequence);
  const kdf = derivation.oid();
  if (kdf !== PBKDF2 && kdf !== SCRYPT) return { scheme: kdf, cost: null };
  const parameters = derivation.enter(TAG.sequence);
  parameters.content(TAG.octetString);
  const steps = numberOf(parameters.integer());
  if (kdf === PBKDF2) return { scheme: kdf, cost: steps };
  const [blocks, lanes] = [numberOf(parameters.integer()), numberOf(parameters.integer())];
  // OpenSSL bounds the memory, N times r, and leaves the time to whoever wrote the file.
  return { scheme: kdf, cost: steps * blocks * lanes * SCRYPT_BLOCK_STEPS };
}

/** A non-negative INTEGER; infinity beyond what a number can tell apart. */
function numberOf(octets: Uint8Array): number {
  if (octets.length > 6) return Infinity;
  return octets.reduce((value, octet) => value * 0x100 + octet, 0);
}
