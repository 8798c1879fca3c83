import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';

/** A folder for a whole suite, removed when that ends. Its path is short, so that Unix sockets fit in it. */
export function suiteFolder(): string {
  const path = mkdtempSync(join(tmpdir(), 'kedge-'));
  after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}
