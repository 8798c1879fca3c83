import { randomBytes } from 'node:crypto';
import { type FileHandle, link, open, rename, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { KedgeError, quote } from '../pki/kedge-error.ts';
import { errnoOf } from './errno.ts';

/** Who may do what with a file that is written durably. */
export interface DurableFileOptions {
  /** Permission bits, exactly: the process's umask does not count. */
  readonly mode: number;
  /** Owner; absent = the process's own. */
  readonly uid?: number;
  /** Group; absent = the process's own. */
  readonly gid?: number;
}

/**
 * Puts `bytes` at `path`, replacing what is there, so that a reader, a crash of the process and a crash of the
 * machine see the old content or the new, never a part. A symbolic link at `path` is itself replaced.
 *
 * Resolves when the content and its name are on disk. Throws `file_unwritable`; then `path` is as it was, unless
 * only step 6 failed: then it is new, but may be old again after a crash of the machine.
 *
 * The order, and what a crash after each step leaves:
 *  1. create `.<name>.<random>.tmp` in the same folder, new and 0600   (old file; an empty temporary)
 *  2. write all bytes into it                                          (old file; a temporary)
 *  3. set its owner and group, then its mode, which a change of owner may clear   (the same)
 *  4. fsync it: its content is on disk before any name leads to it     (the same)
 *  5. rename it to `path`: readers see the new file from here          (old or new file)
 *  6. fsync the folder: the new name is on disk                        (new file)
 *
 * A failure in steps 1 to 5 removes the temporary; a crash leaves it, never with more permissions than `path`.
 */
export async function writeFileDurably(
  path: string,
  bytes: Uint8Array,
  options: DurableFileOptions,
): Promise<void> {
  await putInPlace(path, bytes, options, rename);
}

/**
 * Like {@link writeFileDurably}, but never replaces: resolves to false, and changes nothing, when `path` exists.
 * Of several that create the same file at once, exactly one gets true.
 *
 * The order differs in step 5: the temporary is linked to `path`, which fails if that exists, then removed.
 */
export async function createFileDurably(
  path: string,
  bytes: Uint8Array,
  options: DurableFileOptions,
): Promise<boolean> {
  let created = true;
  await putInPlace(path, bytes, options, async (temporary) => {
    try {
      await link(temporary, path);
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error;
      created = false;
    }
    await unlink(temporary);
  });
  return created;
}

async function putInPlace(
  path: string,
  bytes: Uint8Array,
  options: DurableFileOptions,
  place: (temporary: string, path: string) => Promise<void>,
): Promise<void> {
  const folder = dirname(path);
  const temporary = join(folder, `.${basename(path)}.${randomBytes(8).toString('hex')}.tmp`);
  try {
    const file = await open(temporary, 'wx', 0o600);
    try {
      try {
        await file.writeFile(bytes);
        if (options.uid !== undefined || options.gid !== undefined) {
          await file.chown(options.uid ?? UNCHANGED, options.gid ?? UNCHANGED);
        }
        await file.chmod(options.mode);
        await file.sync();
      } finally {
        await file.close();
      }
      await place(temporary, path);
    } catch (error) {
      // Whatever went wrong first is what the caller must hear; the temporary may be gone already.
      await unlink(temporary).catch(() => undefined);
      throw error;
    }
    await syncFolder(folder);
  } catch (cause) {
    throw unwritable(path, cause);
  }
}

/** chown(2): -1 leaves the owner or group as it is; Node wants it as an unsigned number. */
const UNCHANGED = 0xffff_ffff;

async function syncFolder(folder: string): Promise<void> {
  const handle: FileHandle = await open(folder, 'r');
  try {
    await handle.sync();
  } catch (error) {
    // Some file systems (FUSE, 9p) cannot sync a folder and say so: there is nothing more to do on those.
    if (errnoOf(error) !== 'EINVAL' && errnoOf(error) !== 'ENOTSUP') throw error;
  } finally {
    await handle.close();
  }
}

const HINTS: ReadonlyMap<string | undefined, string> = new Map([
  ['ENOSPC', 'free space on the file system, or choose a folder on another one'],
  ['EDQUOT', 'the disk quota is used up: free space or raise it'],
  ['EROFS', 'the file system is mounted read-only: choose a writable folder'],
  ['EACCES', 'give the user that runs Kedge write permission on the folder'],
  ['EPERM', 'give the user that runs Kedge write permission on the folder, and the right to set the owner'],
  ['ENOENT', 'create the folder first'],
  ['ENOTDIR', 'a part of the path is a file: name a folder'],
  ['EISDIR', 'the path is a folder: name a file in it'],
]);

function unwritable(path: string, cause: unknown): KedgeError {
  const code = errnoOf(cause);
  const hint = HINTS.get(code) ?? 'the cause in the log has the details';
  return new KedgeError('file_unwritable', `${quote(path, 200)} cannot be written (${code ?? 'unknown'})`, {
    cause,
    hint,
  });
}
