import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** The `openssl` command in a folder of its own, where file names without a path are. */
export class OpenSsl {
  readonly #folder = mkdtempSync(join(tmpdir(), 'kedge-openssl-'));

  /** Runs `openssl` with words that have no spaces; gives what it prints, throws when it fails. */
  run(words: string): string {
    const stdio: ['ignore', 'pipe', 'ignore'] = ['ignore', 'pipe', 'ignore'];
    return execFileSync('openssl', words.split(' '), { cwd: this.#folder, stdio }).toString();
  }

  write(name: string, content: string | Uint8Array): void {
    writeFileSync(join(this.#folder, name), content);
  }

  read(name: string): Uint8Array {
    return new Uint8Array(readFileSync(join(this.#folder, name)));
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
