import type { Clock } from '../../../host/clock.ts';
import { errorFields, type Log } from '../../../host/log.ts';
import { isKedgeError, KedgeError } from '../../../pki/kedge-error.ts';
import type { TrustDomain } from '../../../pki/spiffe-id.ts';
import { type DiskFiles, fingerprintOf, readDiskFiles } from './disk-files.ts';
import { type DiskMaterial, readMaterial } from './disk-material.ts';
import type { DiskSettings } from './disk-settings.ts';

/** What a {@link DiskSource} is made of. */
export interface DiskSourceOptions {
  readonly settings: DiskSettings;
  readonly trustDomain: TrustDomain;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * The files of a `disk` upstream, followed.
 *
 * They are polled, because file notifications miss the symlink swaps of Kubernetes' volumes and all of some file
 * systems. New content is taken only once all files looked the same at two looks in a row and while they were read:
 * a certificate is never paired with the key of another generation, and the first half of a file never taken for the
 * whole. What is not good changes nothing but {@link DiskSource.problem}, and is logged once.
 */
export class DiskSource {
  readonly #options: DiskSourceOptions;
  /** The newest that was good. */
  #material: DiskMaterial | null = null;
  /** How often the material has changed. */
  #generation = 0;
  /** What the files looked like when they were judged last; null: judge them whatever they look like. */
  #judged: string | null = null;
  #seen: string | null = null;
  /** Why the newest content was not taken; null: it was. */
  #failure: KedgeError | null = null;
  /** What should not be so, but does no harm to what is signed. */
  #warning: string | null = null;
  /** What was logged last, so that each thing is logged once. */
  #complaint: string | null = null;
  /** The look that is under way: those who come meanwhile share it. */
  #look: Promise<void> | null = null;

  constructor(options: DiskSourceOptions) {
    this.#options = options;
  }

  /** Grows with each new material. */
  get generation(): number {
    return this.#generation;
  }

  /**
   * What to sign with: the newest files that were good. Reads them where none were yet, without waiting for a second
   * look. Throws why they are not good.
   */
  async material(): Promise<DiskMaterial> {
    if (this.#material === null) await this.#single(() => this.#first());
    if (this.#material !== null) return this.#material;
    throw this.#failure ?? new TypeError('the files were not looked at');
  }

  /** One look at the files. Bad ones do not make it reject. */
  async check(): Promise<void> {
    await this.#single(() => this.#next());
  }

  /** What is wrong while what the files held before still serves; null = nothing. */
  problem(): string | null {
    const failure = this.#failure;
    if (failure === null) return this.#warning;
    const { message, hint } = failure;
    const what = hint === undefined ? message : `${message} (${hint})`;
    return this.#material === null ? what : `new files were not taken: ${what}`;
  }

  async #single(look: () => Promise<void>): Promise<void> {
    this.#look ??= look().finally(() => {
      this.#look = null;
    });
    await this.#look;
  }

  async #first(): Promise<void> {
    const { settings } = this.#options;
    const fingerprint = await fingerprintOf(settings);
    this.#seen = fingerprint;
    await this.#judge(fingerprint);
  }

  async #next(): Promise<void> {
    const fingerprint = await fingerprintOf(this.#options.settings);
    const settled = fingerprint === this.#seen;
    this.#seen = fingerprint;
    if (settled && fingerprint !== this.#judged) await this.#judge(fingerprint);
  }

  async #judge(fingerprint: string): Promise<void> {
    const { settings, trustDomain, clock } = this.#options;
    try {
      const files = await readDiskFiles(settings);
      // Replaced while they were read: what was read may be of two generations.
      if ((await fingerprintOf(settings)) !== fingerprint) {
        this.#judged = null;
        if (this.#material !== null) return;
        throw new KedgeError('disk_file_invalid', 'the files changed while they were read', {
          hint: 'they are read again in a moment',
        });
      }
      const material = readMaterial(files, settings.mode, trustDomain, clock.now());
      this.#judged = fingerprint;
      this.#take(material, files);
    } catch (error) {
      if (!isKedgeError(error)) throw error;
      // What time alone can mend is judged again at each look.
      this.#judged = error.code === 'disk_certificate_not_yet_valid' ? null : fingerprint;
      this.#refuse(error);
    }
  }

  #take(material: DiskMaterial, { key }: DiskFiles): void {
    const { settings, log } = this.#options;
    this.#material = material;
    this.#generation += 1;
    this.#failure = null;
    const [path] = material.paths;
    log.info('upstream_files.loaded', {
      certificateFile: settings.certificateFile,
      mode: settings.mode,
      notAfterMs: path[0].notAfterMs,
    });
    this.#complaint = null;
    const isOpen = (key.mode & 0o007) !== 0;
    const mode = key.mode.toString(8).padStart(4, '0');
    this.#warning = isOpen
      ? `the private key ${settings.keyFile} is open to every user of the machine (mode ${mode}): chmod 600 it; in Kubernetes set defaultMode: 0400`
      : null;
    if (isOpen) log.warn('upstream_files.key_exposed', { keyFile: settings.keyFile, mode });
  }

  #refuse(error: KedgeError): void {
    this.#failure = error;
    const complaint = error.message;
    if (complaint === this.#complaint) return;
    this.#complaint = complaint;
    this.#options.log.error('upstream_files.refused', {
      certificateFile: this.#options.settings.certificateFile,
      serving: this.#material !== null,
      error: errorFields(error),
    });
  }
}
