import { lstat, statfs, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileDurably } from '../host/durable-file.ts';
import { errnoOf } from '../host/errno.ts';
import { KedgeError, quote } from '../pki/kedge-error.ts';
import { CACHED_IDENTITY_BYTES } from './cached-identity.ts';
import { makeFolder } from './folder.ts';
import { readSmallFile } from '../host/small-file.ts';

/** Magic numbers of file systems that keep nothing on a disk (statfs(2)). */
const MEMORY_BACKED = new Set([0x01021994 /* tmpfs */, 0x858458f6 /* ramfs */]);
const FILE_NAME = 'identity.json';
/** Permission bits that let anyone but the owner in. */
const OTHERS = 0o077;

/** What an {@link IdentityCache} is made of. */
export interface IdentityCacheOptions {
  /** Absolute path of a folder of its own. Created (0700) where it is missing. */
  readonly folder: string;
  /** Whether a folder on a disk is taken too: private keys may then survive in deleted blocks. */
  readonly allowDisk: boolean;
}

/**
 * Keeps the identity of the agent over its own restarts, in one file (0600) of a private folder in memory.
 *
 * Knows bytes only; what they mean, and whether they are any good, is for `cached-identity.ts`.
 */
export class IdentityCache {
  readonly #path: string;

  /** Throws `cache_unusable` for a folder that is not ours alone, or on a disk where that was not allowed. */
  static async open(options: IdentityCacheOptions): Promise<IdentityCache> {
    const { folder, allowDisk } = options;
    try {
      await makeFolder(folder, 0o700);
      const stat = await lstat(folder);
      if (!stat.isDirectory()) throw unusable(folder, 'is not a folder');
      if (stat.uid !== process.geteuid?.()) throw unusable(folder, 'belongs to another user');
      if ((stat.mode & OTHERS) !== 0)
        throw unusable(folder, 'is open to other users', 'give it the mode 0700');
      if (!allowDisk && !MEMORY_BACKED.has((await statfs(folder)).type)) {
        throw unusable(
          folder,
          'is not memory-backed',
          'choose a folder on a tmpfs (an emptyDir with medium: Memory), or set cacheAllowDisk',
        );
      }
    } catch (cause) {
      if (cause instanceof KedgeError) throw cause;
      throw unusable(folder, `cannot be used: ${errnoOf(cause) ?? 'unknown error'}`, undefined, cause);
    }
    return new IdentityCache(join(folder, FILE_NAME));
  }

  private constructor(path: string) {
    this.#path = path;
  }

  /** What was saved last; null when there is nothing. Throws `cache_invalid` for a file that others could write. */
  async load(): Promise<Uint8Array | null> {
    const stat = await lstat(this.#path).catch(() => null);
    if (stat === null) return null;
    if (!stat.isFile() || stat.uid !== process.geteuid?.() || (stat.mode & OTHERS) !== 0) {
      throw new KedgeError('cache_invalid', `${quote(this.#path, 200)} is not a private file of this user`);
    }
    return await readSmallFile(this.#path, CACHED_IDENTITY_BYTES, 'cached identity');
  }

  /** Replaces what is saved. Throws `file_unwritable`. */
  async save(bytes: Uint8Array): Promise<void> {
    await writeFileDurably(this.#path, bytes, { mode: 0o600 });
  }

  /** Removes what is saved. Throws `file_unwritable`. */
  async clear(): Promise<void> {
    try {
      await unlink(this.#path);
    } catch (cause) {
      const code = errnoOf(cause);
      if (code === 'ENOENT') return;
      throw new KedgeError('file_unwritable', `${quote(this.#path, 200)} cannot be removed: ${code ?? ''}`, {
        cause,
      });
    }
  }
}

function unusable(folder: string, why: string, hint?: string, cause?: unknown): KedgeError {
  return new KedgeError('cache_unusable', `the cache folder ${quote(folder, 200)} ${why}`, {
    hint: hint ?? 'choose another folder, or leave the cache out',
    ...(cause === undefined ? {} : { cause }),
  });
}
