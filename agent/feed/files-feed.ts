import { basename } from 'node:path';
import type { Clock } from '../../host/clock.ts';
import type { Log } from '../../host/log.ts';
import type { ErrorCode } from '../../pki/error-table.ts';
import { isKedgeError } from '../../pki/kedge-error.ts';
import { type HeldSnapshot, heldSnapshot, type IdentitySnapshot } from '../snapshot.ts';
import type { ConsumerStatus, Feed } from './feed.ts';
import { fileContent } from './files-content.ts';
import {
  ALL_FILE_NAMES,
  BUNDLE_DOCUMENT,
  type FilesPresetName,
  isSecret,
  type KeyFormat,
  presetOf,
} from './files-preset.ts';
import { gradeOfHook, type Hook, runHook } from './hook.ts';
import { watchLeftover } from './leftover.ts';
import { type Owner, type SnapshotContent, SnapshotFolder } from './snapshot-folder.ts';

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
  readonly #leftover = new AbortController();

  /**
   * Takes the folder over. What an earlier agent left there stays until it expires, since a proxy may live on it;
   * what is expired, or does not say when it expires, goes at once.
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
      this.#leftover.abort();
      await this.#folder.replace(this.#contentOf(snapshot), clock.now());
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
    this.#leftover.abort();
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
    this.#leftover.abort();
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

  #contentOf(snapshot: IdentitySnapshot): SnapshotContent {
    const { preset, keyFormat, keyMode, bundleDocument } = this.#options;
    const wanted = [...presetOf(preset).files, ...(bundleDocument ? [BUNDLE_DOCUMENT] : [])];
    const files = wanted.flatMap(({ name, content }) => {
      const bytes = fileContent(content, snapshot, keyFormat);
      return bytes === null ? [] : [{ name, bytes, mode: isSecret(content) ? keyMode : PUBLIC_MODE }];
    });
    return { files, notAfterMs: snapshot.svid.notAfterMs };
  }

  async #adoptLeftover(): Promise<void> {
    const notAfterMs = await this.#folder.contentNotAfterMs();
    if (notAfterMs === undefined || notAfterMs === null) return;
    const remove = (signal: AbortSignal): Promise<void> => this.#folder.clear(signal);
    await watchLeftover({ ...this.#options, feed: this.name, notAfterMs, remove }, this.#leftover.signal);
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
