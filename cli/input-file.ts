import { createReadStream } from 'node:fs';
import { errnoOf } from '../host/errno.ts';
import { KedgeError, quote } from '../pki/kedge-error.ts';

/**
 * The bytes of a file that the command line names; `-` is standard input.
 *
 * Reads no more than `limitBytes`, whatever the file says of its size. Throws `file_unreadable` or
 * `message_too_large`.
 */
export async function readInputFile(path: string, limitBytes: number): Promise<Uint8Array> {
  const stream = path === '-' ? process.stdin : createReadStream(path);
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of stream) {
      const bytes = chunk as Buffer;
      size += bytes.length;
      if (size > limitBytes) {
        throw new KedgeError('message_too_large', `${quote(path)} is over ${limitBytes} bytes`, {
          hint: 'this is not the kind of file that is wanted here',
        });
      }
      chunks.push(bytes);
    }
  } catch (error) {
    if (error instanceof KedgeError) throw error;
    throw new KedgeError('file_unreadable', `cannot read ${quote(path)}: ${reasonOf(error)}`, {
      hint: 'name a file that exists and that you may read, or - for standard input',
      cause: error,
    });
  }
  return Buffer.concat(chunks);
}

const REASONS: ReadonlyMap<string | undefined, string> = new Map([
  ['ENOENT', 'there is no such file'],
  ['EACCES', 'you may not read it'],
  ['EPERM', 'you may not read it'],
  ['EISDIR', 'it is a folder'],
]);

function reasonOf(error: unknown): string {
  return REASONS.get(errnoOf(error)) ?? (error instanceof Error ? error.message : String(error));
}
