import { constants } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { errnoOf } from '../../../host/errno.ts';
import { KedgeError, quote } from '../../../pki/kedge-error.ts';
import { LIMITS } from '../../../pki/limits.ts';
import type { DiskSettings } from './disk-settings.ts';

/** One file as it was read. */
export interface DiskFile {
  readonly path: string;
  /** The caller owns it, and overwrites the one of a key or a passphrase after use. */
  readonly bytes: Buffer;
  /** Permission bits. */
  readonly mode: number;
}

/** All files of the upstream. */
export interface DiskFiles {
  readonly certificate: DiskFile;
  readonly key: DiskFile;
  readonly passphrase: DiskFile | null;
  readonly anchors: DiskFile | null;
}

/**
 * What the files look like together, without reading them: changes with each edit, replacement and symlink swap, as
 * times are of nanoseconds and ctime cannot be set back. A file that cannot be looked at is a part of it too.
 */
export async function fingerprintOf(settings: DiskSettings): Promise<string> {
  const parts = pathsOf(settings).map(async (path) => {
    try {
      const found = await stat(path, { bigint: true });
      return [found.dev, found.ino, found.size, found.mode, found.mtimeNs, found.ctimeNs].join(':');
    } catch (error) {
      return errnoOf(error) ?? 'unknown';
    }
  });
  return (await Promise.all(parts)).join(' ');
}

/**
 * Reads all files. Throws `disk_file_missing`, `disk_file_forbidden`, `disk_file_symlink_loop`, `disk_file_invalid`.
 */
export async function readDiskFiles(settings: DiskSettings): Promise<DiskFiles> {
  const { certificateFile, keyFile, passphraseFile, anchorsFile } = settings;
  const certificate = await readDiskFile(certificateFile, LIMITS.upstreamFileBytes);
  const anchors = anchorsFile === null ? null : await readDiskFile(anchorsFile, LIMITS.upstreamFileBytes);
  const passphrase =
    passphraseFile === null ? null : await readDiskFile(passphraseFile, LIMITS.passphraseFileBytes);
  const key = await readDiskFile(keyFile, LIMITS.upstreamFileBytes);
  return { certificate, key, passphrase, anchors };
}

function pathsOf(settings: DiskSettings): readonly string[] {
  const { certificateFile, keyFile, passphraseFile, anchorsFile } = settings;
  return [certificateFile, keyFile, passphraseFile, anchorsFile].filter((path) => path !== null);
}

async function readDiskFile(path: string, limit: number): Promise<DiskFile> {
  try {
    // O_NONBLOCK: a FIFO in its place must not hang the CA.
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const found = await file.stat();
    if (!found.isFile()) throw invalid(path, 'is not a regular file', 'name a file');
    // One byte more than is allowed, so that a longer file is seen without reading all of it.
    const buffer = Buffer.alloc(limit + 1);
    let size = 0;
    while (size <= limit) {
      const { bytesRead } = await file.read(buffer, size, buffer.length - size, size);
      if (bytesRead === 0) break;
      size += bytesRead;
    }
    if (size > limit) throw invalid(path, `is over ${limit} bytes`, 'leave in it only what is needed');
    return { path, bytes: buffer.subarray(0, size), mode: found.mode & 0o777 };
  } catch (error) {
    if (error instanceof KedgeError) throw error;
    throw unreadable(path, error);
  }
}

function unreadable(path: string, cause: unknown): KedgeError {
  const name = quote(path, 200);
  const errno = errnoOf(cause) ?? 'unknown';
  switch (errno) {
    case 'ENOENT':
    case 'ENOTDIR':
      return new KedgeError('disk_file_missing', `${name} does not exist`, {
        hint: 'put it there, or correct the path; the CA goes on looking for it',
        cause,
      });
    case 'EACCES':
    case 'EPERM':
      return new KedgeError('disk_file_forbidden', `${name} may not be read`, {
        hint: 'give the user that runs the CA read permission on it and on the folders above',
        cause,
      });
    case 'ELOOP':
      return new KedgeError('disk_file_symlink_loop', `${name} is a symbolic link that leads to itself`, {
        hint: 'point the link to the file',
        cause,
      });
    default:
      return invalid(path, `cannot be read (${errno})`, 'look at the disk and the mount', cause);
  }
}

function invalid(path: string, what: string, hint: string, cause?: unknown): KedgeError {
  return new KedgeError('disk_file_invalid', `${quote(path, 200)} ${what}`, { hint, cause });
}
