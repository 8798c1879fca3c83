import { mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A Unix socket's path holds 107 bytes; what is below the demo's folder takes up to forty of them. */
const MAX_FOLDER_BYTES = 60;

/**
 * A fresh private folder (0700) for one run of the demo, so that any number of runs go side by side. Removed when
 * disposed of. Where the system's own temporary folder is too deep for sockets, it is made in /tmp.
 */
export function demoFolder(): Disposable & { readonly path: string } {
  const base = Buffer.byteLength(tmpdir()) > MAX_FOLDER_BYTES - 20 ? '/tmp' : tmpdir();
  const path = realpathSync(mkdtempSync(join(base, 'kedge-demo-')));
  return {
    path,
    [Symbol.dispose]() {
      rmSync(path, { recursive: true, force: true });
    },
  };
}

/**
 * Writes a `kedge` that looks at this run without any option: the Node of the demo, with the data folder of its CA.
 * Gives its path.
 */
export function writeShortcut(folder: string, dataFolder: string): string {
  const path = join(folder, 'kedge');
  const launcher = join(import.meta.dirname, '../bin/kedge.mjs');
  const line = `KEDGE_DATA=${quoted(dataFolder)} exec ${quoted(process.execPath)} ${quoted(launcher)} "$@"`;
  writeFileSync(path, `#!/bin/sh\n${line}\n`, { mode: 0o700 });
  return path;
}

/** A word of a shell command, taken as it is. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
