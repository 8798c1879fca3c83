/**
 * Builds dist/: `kedge.mjs`, the whole command line, and `kedge-agent.mjs`, the agent as one lean file.
 *
 * `node scripts/build.ts [folder]`. The same source and lockfile give the same bytes. Beside each bundle lie its
 * source map and the license notices of what went into it. Nothing is minified: who runs Kedge may read it.
 */
import { existsSync, globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { basename, join, relative, resolve } from 'node:path';
import { build as bundleWith, type Metafile, type Plugin } from 'esbuild';

const ROOT = join(import.meta.dirname, '..');
const NODE_MAJOR = 24;

const BUNDLES = [
  { name: 'kedge', entry: 'cli/main.ts' },
  { name: 'kedge-agent', entry: 'cli/agent-main.ts' },
] as const;

/**
 * The Node version check, first in each bundle. A module's imports are linked before its first line runs, so the
 * check only speaks because a bundle imports nothing (see `builtinsLate`) and is in syntax that Node 18 reads.
 */
const VERSION_CHECK = `if (Number(process.versions.node.split('.')[0]) < ${NODE_MAJOR}) {
  process.stderr.write('error: kedge needs Node ${NODE_MAJOR} or newer, this is Node ' + process.versions.node + '\\n');
  process.exit(2);
}`;

/** Modules of Node that a package requires at its start and uses on paths that Kedge seldom or never takes. */
const SELDOM_USED = new Set(['zlib', 'dns']);

/**
 * Takes Node's own modules from the running Node instead of by import: only the names that are used, since to look
 * at all names of a module, as bundlers do, loads what hides behind them; and the seldom used when they are used.
 * Both are a matter of start-up time.
 */
const builtinsLate: Plugin = {
  name: 'builtins-late',
  setup(build) {
    const builtins = new RegExp(`^(node:.*|${builtinModules.join('|')})$`);
    build.onResolve({ filter: builtins }, ({ path, kind }) => ({
      path: path.replace(/^node:(?!test$|sqlite$|sea$)/, ''),
      namespace: kind === 'require-call' ? 'builtin-required' : 'builtin-imported',
      sideEffects: false,
    }));
    build.onLoad({ filter: /.*/, namespace: 'builtin-required' }, ({ path }) => ({
      contents: requiredBuiltin(path),
    }));
    build.onLoad({ filter: /.*/, namespace: 'builtin-imported' }, async ({ path }) => ({
      contents: importedBuiltin(path, Object.keys((await import(path)) as object)),
    }));
  },
};

function requiredBuiltin(path: string): string {
  const taken = `process.getBuiltinModule(${JSON.stringify(path)})`;
  if (!SELDOM_USED.has(path)) return `module.exports = ${taken};`;
  return `let taken; module.exports = new Proxy({}, { get: (_, name) => (taken ??= ${taken})[name] });`;
}

function importedBuiltin(path: string, names: readonly string[]): string {
  return [
    `const taken = /* @__PURE__ */ process.getBuiltinModule(${JSON.stringify(path)});`,
    'export default taken;',
    ...names
      .filter((name) => /^[A-Za-z_$][\w$]*$/.test(name) && name !== 'default')
      .map((name) => `export const ${name} = /* @__PURE__ */ ((name) => taken[name])('${name}');`),
  ].join('\n');
}

/** What no path of Kedge reaches: grpc-js loads its .proto reader for channelz, which Kedge does not serve. */
const unreachable: Plugin = {
  name: 'unreachable',
  setup(build) {
    build.onResolve({ filter: /^@grpc\/proto-loader$/ }, ({ path }) => ({ path, namespace: 'unreachable' }));
    build.onLoad({ filter: /.*/, namespace: 'unreachable' }, ({ path }) => ({
      contents: `throw new Error(${JSON.stringify(`${path} is not part of this bundle`)});`,
      loader: 'js',
    }));
  },
};

interface PackageNotice {
  readonly name: string;
  readonly version: string;
  readonly license: string;
  readonly texts: readonly string[];
}

/** The packages of npm that went into a bundle, sorted by name. */
function noticesOf(metafile: Metafile): PackageNotice[] {
  const folders = Object.keys(metafile.inputs).flatMap(
    (path) => /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(path)?.[0] ?? [],
  );
  return [...new Set(folders)].sort().map((folder) => {
    const { name, version, license } = JSON.parse(
      readFileSync(join(ROOT, folder, 'package.json'), 'utf8'),
    ) as PackageNotice;
    const files = globSync('{LICENSE,LICENCE,NOTICE,license}*', { cwd: join(ROOT, folder) }).sort();
    return {
      name,
      version,
      license,
      texts: files.map((file) => readFileSync(join(ROOT, folder, file), 'utf8')),
    };
  });
}

async function bundle(name: string, entry: string, out: string): Promise<void> {
  // Named as if it went to dist/, wherever it goes: source maps hold paths from there.
  const outfile = join(ROOT, 'dist', `${name}.mjs`);
  const result = await bundleWith({
    absWorkingDir: ROOT,
    entryPoints: [entry],
    outfile,
    bundle: true,
    write: false,
    metafile: true,
    platform: 'node',
    format: 'esm',
    target: 'node18',
    mainFields: ['module', 'main'],
    conditions: ['node'],
    sourcemap: 'external',
    sourcesContent: false,
    legalComments: 'inline',
    banner: { js: `#!/usr/bin/env node\n${VERSION_CHECK}` },
    plugins: [builtinsLate, unreachable],
    logLevel: 'warning',
  });
  const notices = noticesOf(result.metafile);
  const listed = notices.map((notice) => `// - ${notice.name} ${notice.version} (${notice.license})`);
  for (const file of result.outputFiles) {
    const isCode = file.path.endsWith('.mjs');
    // At the end, where it moves no line of the source map.
    const ending = isCode
      ? `// With, under their own licenses (${name}.licenses.txt):\n${listed.join('\n')}\n`
      : '';
    writeFileSync(join(out, basename(file.path)), file.text + ending, { mode: isCode ? 0o755 : 0o644 });
  }
  writeFileSync(
    join(out, `${name}.licenses.txt`),
    notices
      .map((notice) => [`${notice.name} ${notice.version} (${notice.license})`, ...notice.texts].join('\n\n'))
      .join(`\n\n${'-'.repeat(80)}\n\n`),
  );
  const size = result.outputFiles.find(({ path }) => path === outfile)?.contents.length ?? 0;
  console.log(
    `${relative(process.cwd(), join(out, `${name}.mjs`))}  ${Math.round(size / 1024)} KiB, ${notices.length} packages`,
  );
}

const out = resolve(process.argv[2] ?? join(ROOT, 'dist'));
if (out === join(ROOT, 'dist') && existsSync(out)) rmSync(out, { recursive: true });
mkdirSync(out, { recursive: true });
for (const { name, entry } of BUNDLES) await bundle(name, entry, out);
