import { randomBytes } from 'node:crypto';
import type { Dirent } from 'node:fs';
import {
  type FileHandle,
  lstat,
  mkdir,
  open,
  readdir,
  readlink,
  rename,
  rm,
  symlink,
  unlink,
} from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../../host/errno.ts';
import { isoTime } from '../../host/iso-time.ts';
import { readSmallFile } from '../../host/small-file.ts';
import { isKedgeError, KedgeError, quote } from '../../pki/kedge-error.ts';
import { makeFolder } from '../folder.ts';

/** One file of a set that changes as a whole. */
export interface SnapshotFile {
  readonly name: string;
  readonly bytes: Uint8Array;
  /** Permission bits. */
  readonly mode: number;
}

/** Who owns what is written. Null = whoever runs the process. */
export interface Owner {
  readonly uid: number | null;
  readonly gid: number | null;
}

/** What a {@link SnapshotFolder} is made of. */
export interface SnapshotFolderOptions {
  /** Absolute path. Created (0755) where it is missing. */
  readonly path: string;
  /** Absent = the process's own. */
  readonly owner?: Owner;
  /** Every name that may ever be written. */
  readonly names: readonly string[];
}

/** What chown(2) takes for an id that stays as it is. */
const UNCHANGED = -1;
const CURRENT = '..data';
const NEXT = '..data_tmp';
/** Beside the files of a version: when they are of no more use, so that who cannot read the key can tell. */
const NOT_AFTER = '.not-after';
const NOT_AFTER_BYTES = 32;
const VERSION_FOLDER = /^\.\.\d{4}_\d\d_\d\d_\d\d_\d\d_\d\d\.[0-9a-f]{8}$/;

/** A set of files, and until when it is of use. */
export interface SnapshotContent {
  readonly files: readonly SnapshotFile[];
  /** Milliseconds since the Unix epoch; null = for ever. */
  readonly notAfterMs: number | null;
}

/**
 * A folder whose files change all at once, laid out as the kubelet lays out its volumes:
 *
 *     ..2026_01_31_12_00_00.1a2b3c4d/tls.crt     one version, written once
 *     ..data -> ..2026_01_31_12_00_00.1a2b3c4d   renamed over the one before: the instant of change
 *     tls.crt -> ..data/tls.crt                  never changes
 *
 * A reader that opens several files by their stable names may meet the change between two opens. It sees one
 * version whole when it opens `..data` once and reads below it, when it reads the one-file credential bundle, or
 * when it reads at the hook, since nothing changes while a hook runs.
 *
 * Concurrency: what is asked for is done one after the other, in the order in which it was asked. A signal that is
 * aborted before its turn keeps a call from doing anything; it then rejects with the signal's reason. One that is
 * aborted later does nothing: a folder is never left half changed.
 */
export class SnapshotFolder {
  readonly #options: SnapshotFolderOptions;
  /** Ends, never rejecting, when all that was asked for so far is done. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: SnapshotFolderOptions) {
    this.#options = options;
  }

  /** Path of a file by its stable name. */
  pathOf(name: string): string {
    return join(this.#options.path, name);
  }

  /**
   * Until when the content is of use, as {@link SnapshotContent} says it: null = for ever; 0 = there is content, and
   * nothing that says how long; undefined = there is no content. Throws `file_unwritable`.
   */
  async contentNotAfterMs(): Promise<number | null | undefined> {
    return await this.#inTurn(undefined, async () => {
      const { path } = this.#options;
      if ((await lstat(join(path, CURRENT)).catch(() => null)) === null) return undefined;
      try {
        const bytes = await readSmallFile(join(path, CURRENT, NOT_AFTER), NOT_AFTER_BYTES, 'expiry');
        const text = Buffer.from(bytes).toString('latin1');
        return text === 'never\n' ? null : /^\d{1,15}\n$/.test(text) ? Number(text) : 0;
      } catch (error) {
        if (!isKedgeError(error)) throw error;
        return 0;
      }
    });
  }

  /**
   * Makes `content` the content. Throws `file_unwritable`; then the version before is still the content. What a crash
   * leaves is removed by the next call.
   *
   *  1. refuse where a stable name is taken by a file that is not ours
   *  2. remove what a crash left: version folders that `..data` does not name, `..data_tmp`
   *  3. write the version folder, every file synced, then the folder itself   (crash: an unnamed version folder)
   *  4. make the stable names, which lead through `..data`
   *  5. rename `..data_tmp` over `..data`: readers see the new version from here
   *  6. remove stable names that this version does not have, sync
   */
  async replace({ files, notAfterMs }: SnapshotContent, nowMs: number, signal?: AbortSignal): Promise<void> {
    const { path, names } = this.#options;
    const notAfter = { name: NOT_AFTER, bytes: Buffer.from(`${notAfterMs ?? 'never'}\n`), mode: 0o644 };
    await this.#inTurn(signal, async () => {
      await makeFolder(path, 0o755);
      const taken = await this.#linksInPlace(names);
      await this.#removeOld();
      const version = `..${timestamp(nowMs)}.${randomBytes(4).toString('hex')}`;
      await this.#writeVersion(join(path, version), [...files, notAfter]);
      for (const { name } of files)
        if (!taken.has(name)) await symlink(join(CURRENT, name), join(path, name));
      await symlink(version, join(path, NEXT));
      await rename(join(path, NEXT), join(path, CURRENT));
      const present = new Set(files.map(({ name }) => name));
      for (const name of taken) if (!present.has(name)) await unlink(join(path, name));
      await syncFolder(path);
    });
  }

  /** Removes every version but the current one, and what a crash left. */
  async removeOld(): Promise<void> {
    await this.#inTurn(undefined, () => this.#removeOld());
  }

  /** Removes the content, in one instant for the readers, and then everything of ours. */
  async clear(signal?: AbortSignal): Promise<void> {
    const { path, names } = this.#options;
    await this.#inTurn(signal, async () => {
      await rm(join(path, CURRENT), { force: true });
      await this.#removeOld();
      const entries = await this.#entries();
      for (const name of names) {
        if (entries.some((entry) => entry.name === name) && (await isOurs(join(path, name), name))) {
          await unlink(join(path, name));
        }
      }
      if (entries.length > 0) await syncFolder(path);
    });
  }

  async #removeOld(): Promise<void> {
    const { path } = this.#options;
    const current = await readlink(join(path, CURRENT)).catch(() => null);
    for (const entry of await this.#entries()) {
      if (entry.name === NEXT) await unlink(join(path, NEXT));
      else if (entry.isDirectory() && VERSION_FOLDER.test(entry.name) && entry.name !== current) {
        await rm(join(path, entry.name), { recursive: true, force: true });
      }
    }
  }

  async #linksInPlace(names: readonly string[]): Promise<Set<string>> {
    const taken = new Set<string>();
    for (const name of names) {
      const path = this.pathOf(name);
      if ((await lstat(path).catch(() => null)) === null) continue;
      if (!(await isOurs(path, name))) {
        throw new KedgeError('file_unwritable', `${quote(path, 200)} exists and was not written by Kedge`, {
          hint: 'remove it, or give the agent a folder of its own',
        });
      }
      taken.add(name);
    }
    return taken;
  }

  async #entries(): Promise<Dirent[]> {
    try {
      return await readdir(this.#options.path, { withFileTypes: true });
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return [];
      throw error;
    }
  }

  /** A version folder, whole; one that cannot be finished is removed: half a key is of use to nobody. */
  async #writeVersion(path: string, files: readonly SnapshotFile[]): Promise<void> {
    await mkdir(path, { mode: 0o700 });
    try {
      for (const file of files) await this.#write(join(path, file.name), file);
      const folder = await open(path, 'r');
      try {
        await this.#settle(folder, 0o755);
      } finally {
        await folder.close();
      }
    } catch (error) {
      // The first error is the one to tell of; what this one leaves is removed by the next call.
      await rm(path, { recursive: true, force: true }).catch(() => {});
      throw error;
    }
  }

  async #write(path: string, file: SnapshotFile): Promise<void> {
    const handle = await open(path, 'wx', 0o600);
    try {
      await handle.writeFile(file.bytes);
      await this.#settle(handle, file.mode);
    } finally {
      await handle.close();
    }
  }

  /** Owner before mode: the new owner is never let in with more than the mode says. */
  async #settle(handle: FileHandle, mode: number): Promise<void> {
    const { owner } = this.#options;
    if (owner !== undefined) await handle.chown(owner.uid ?? UNCHANGED, owner.gid ?? UNCHANGED);
    await handle.chmod(mode);
    await handle.sync();
  }

  /** Runs `action` when all that was asked for before is done. */
  #inTurn<T>(signal: AbortSignal | undefined, action: () => Promise<T>): Promise<T> {
    const done = this.#last.then(() => {
      signal?.throwIfAborted();
      return this.#guarded(action);
    });
    this.#last = done.catch(() => {});
    return done;
  }

  async #guarded<T>(action: () => Promise<T>): Promise<T> {
    try {
      return await action();
    } catch (error) {
      if (error instanceof KedgeError) throw error;
      const why = errnoOf(error) ?? 'unknown error';
      throw new KedgeError('file_unwritable', `${quote(this.#options.path, 200)} cannot be written: ${why}`, {
        cause: error,
        hint: 'the folder must be writable by the user that runs the agent, with space left',
      });
    }
  }
}

async function isOurs(path: string, name: string): Promise<boolean> {
  return (await readlink(path).catch(() => null)) === join(CURRENT, name);
}

async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } catch (error) {
    if (errnoOf(error) !== 'EINVAL' && errnoOf(error) !== 'ENOTSUP') throw error;
  } finally {
    await handle.close();
  }
}

/** `2026_01_31_12_00_00`, UTC. */
function timestamp(nowMs: number): string {
  return isoTime(nowMs).slice(0, 19).replace(/[-:T]/g, '_');
}
