import { constants } from 'node:fs';
import { type FileHandle, mkdir, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { createFileDurably } from '../../host/durable-file.ts';
import { errnoOf } from '../../host/errno.ts';
import type { Random } from '../../host/random.ts';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { Secret } from '../../pki/secret.ts';

/** Bytes of a sealing key: AES-256. */
export const SEALING_KEY_BYTES = 32;

/** What a file of a sealing key holds: the key, or what Vault's transit engine has made of it. */
export type FoundSealingKey =
  | { readonly kind: 'clear'; readonly key: Secret }
  | { readonly kind: 'transit'; readonly ciphertext: string };

/** What Vault's transit engine gives begins so. */
const TRANSIT_PREFIX = 'vault:v';
const MAX_FILE_BYTES = 8 * 1024;

/**
 * Reads the sealing key: a file of exactly {@link SEALING_KEY_BYTES} random bytes. The caller owns the secret.
 *
 * Throws `sealing_key_invalid` when the file is missing, of another size, not a plain file, owned by another user
 * than root or ours, readable by others or writable by the group. The group may read it only where another user
 * owns it: so a Kubernetes Secret volume hands it to us (root's file, our fsGroup).
 */
export async function readSealingKey(path: string): Promise<Secret> {
  const found = await readSealingKeyFile(path);
  if (found.kind === 'clear') return found.key;
  throw wrongLength(path);
}

/** The same, also of a file that holds the key as Vault's transit engine has sealed it: `vault:v1:...`. */
export async function readSealingKeyFile(path: string): Promise<FoundSealingKey> {
  let file: FileHandle;
  try {
    // O_NONBLOCK: a FIFO in its place must not hang the start.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    const missing = errnoOf(cause) === 'ENOENT';
    throw new KedgeError(
      'sealing_key_invalid',
      `the sealing key ${quote(path, 200)} ${missing ? 'does not exist' : 'cannot be read'}`,
      {
        cause,
        hint: missing ? MISSING_HINT : 'give the user that runs the CA, and nobody else, read permission',
      },
    );
  }
  try {
    const stat = await file.stat();
    refuseUnlessPrivate(path, stat.isFile(), stat.mode, stat.uid);
    const bytes = Buffer.alloc(MAX_FILE_BYTES + 1);
    const { bytesRead } = await file.read(bytes, 0, bytes.length, 0);
    if (bytesRead === SEALING_KEY_BYTES) {
      return { kind: 'clear', key: new Secret(bytes.subarray(0, SEALING_KEY_BYTES)) };
    }
    const text = bytes.toString('latin1', 0, Math.min(bytesRead, MAX_FILE_BYTES)).trim();
    bytes.fill(0);
    if (!text.startsWith(TRANSIT_PREFIX) || bytesRead > MAX_FILE_BYTES) throw wrongLength(path);
    return { kind: 'transit', ciphertext: text };
  } finally {
    await file.close();
  }
}

function wrongLength(path: string): KedgeError {
  return new KedgeError(
    'sealing_key_invalid',
    `the sealing key ${quote(path, 200)} is not ${SEALING_KEY_BYTES} bytes long`,
    { hint: `it is ${SEALING_KEY_BYTES} raw random bytes, neither hex nor base64` },
  );
}

/**
 * Reads the sealing key, after making one where the file does not exist (0600, new folders 0700).
 *
 * The file appears whole or not at all; of several processes that start at once, one makes the key and all read
 * it. Throws as {@link readSealingKey}, and `file_unwritable`.
 */
export async function readOrCreateSealingKey(path: string, random: Random): Promise<Secret> {
  try {
    return await readSealingKey(path);
  } catch (error) {
    if (!(error instanceof KedgeError) || errnoOf(error.cause) !== 'ENOENT') throw error;
  }
  await mkdir(dirname(path), { recursive: true, mode: 0o700 }).catch((cause: unknown) => {
    throw new KedgeError('file_unwritable', `the folder of ${quote(path, 200)} cannot be created`, {
      cause,
      hint: 'make its parent folder writable for the user that runs the CA',
    });
  });
  const bytes = random.bytes(SEALING_KEY_BYTES);
  await createFileDurably(path, bytes, { mode: 0o600 });
  bytes.fill(0);
  return readSealingKey(path);
}

const MISSING_HINT =
  'restore it from where it is kept: without it the CA keys in the trust store are lost; or make one of 32 random bytes for a new trust domain';

function refuseUnlessPrivate(path: string, isFile: boolean, mode: number, uid: number): void {
  const ours = process.geteuid?.() ?? uid;
  const name = quote(path, 200);
  const refuse = (what: string, hint: string): never => {
    throw new KedgeError('sealing_key_invalid', `the sealing key ${name} ${what}`, { hint });
  };
  if (!isFile) refuse('is not a plain file', 'name a file of 32 random bytes');
  if (uid !== ours && uid !== 0) refuse(`belongs to user ${uid}`, `chown it to user ${ours}`);
  const open = uid === ours ? 0o077 : 0o037;
  if ((mode & open) !== 0) {
    refuse(
      `is open to others (mode ${(mode & 0o777).toString(8).padStart(4, '0')})`,
      'chmod 600 it, and replace the key if others may have read it',
    );
  }
}
