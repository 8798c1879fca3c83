import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { errnoOf } from '../../../host/errno.ts';
import { KedgeError, quote } from '../../../pki/kedge-error.ts';

/** More than any token takes. */
const PIN_BYTES = 256;

/**
 * The PIN of a token: all of the file but one line end at its end. Read at each login and kept nowhere.
 *
 * Throws `hsm_pin_file_invalid`: missing, unreadable, not a plain file, empty, too long, not UTF-8, or open to others.
 */
export async function readPin(path: string): Promise<string> {
  const invalid = (what: string, hint: string, cause?: unknown): KedgeError =>
    new KedgeError('hsm_pin_file_invalid', `the PIN file ${quote(path, 200)} ${what}`, { hint, cause });
  try {
    // O_NONBLOCK: a FIFO in its place must not hang the CA.
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const found = await file.stat();
    if (!found.isFile())
      throw invalid('is not a plain file', 'name a file that holds the PIN of the token user');
    if ((found.mode & 0o007) !== 0) {
      throw invalid(
        'is open to every user of the machine',
        'chmod 600 it, and change the PIN if others may have read it',
      );
    }
    const bytes = Buffer.alloc(PIN_BYTES + 2);
    const { bytesRead } = await file.read(bytes, 0, bytes.length, 0);
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, bytesRead));
    bytes.fill(0);
    const pin = text.replace(/\r?\n$/, '');
    if (pin === '' || Buffer.byteLength(pin) > PIN_BYTES || pin.includes('\0')) {
      throw invalid('does not hold a PIN', 'write the PIN of the token user into it, and nothing else');
    }
    return pin;
  } catch (cause) {
    if (cause instanceof KedgeError) throw cause;
    if (cause instanceof TypeError)
      throw invalid('is not UTF-8', 'write the PIN of the token user into it', cause);
    throw invalid(
      `cannot be read (${errnoOf(cause) ?? 'unknown'})`,
      'give the CA read permission on it',
      cause,
    );
  }
}
