import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { Secret } from '../../pki/secret.ts';
import type { Random } from '../../host/random.ts';
import { createFileDurably } from '../../host/durable-file.ts';
import { type FoundSealingKey, readSealingKeyFile, SEALING_KEY_BYTES } from './sealing-key.ts';

/** Seals and unseals a sealing key by a key that never leaves its holder: Vault's transit engine. */
export interface Transit {
  encrypt(plaintext: Uint8Array, signal: AbortSignal): Promise<string>;
  decrypt(ciphertext: string, signal: AbortSignal): Promise<Uint8Array>;
}

/**
 * Reads a sealing key, in the clear or as Transit has sealed it: the file says which. The caller owns it.
 *
 * Throws `sealing_key_invalid`: as {@link readSealingKeyFile}, and for one that Transit has sealed where no Transit is
 * configured (null), or that is not a sealing key; what Transit throws.
 */
export async function openSealingKey(
  path: string,
  transit: Transit | null,
  signal: AbortSignal,
): Promise<Secret> {
  const found: FoundSealingKey = await readSealingKeyFile(path);
  if (found.kind === 'clear') return found.key;
  if (transit === null) {
    throw new KedgeError(
      'sealing_key_invalid',
      `the sealing key ${quote(path, 200)} is sealed by Vault's transit engine`,
      {
        hint: 'set keys.transit.key, and upstream.vault to say how Vault is reached',
      },
    );
  }
  const bytes = await transit.decrypt(found.ciphertext, signal);
  if (bytes.length === SEALING_KEY_BYTES) return new Secret(bytes);
  bytes.fill(0);
  throw new KedgeError(
    'sealing_key_invalid',
    `what Transit has sealed in ${quote(path, 200)} is not ${SEALING_KEY_BYTES} bytes long`,
    { hint: 'give Transit the base64 of 32 random bytes to encrypt, once encoded' },
  );
}

/**
 * Makes a sealing key that lies in its file only as Transit has sealed it (0600), where the file does not exist, and
 * opens what is there then. Throws as {@link openSealingKey}, and `file_unwritable`.
 */
export async function openOrCreateSealingKey(
  path: string,
  transit: Transit,
  random: Random,
  signal: AbortSignal,
): Promise<Secret> {
  const bytes = random.bytes(SEALING_KEY_BYTES);
  const ciphertext = await transit.encrypt(bytes, signal);
  bytes.fill(0);
  await createFileDurably(path, Buffer.from(`${ciphertext}\n`), { mode: 0o600 });
  return openSealingKey(path, transit, signal);
}
