import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { addonPath } from '../../ca/keys/pkcs11/token-thread.ts';
import { findPeer, peerEnvironment } from '../../scripts/peer-folder.ts';

export const PIN = '1234';

/** Why SoftHSM cannot be used on this machine; null when it can. */
export function softHsmMissing(): string | null {
  if (findPeer('softhsm2-util') === null) return 'no SoftHSM: npm run peers';
  if (modulePath() === null) return 'no libsofthsm2.so beside softhsm2-util';
  try {
    createRequire(import.meta.url)(addonPath());
  } catch {
    return 'pkcs11js is not built: npm run pkcs11';
  }
  return null;
}

/** The library, beside the program or where Debian installs it. */
function modulePath(): string | null {
  const program = findPeer('softhsm2-util');
  if (program === null) return null;
  const unpacked = join(dirname(program), '../../../libsofthsm2/usr/lib/softhsm/libsofthsm2.so');
  return [unpacked, '/usr/lib/softhsm/libsofthsm2.so'].find((path) => existsSync(path)) ?? null;
}

/**
 * SoftHSM with tokens in a folder. There is one per process: the library reads the environment when it starts, and
 * every thread of the process shares what it then holds.
 */
export class SoftHsm {
  readonly module: string;
  readonly #folder: string;

  constructor(folder: string) {
    const module = modulePath();
    if (module === null) throw new Error('no SoftHSM');
    this.module = module;
    this.#folder = folder;
    mkdirSync(this.#tokens);
    const config = join(folder, 'softhsm2.conf');
    writeFileSync(
      config,
      `directories.tokendir = ${this.#tokens}\nobjectstore.backend = file\nlog.level = ERROR\n`,
    );
    process.env['SOFTHSM2_CONF'] = config;
  }

  get #tokens(): string {
    return join(this.#folder, 'tokens');
  }

  /** Makes a token. The library sees it at its next start. */
  makeToken(label: string): void {
    const args = [
      '--init-token',
      '--free',
      '--label',
      label,
      '--pin',
      PIN,
      '--so-pin',
      PIN,
      '--module',
      this.module,
    ];
    execFileSync(findPeer('softhsm2-util') ?? '', args, {
      env: { ...process.env, ...peerEnvironment('softhsm2-util') },
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  }

  /** Takes all tokens out. */
  remove(): void {
    renameSync(this.#tokens, `${this.#tokens}-out`);
    mkdirSync(this.#tokens);
  }

  putBack(): void {
    renameSync(this.#tokens, `${this.#tokens}-empty-${process.hrtime.bigint()}`);
    renameSync(`${this.#tokens}-out`, this.#tokens);
  }
}
