import { basename, join } from 'node:path';
import type { Clock } from '../../host/clock.ts';
import { errorFields, type Log } from '../../host/log.ts';
import { parseCertificate } from '../../pki/certificate.ts';
import type { ErrorCode } from '../../pki/error-table.ts';
import { isKedgeError } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import { decodePem } from '../../pki/pem.ts';
import { sleepUntilDeadline } from '../deadline.ts';
import { expiryOf } from '../renewal.ts';
import { readSmallFile } from '../../host/small-file.ts';
import { type HeldSnapshot, heldSnapshot, type IdentitySnapshot } from '../snapshot.ts';
import type { ConsumerStatus, Feed } from './feed.ts';
import { fileContent } from './files-content.ts';
import {
  ALL_FILE_NAMES,
  BUNDLE_DOCUMENT,
  CHAIN_FILE_NAMES,
  type FilesPresetName,
  isSecret,
  type KeyFormat,
  presetOf,
} from './files-preset.ts';
import { gradeOfHook, type Hook, runHook } from './hook.ts';
import { type Owner, type SnapshotFile, SnapshotFolder } from './snapshot-folder.ts';

/** Mode of the files that hold no key. */
const PUBLIC_MODE = 0o644;

/** What a {@link FilesFeed} is made of. */
export interface FilesFeedOptions {
  /** Absolute path of a folder that only this feed writes to. */
  readonly folder: string;
  /** Which files there are. */
  readonly preset: FilesPresetName;
  /** How the private key is written. */
  readonly keyFormat: KeyFormat;
  /** Permission bits of the files that hold the key. */
  readonly keyMode: number;
  /** Owner of all files; absent = the process's own. */
  readonly owner?: Owner;
  /** Whether to write the bundle as a SPIFFE bundle document too. */
  readonly bundleDocument: boolean;
  /** Absent = nobody is told. */
  readonly hook?: Hook;
  readonly clock: Clock;
  readonly log: Log;
  /** See {@link Feed}. */
  readonly onConsumersChange: () => void;
}

/** Between two attempts to remove what an earlier process left and what has expired since, milliseconds. */
const LEFTOVER_RETRY_MS = 1_000;

/**
 * The identity as the files of a preset, changed all at once (see {@link SnapshotFolder}), and a hook that tells the
 * proxy.
 *
 * A publication whose hook fails has still put the files in place; tried again, only the hook is run. A withdrawal
 * removes the files and runs no hook: a proxy that keeps what it loaded is beyond the reach of files.
 */
export class FilesFeed implements Feed {
  readonly name = 'files';
  readonly #options: FilesFeedOptions;
  readonly #folder: SnapshotFolder;
  /** The files in place; null = not written by this process. */
  #written: HeldSnapshot | null = null;
  /** What the hook brought in last. */
  #loaded: HeldSnapshot | null = null;
  /** Of the newest run of the hook; null = it succeeded, or has not run. */
  #hookError: ErrorCode | null = null;
  /** Ends the watch over files that an earlier process left. */
  #leftover: AbortController | null = null;

  /**
   * Takes the folder over. What an earlier agent left there stays until it expires, since a proxy may live on it;
   * what is expired or unreadable goes at once.
   */
  static async open(options: FilesFeedOptions): Promise<FilesFeed> {
    const feed = new FilesFeed(options);
    await feed.#adoptLeftover();
    return feed;
  }

  private constructor(options: FilesFeedOptions) {
    this.#options = options;
    const { folder: path, owner } = options;
    this.#folder = new SnapshotFolder({
      path,
      names: ALL_FILE_NAMES,
      ...(owner === undefined ? {} : { owner }),
    });
  }

  async publish(snapshot: IdentitySnapshot, signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    signal.throwIfAborted();
    if (this.#written?.generation !== snapshot.generation) {
      this.#leftover?.abort();
      await this.#folder.replace(this.#filesOf(snapshot), clock.now());
      this.#written = heldSnapshot(snapshot);
    }
    try {
      await this.#runHook(snapshot, signal);
    } finally {
      this.#options.onConsumersChange();
    }
    // Only now: a proxy that was told earlier may still read the version before.
    await this.#folder.removeOld();
  }

  async withdraw(): Promise<void> {
    this.#leftover?.abort();
    await this.#folder.clear();
    this.#written = null;
    this.#loaded = null;
    this.#options.onConsumersChange();
  }

  consumers(): readonly ConsumerStatus[] {
    const { hook } = this.#options;
    const name =
      hook === undefined ? this.name : hook.type === 'signal' ? hook.signal : hookName(hook.argv[0]);
    return [
      {
        name,
        best: gradeOfHook(hook),
        delivered: this.#written,
        loaded: this.#loaded,
        errorCode: this.#hookError,
      },
    ];
  }

  close(): Promise<void> {
    this.#leftover?.abort();
    return Promise.resolve();
  }

  async #runHook(snapshot: IdentitySnapshot, signal: AbortSignal): Promise<void> {
    const { hook, folder, clock } = this.#options;
    if (hook === undefined) return;
    try {
      await runHook(hook, hookEnvironment(folder, snapshot), clock, signal);
      this.#hookError = null;
      if (gradeOfHook(hook) === 'loaded') this.#loaded = heldSnapshot(snapshot);
    } catch (error) {
      this.#hookError = isKedgeError(error) ? error.code : 'hook_failed';
      throw error;
    }
  }

  #filesOf(snapshot: IdentitySnapshot): SnapshotFile[] {
    const { preset, keyFormat, keyMode, bundleDocument } = this.#options;
    const wanted = [...presetOf(preset).files, ...(bundleDocument ? [BUNDLE_DOCUMENT] : [])];
    return wanted.flatMap(({ name, content }) => {
      const bytes = fileContent(content, snapshot, keyFormat);
      return bytes === null ? [] : [{ name, bytes, mode: isSecret(content) ? keyMode : PUBLIC_MODE }];
    });
  }

  async #adoptLeftover(): Promise<void> {
    const { clock, log } = this.#options;
    const notAfterMs = await this.#leftoverNotAfterMs();
    if (notAfterMs === null) return;
    const watch = new AbortController();
    this.#leftover = watch;
    const now = { wallMs: clock.now(), monotonicMs: clock.monotonic() };
    const remove = async (): Promise<boolean> => {
      try {
        await this.#folder.clear();
        log.warn('feed.leftover_removed', { feed: this.name, notAfterMs });
        return true;
      } catch (error) {
        log.error('feed.withdrawal_failed', { feed: this.name, error: errorFields(error) });
        return false;
      }
    };
    if (notAfterMs <= clock.now() && (await remove())) return;
    const removeLater = async (): Promise<void> => {
      await sleepUntilDeadline(clock, expiryOf(notAfterMs, now), watch.signal);
      while (!(await remove())) await clock.sleep(LEFTOVER_RETRY_MS, watch.signal);
    };
    // Ended by what takes the place of the leftover, or by the end of the feed.
    removeLater().catch(() => {});
  }

  /** When the SVID of an earlier process expires; 0 for one that cannot be read; null where there is none. */
  async #leftoverNotAfterMs(): Promise<number | null> {
    const limit = LIMITS.certificateBytes * LIMITS.chainCertificates * 2;
    for (const name of CHAIN_FILE_NAMES) {
      try {
        const path = join(this.#options.folder, name);
        const text = Buffer.from(await readSmallFile(path, limit, 'certificate')).toString('latin1');
        const [leaf] = decodePem(text, 'CERTIFICATE');
        return leaf === undefined ? 0 : parseCertificate(leaf).notAfterMs;
      } catch (error) {
        if (!isKedgeError(error, 'file_unreadable')) return 0;
      }
    }
    return null;
  }
}

/** The program of a hook as a consumer's name: its last path segment, in printable ASCII. */
function hookName(program: string): string {
  return basename(program)
    .replace(/[^\x21-\x7e]/g, '?')
    .slice(0, 64);
}

function hookEnvironment(folder: string, { svid, bundle }: IdentitySnapshot): Record<string, string> {
  return {
    KEDGE_FILES_FOLDER: folder,
    KEDGE_SPIFFE_ID: svid.spiffeId.toString(),
    KEDGE_BUNDLE_SEQUENCE: bundle.sequence.toString(),
  };
}
