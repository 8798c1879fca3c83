/**
 * Builds dist/: `kedge.mjs`, the whole command line, and `kedge-agent.mjs`, the lean agent. Each is a few lines that
 * load its program from the folder of the same name: `program.cjs`, one file with all of its code, and
 * `program.cache`, the same compiled, without which the program only starts slower.
 *
 * `node scripts/build.ts [folder]`. The same source, lockfile and machine give the same bytes. Beside the code lie its
 * source maps and the license notices of what went into it. Nothing is minified: who runs Kedge may read it.
 *
 * No code splitting: esbuild does not keep the order in which modules with side effects run, and one of ours needs
 * a polyfill to be there before it. One library is left out of the program of `kedge.mjs` by hand instead.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { build, type BuildOptions } from 'esbuild';
import { AGENT_NODE_OPTIONS } from '../host/node-options.ts';
import { apart, builtinsLate, noUnreadTimes, type PartApart, unreachable } from './bundle-plugins.ts';
import { noticesComment, noticesOf, noticesText, type PackageNotice } from './license-notices.ts';

const ROOT = join(import.meta.dirname, '..');
const DIST = join(ROOT, 'dist');
const NODE_MAJOR = 24;

/**
 * The Node version check. A module's imports are linked before its first line runs, so the check only speaks because
 * nothing is imported from Node (see `builtinsLate`), and because all of the file is in syntax that Node 18 reads.
 */
const VERSION_CHECK = `if (Number(process.versions.node.split('.')[0]) < ${NODE_MAJOR}) {
  process.stderr.write('error: kedge needs Node ${NODE_MAJOR} or newer, this is Node ' + process.versions.node + '\\n');
  process.exit(2);
}`;
/** The first line of a program that is run by its name. */
function shebangOf(nodeOptions: readonly string[]): string {
  return nodeOptions.length === 0 ? '#!/usr/bin/env node' : `#!/usr/bin/env -S node ${nodeOptions.join(' ')}`;
}

const COMMON = {
  absWorkingDir: ROOT,
  bundle: true,
  write: false,
  metafile: true,
  platform: 'node',
  conditions: ['node'],
  mainFields: ['module', 'main'],
  // One byte a character, in the file and in memory.
  charset: 'ascii',
  sourcemap: 'external',
  sourcesContent: false,
  legalComments: 'inline',
  logLevel: 'warning',
} as const satisfies BuildOptions;

/** The few lines that a user starts. */
const LAUNCHER = {
  format: 'esm',
  target: 'node18',
  plugins: [builtinsLate],
} as const satisfies BuildOptions;

/** What `startProgram` loads: one expression, a function. */
const PROGRAM = {
  format: 'cjs',
  target: `node${NODE_MAJOR}`,
  banner: { js: '(function (module, exports, require) {' },
  footer: { js: '})' },
} as const satisfies BuildOptions;

/** A third of all code, for the rare moments when an authority is made, and for inspection. */
const X509_LIBRARY: PartApart = { entry: 'pki/x509-library.ts', name: 'x509-library' };

/** The client of Vault with the 40 packages beneath it, for a CA that has its root there. */
const VAULT_LIBRARY: PartApart = { entry: 'ca/upstream/vault/vault-library.ts', name: 'vault-library' };

interface Program {
  readonly name: string;
  readonly entry: string;
  readonly parts: readonly PartApart[];
  readonly nodeOptions: readonly string[];
}

const PROGRAMS: readonly Program[] = [
  { name: 'kedge', entry: 'cli/main.ts', parts: [X509_LIBRARY, VAULT_LIBRARY], nodeOptions: [] },
  { name: 'kedge-agent', entry: 'cli/agent-main.ts', parts: [], nodeOptions: AGENT_NODE_OPTIONS },
];

/** A launcher, its program, and the parts that the program loads when they are used. */
async function buildProgram(out: string, { name, entry, parts, nodeOptions }: Program): Promise<void> {
  const notices = [
    ...(await bundle(out, {
      ...LAUNCHER,
      banner: { js: `${shebangOf(nodeOptions)}\n${VERSION_CHECK}` },
      stdin: { contents: launcherOf(name), resolveDir: ROOT, sourcefile: `${name}.ts`, loader: 'ts' },
      outfile: join(DIST, `${name}.mjs`),
    })),
    ...(await bundle(out, {
      ...PROGRAM,
      entryPoints: [entry],
      outfile: join(DIST, name, 'program.cjs'),
      plugins: [...parts.map((part) => apart(part, ROOT)), builtinsLate, unreachable, noUnreadTimes],
    })),
  ];
  for (const part of parts) {
    notices.push(
      ...(await bundle(out, {
        ...PROGRAM,
        entryPoints: [part.entry],
        outfile: join(DIST, name, `${part.name}.cjs`),
        plugins: [builtinsLate, unreachable],
      })),
    );
  }
  writeNotices(out, name, notices);
  for (const code of ['program', ...parts.map((part) => part.name)]) compile(join(out, name, code));
}

function launcherOf(name: string): string {
  return `import { fileURLToPath } from 'node:url';
import { startProgram } from './cli/program-start.ts';

startProgram(fileURLToPath(new URL('./${name}', import.meta.url)), 'program');
`;
}

/** Writes the code cache of a program, in a process of its own: see there. */
function compile(path: string): void {
  const script = join(ROOT, 'scripts/compile-program.ts');
  execFileSync(process.execPath, ['--random-seed=1', script, `${path}.cjs`, `${path}.cache`]);
}

/** Built as if for dist/, wherever it goes then: source maps hold paths from there. Gives what is in it of others. */
async function bundle(out: string, options: BuildOptions): Promise<PackageNotice[]> {
  const { metafile, outputFiles } = await build({ ...options, ...COMMON });
  const notices = noticesOf(metafile, ROOT);
  for (const file of outputFiles) {
    const path = join(out, relative(DIST, file.path));
    // Nobody else may write there, or the code caches in it are not taken.
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    const isCode = !file.path.endsWith('.map');
    // At the end, where it moves no line of the source map.
    const ending = isCode ? noticesComment(notices) : '';
    const text = isCode ? escapeAll(file.text) : file.text;
    writeFileSync(path, text + ending, { mode: path.endsWith('.mjs') ? 0o755 : 0o644 });
    if (isCode) console.log(`${relative(DIST, file.path)}: ${Math.round(file.contents.length / 1024)} KiB`);
  }
  return notices;
}

/** Escapes what esbuild leaves as it is in spite of `charset`: characters in comments. */
function escapeAll(text: string): string {
  return text.replace(/[\u0080-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

function writeNotices(out: string, name: string, notices: readonly PackageNotice[]): void {
  const unique = new Map(notices.map((notice) => [`${notice.name} ${notice.version}`, notice]));
  const sorted = [...unique].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, notice]) => notice);
  writeFileSync(join(out, `${name}.licenses.txt`), noticesText(sorted));
}

const out = resolve(process.argv[2] ?? DIST);
if (out === DIST && existsSync(out)) rmSync(out, { recursive: true });
mkdirSync(out, { recursive: true });
for (const program of PROGRAMS) await buildProgram(out, program);
