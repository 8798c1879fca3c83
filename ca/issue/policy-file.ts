import { createHash } from 'node:crypto';
import { open, stat } from 'node:fs/promises';
import { isUtf8 } from 'node:buffer';

import type { Clock } from '../../host/clock.ts';
import { errorFields, type Log } from '../../host/log.ts';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import { readYaml } from '../yaml-document.ts';
import type { PolicyBounds } from './policy-defaults.ts';
import { policySchema } from './policy-schema.ts';
import { Policy } from './policy.ts';

/** How often the file is looked at unless configured, milliseconds. */
export const POLICY_POLL_MS = 1_000;

/** Which policy is in force, and what became of the newest edit. */
export interface PolicyStatus {
  /** Path of the policy file. */
  readonly file: string;
  /** When the policy in force was read, milliseconds since the Unix epoch. */
  readonly loadedAtMs: number;
  /** SHA-256 of the content in force, lower-case hex. */
  readonly sha256: string;
  /** Why the newest edit was not taken; null = it was. */
  readonly error: string | null;
}

/** What {@link PolicyFile.load} needs. */
export interface PolicyFileOptions {
  readonly path: string;
  readonly bounds: PolicyBounds;
  readonly clock: Clock;
  readonly log: Log;
  /** Default {@link POLICY_POLL_MS}. */
  readonly pollMs?: number;
  /** Called after each change of {@link PolicyFile.status}, for the audit log. */
  readonly onChange?: (status: PolicyStatus) => void;
}

/** Reads a policy document. `file` names it in messages. Throws `config_invalid`. */
export function parsePolicy(text: string, file: string, bounds: PolicyBounds): Policy {
  return new Policy(readYaml(text, file, policySchema(bounds)));
}

/**
 * A policy that follows its file.
 *
 * The file is polled, because file notifications miss the symlink swaps of Kubernetes' ConfigMap volumes and all of
 * some file systems. New content is taken only once it was seen unchanged at two looks in a row: the first half of
 * a file that is being written is often a valid policy too, only without its last denials. Content that is no
 * policy, and a file that is gone, change nothing but the status, and are logged once.
 */
export class PolicyFile {
  readonly #options: PolicyFileOptions;
  #current: Policy;
  #status: PolicyStatus;
  /** What the file looked like when its content was last judged. */
  #judged: string;
  /** What it looked like at the last look. */
  #seen: string;
  /** Digest of the content, or code of the failure, that was logged last. */
  #complaint: string | null = null;

  private constructor(options: PolicyFileOptions, first: FileContent) {
    this.#options = options;
    this.#current = parsePolicy(first.text, options.path, options.bounds);
    this.#status = {
      file: options.path,
      loadedAtMs: options.clock.now(),
      sha256: first.sha256,
      error: null,
    };
    this.#judged = first.fingerprint;
    this.#seen = first.fingerprint;
  }

  /** Reads the file for the first time. Throws `config_invalid`, `file_unreadable`: there is no old policy to keep. */
  static async load(options: PolicyFileOptions): Promise<PolicyFile> {
    return new PolicyFile(options, await readContent(options.path));
  }

  /** The policy in force. */
  get current(): Policy {
    return this.#current;
  }

  get status(): PolicyStatus {
    return this.#status;
  }

  /** Follows the file until the signal aborts; then resolves. */
  async follow(signal: AbortSignal): Promise<void> {
    const { clock, pollMs = POLICY_POLL_MS } = this.#options;
    while (!signal.aborted) {
      try {
        await clock.sleep(pollMs, signal);
      } catch (error) {
        if (signal.aborted) return;
        throw error;
      }
      await this.check();
    }
  }

  /** One look at the file. Never rejects. Not to be called while one is under way. */
  async check(): Promise<void> {
    const { path } = this.#options;
    try {
      const fingerprint = await fingerprintOf(path);
      const settled = fingerprint === this.#seen;
      this.#seen = fingerprint;
      if (!settled || fingerprint === this.#judged) return;
      const content = await readContent(path);
      if (content.fingerprint !== fingerprint) return;
      this.#judged = fingerprint;
      this.#judge(content);
    } catch (error) {
      // Judged again when it is back, even as it was.
      this.#judged = '';
      this.#refuse(error, error instanceof KedgeError ? error.code : 'unknown');
    }
  }

  #judge(content: FileContent): void {
    const { path, bounds, clock, log } = this.#options;
    if (content.sha256 === this.#status.sha256) {
      this.#complaint = null;
      if (this.#status.error !== null) this.#become({ ...this.#status, error: null });
      return;
    }
    let next: Policy;
    try {
      next = parsePolicy(content.text, path, bounds);
    } catch (error) {
      this.#refuse(error, content.sha256);
      return;
    }
    this.#current = next;
    this.#complaint = null;
    log.info('policy.loaded', { file: path, sha256: content.sha256 });
    this.#become({ file: path, loadedAtMs: clock.now(), sha256: content.sha256, error: null });
  }

  #refuse(error: unknown, complaint: string): void {
    if (complaint === this.#complaint) return;
    this.#complaint = complaint;
    this.#options.log.error('policy.refused', { file: this.#options.path, error: errorFields(error) });
    this.#become({ ...this.#status, error: error instanceof Error ? error.message : String(error) });
  }

  #become(status: PolicyStatus): void {
    this.#status = status;
    this.#options.onChange?.(status);
  }
}

interface FileContent {
  readonly text: string;
  readonly sha256: string;
  readonly fingerprint: string;
}

/** Changes with each edit, replacement and symlink swap: times are of nanoseconds, and ctime cannot be set back. */
async function fingerprintOf(path: string): Promise<string> {
  try {
    const found = await stat(path, { bigint: true });
    if (!found.isFile()) throw new TypeError('not a regular file');
    return [found.dev, found.ino, found.size, found.mtimeNs, found.ctimeNs].join(':');
  } catch (cause) {
    throw unreadable(path, cause);
  }
}

/** The content as one look saw it. Throws `file_unreadable`, `config_invalid`. */
async function readContent(path: string): Promise<FileContent> {
  const fingerprint = await fingerprintOf(path);
  const buffer = Buffer.allocUnsafe(LIMITS.configFileBytes + 1);
  let size = 0;
  try {
    await using file = await open(path, 'r');
    for (;;) {
      const { bytesRead } = await file.read(buffer, size, buffer.length - size, size);
      size += bytesRead;
      if (bytesRead === 0 || size === buffer.length) break;
    }
  } catch (cause) {
    throw unreadable(path, cause);
  }
  if (size > LIMITS.configFileBytes) {
    throw new KedgeError('config_invalid', `${path} is over ${LIMITS.configFileBytes} bytes`);
  }
  const bytes = buffer.subarray(0, size);
  if (!isUtf8(bytes)) throw new KedgeError('config_invalid', `${path} is not UTF-8`);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  return { text: bytes.toString('utf8'), sha256, fingerprint };
}

function unreadable(path: string, cause: unknown): KedgeError {
  return new KedgeError('file_unreadable', `cannot read the policy file ${quote(path, 200)}`, {
    hint: 'the policy read last stays in force',
    cause,
  });
}
