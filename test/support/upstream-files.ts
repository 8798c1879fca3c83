import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { KeyObject } from 'node:crypto';
import type { DiskMode, DiskSettings } from '../../ca/upstream/disk/disk-settings.ts';
import { encodePem } from '../../pki/pem.ts';
import { type Deviation, ext, makeAnchor, makeIssuer, type TestCa } from './certificates.ts';

export const POLL_MS = 2_000;

/** PEM of certificates, in the order given. */
export function pemOf(...cas: readonly TestCa[]): string {
  return cas.map(({ der }) => encodePem('CERTIFICATE', der)).join('');
}

/** A private key as PKCS#8 in the clear. */
export function keyPem(key: KeyObject): string {
  return key.export({ format: 'pem', type: 'pkcs8' }) as string;
}

/** A root of others, without a SPIFFE ID, and an intermediate CA below it that may sign Kedge's issuers. */
export async function makeHierarchy(deviation: { root?: Deviation; intermediate?: Deviation } = {}) {
  const root = await makeAnchor({
    ...deviation.root,
    extensions: { san: null, ...deviation.root?.extensions },
  });
  const intermediate = await makeIssuer(root, {
    ...deviation.intermediate,
    extensions: {
      san: null,
      basicConstraints: ext.basicConstraints(true, 1),
      ...deviation.intermediate?.extensions,
    },
  });
  return { root, intermediate };
}

/** The files of a disk upstream in a folder: `tls.crt`, `tls.key`. */
export class UpstreamFiles {
  readonly settings: DiskSettings;
  readonly #folder: string;
  #swaps = 0;

  constructor(folder: string, settings: Partial<DiskSettings> & { readonly mode?: DiskMode } = {}) {
    this.#folder = folder;
    this.settings = {
      mode: 'intermediate',
      certificateFile: join(folder, 'tls.crt'),
      keyFile: join(folder, 'tls.key'),
      passphraseFile: null,
      anchorsFile: null,
      pollMs: POLL_MS,
      ...settings,
    };
  }

  path(name: string): string {
    return join(this.#folder, name);
  }

  /** Writes files in place, each readable by the owner alone. */
  write(files: Readonly<Record<string, string | Uint8Array>>): void {
    for (const [name, content] of Object.entries(files)) {
      rmSync(this.path(name), { force: true });
      writeFileSync(this.path(name), content, { mode: 0o600 });
    }
  }

  /** Writes the pair of one CA, with what leads to its root. */
  writePair(ca: TestCa, ...above: readonly TestCa[]): void {
    this.write({ 'tls.crt': pemOf(ca, ...above), 'tls.key': keyPem(ca.signer.privateKey) });
  }

  /** Replaces all files at once, as the kubelet does: a new folder behind the link `..data`. */
  swap(files: Readonly<Record<string, string>>): void {
    this.#swaps += 1;
    const generation = `..${this.#swaps}`;
    mkdirSync(this.path(generation));
    for (const [name, content] of Object.entries(files)) {
      writeFileSync(join(this.path(generation), name), content, { mode: 0o600 });
      if (this.#swaps === 1) symlinkSync(join('..data', name), this.path(name));
    }
    symlinkSync(generation, this.path('..data_tmp'));
    renameSync(this.path('..data_tmp'), this.path('..data'));
  }
}
