/**
 * Builds dist/: `kedge.mjs`, the whole command line, and `kedge-agent.mjs`, the agent as one lean file.
 *
 * `node scripts/build.ts [folder]`. The same source and lockfile give the same bytes. Beside the code lie its source
 * maps and the license notices of what went into it. Nothing is minified: who runs Kedge may read it.
 *
 * No code splitting: esbuild does not keep the order in which modules with side effects run, and one of ours needs
 * a polyfill to be there before it. One library is left out of `kedge.mjs` by hand instead.
 */
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { build, type BuildOptions } from 'esbuild';
import { apart, builtinsLate, type PartApart, unreachable } from './bundle-plugins.ts';
import { noticesComment, noticesOf, noticesText, type PackageNotice } from './license-notices.ts';

const ROOT = join(import.meta.dirname, '..');
const DIST = join(ROOT, 'dist');
const NODE_MAJOR = 24;

/**
 * The Node version check. A module's imports are linked before its first line runs, so the check only speaks because
 * nothing is imported from Node (see `builtinsLate`), and because all of it is in syntax that Node 18 reads.
 */
const VERSION_CHECK = `if (Number(process.versions.node.split('.')[0]) < ${NODE_MAJOR}) {
  process.stderr.write('error: kedge needs Node ${NODE_MAJOR} or newer, this is Node ' + process.versions.node + '\\n');
  process.exit(2);
}`;
const SHEBANG = '#!/usr/bin/env node';

const COMMON = {
  absWorkingDir: ROOT,
  bundle: true,
  write: false,
  metafile: true,
  platform: 'node',
  format: 'esm',
  target: 'node18',
  conditions: ['node'],
  mainFields: ['module', 'main'],
  sourcemap: 'external',
  sourcesContent: false,
  legalComments: 'inline',
  logLevel: 'warning',
} as const satisfies BuildOptions;

const PLUGINS = [builtinsLate, unreachable];

/** A third of all code, for the rare moments when an authority is made, and for inspection. */
const X509_LIBRARY: PartApart = { entry: 'pki/x509-library.ts', file: './kedge/x509-library.mjs' };

/** `kedge.mjs`, and the library that it loads when it is used. */
async function buildCommandLine(out: string): Promise<void> {
  const program = await bundle(out, 'cli/main.ts', {
    outfile: join(DIST, 'kedge.mjs'),
    banner: { js: `${SHEBANG}\n${VERSION_CHECK}` },
    plugins: [apart(X509_LIBRARY, ROOT), ...PLUGINS],
  });
  const library = await bundle(out, X509_LIBRARY.entry, {
    outfile: join(DIST, X509_LIBRARY.file),
    plugins: PLUGINS,
  });
  writeNotices(out, 'kedge', [...program, ...library]);
}

/** `kedge-agent.mjs`, which is all there is of it. */
async function buildAgent(out: string): Promise<void> {
  const notices = await bundle(out, 'cli/agent-main.ts', {
    outfile: join(DIST, 'kedge-agent.mjs'),
    banner: { js: `${SHEBANG}\n${VERSION_CHECK}` },
    plugins: PLUGINS,
  });
  writeNotices(out, 'kedge-agent', notices);
}

/** Built as if for dist/, wherever it goes then: source maps hold paths from there. Gives what is in it of others. */
async function bundle(out: string, entry: string, options: BuildOptions): Promise<PackageNotice[]> {
  const { metafile, outputFiles } = await build({ ...options, ...COMMON, entryPoints: [entry] });
  const notices = noticesOf(metafile, ROOT);
  for (const file of outputFiles) {
    const isCode = file.path.endsWith('.mjs');
    const path = join(out, relative(DIST, file.path));
    mkdirSync(dirname(path), { recursive: true });
    // At the end, where it moves no line of the source map.
    const ending = isCode ? noticesComment(notices) : '';
    writeFileSync(path, file.text + ending, { mode: isCode ? 0o755 : 0o644 });
    if (isCode) console.log(`${relative(DIST, file.path)}: ${Math.round(file.contents.length / 1024)} KiB`);
  }
  return notices;
}

function writeNotices(out: string, name: string, notices: readonly PackageNotice[]): void {
  const unique = new Map(notices.map((notice) => [`${notice.name} ${notice.version}`, notice]));
  const sorted = [...unique].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, notice]) => notice);
  writeFileSync(join(out, `${name}.licenses.txt`), noticesText(sorted));
}

const out = resolve(process.argv[2] ?? DIST);
if (out === DIST && existsSync(out)) rmSync(out, { recursive: true });
mkdirSync(out, { recursive: true });
await buildCommandLine(out);
await buildAgent(out);
