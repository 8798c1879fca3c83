import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './kedge-process.ts';

/** The folder that the examples of docs/feeds.md write to, and the port that they listen on. */
const DOCUMENT_FOLDER = '/run/kedge/tls';
const DOCUMENT_PORT = '127.0.0.1:8443';

/** docs/feeds.md. */
export function feedsDocument(): string {
  return readFileSync(join(ROOT, 'docs/feeds.md'), 'utf8');
}

/**
 * The configuration that docs/feeds.md shows for a server, as the document has it but for where the files are and which
 * port is listened on: what the tests run is what users are told to write.
 */
export function documentedConfiguration(
  heading: string,
  language: string,
  here: { readonly files: string; readonly port: number },
): string {
  const [, section] = feedsDocument().split(`\n### ${heading}\n`);
  const block = new RegExp(`\n\`\`\`${language}\n([\\s\\S]*?)\`\`\`\n`).exec(
    section?.split('\n### ')[0] ?? '',
  )?.[1];
  assert.ok(block !== undefined, `docs/feeds.md has no ${language} under ${heading}`);
  return block.replaceAll(DOCUMENT_FOLDER, here.files).replaceAll(DOCUMENT_PORT, `127.0.0.1:${here.port}`);
}
