import { constants, open } from 'node:fs/promises';
import { errnoOf } from './errno.ts';
import { concatBytes } from '../pki/bytes.ts';
import { KedgeError, quote } from '../pki/kedge-error.ts';

/**
 * The whole of a regular file of at most `maxBytes`. Throws `file_unreadable` (absent, no permission, a device or a
 * FIFO) or `message_too_large`; never reads past the limit, whatever the file says its size is.
 */
export async function readSmallFile(path: string, maxBytes: number, what: string): Promise<Uint8Array> {
  try {
    // Not blocking: opening a FIFO would otherwise wait for a writer, for ever.
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stat = await file.stat();
      if (!stat.isFile()) throw unreadable(path, what, 'not a regular file');
      // As large as the file says, and one byte to find its end; a file that has grown since takes more turns.
      const chunk = Buffer.allocUnsafe(Math.min(Math.max(stat.size, 512), maxBytes) + 1);
      let bytes: Uint8Array = new Uint8Array(0);
      while (bytes.length <= maxBytes) {
        const { bytesRead } = await file.read(chunk, 0, chunk.length, null);
        if (bytesRead > 0) bytes = concatBytes(bytes, chunk.subarray(0, bytesRead));
        const isEnd =
          bytesRead === 0 || (bytesRead < chunk.length && bytes.length >= stat.size && stat.size > 0);
        if (isEnd && bytes.length <= maxBytes) return bytes;
      }
    } finally {
      await file.close();
    }
  } catch (error) {
    if (error instanceof KedgeError) throw error;
    throw unreadable(path, what, errnoOf(error) ?? 'unknown error', error);
  }
  throw new KedgeError('message_too_large', `${what} ${quote(path, 200)} is over ${maxBytes} bytes`);
}

function unreadable(path: string, what: string, why: string, cause?: unknown): KedgeError {
  return new KedgeError('file_unreadable', `${what} ${quote(path, 200)} cannot be read: ${why}`, {
    hint: 'the file must exist and be readable by this process',
    ...(cause === undefined ? {} : { cause }),
  });
}
