/**
 * Builds dist/: `kedge.mjs`, the whole command line, and `kedge-agent.mjs`, the agent as one lean file.
 *
 * `node scripts/build.ts [folder]`. The same source and lockfile give the same bytes. Beside the code lie its source
 * maps and the license notices of what went into it. Nothing is minified: who runs Kedge may read it.
 *
 * The whole command line is cut into pieces, below `kedge/`, so that a command reads only what it needs: that halves
 * the start of the small ones. The agent needs nearly all of its file anyway, and one file is easier to carry.
 */
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { build, type BuildOptions } from 'esbuild';
import { builtinsLate, unreachable } from './bundle-plugins.ts';
import { noticesComment, noticesOf, noticesText } from './license-notices.ts';

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
  plugins: [builtinsLate, unreachable],
  logLevel: 'warning',
} as const satisfies BuildOptions;

/** `kedge.mjs`, which checks the Node and loads the rest from `kedge/`. */
async function buildCommandLine(out: string): Promise<void> {
  const start = `${SHEBANG}\n${VERSION_CHECK}\nawait import('./kedge/main.mjs');\n`;
  await bundle(out, 'kedge', 'cli/main.ts', {
    entryNames: 'main',
    outdir: join(DIST, 'kedge'),
    outExtension: { '.js': '.mjs' },
    chunkNames: 'piece-[hash]',
    splitting: true,
  });
  writeFileSync(join(out, 'kedge.mjs'), start, { mode: 0o755 });
}

/** `kedge-agent.mjs`, which is all there is of it. */
async function buildAgent(out: string): Promise<void> {
  await bundle(out, 'kedge-agent', 'cli/agent-main.ts', {
    outfile: join(DIST, 'kedge-agent.mjs'),
    banner: { js: `${SHEBANG}\n${VERSION_CHECK}` },
  });
}

/** Built as if for dist/, wherever it goes then: source maps and hashes hold paths from there. */
async function bundle(out: string, name: string, entry: string, options: BuildOptions): Promise<void> {
  const { metafile, outputFiles } = await build({ ...options, ...COMMON, entryPoints: [entry] });
  const notices = noticesOf(metafile, ROOT);
  let bytes = 0;
  for (const file of outputFiles) {
    const isCode = file.path.endsWith('.mjs');
    // At the end, where it moves no line of the source map.
    const ending =
      metafile.outputs[relative(ROOT, file.path)]?.entryPoint === entry
        ? noticesComment(notices, `${name}.licenses.txt`)
        : '';
    const path = join(out, relative(DIST, file.path));
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, file.text + ending, { mode: isCode ? 0o755 : 0o644 });
    if (isCode) bytes += file.contents.length;
  }
  writeFileSync(join(out, `${name}.licenses.txt`), noticesText(notices));
  console.log(`${name}: ${Math.round(bytes / 1024)} KiB of code, ${notices.length} packages`);
}

const out = resolve(process.argv[2] ?? DIST);
if (out === DIST && existsSync(out)) rmSync(out, { recursive: true });
mkdirSync(out, { recursive: true });
await buildCommandLine(out);
await buildAgent(out);
