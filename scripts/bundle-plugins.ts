import { readFile } from 'node:fs/promises';
import { builtinModules } from 'node:module';
import type { Plugin } from 'esbuild';

/** Modules of Node that a package requires at its start and uses on paths that Kedge seldom or never takes. */
const SELDOM_USED = new Set(['zlib', 'dns']);

/**
 * Takes Node's own modules from the running Node instead of by import: only the names that are used, since to look
 * at all names of a module, as bundlers do, loads what hides behind them; and the seldom used when they are used.
 * Both are a matter of start-up time.
 */
export const builtinsLate: Plugin = {
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
    ...exportsOf('taken', names),
  ].join('\n');
}

/** Exports of the members of `object`, written so that the bundler drops those that nobody imports. */
function exportsOf(object: string, names: readonly string[]): string[] {
  return names
    .filter((name) => /^[A-Za-z_$][\w$]*$/.test(name) && name !== 'default')
    .map((name) => `export const ${name} = /* @__PURE__ */ ((name) => ${object}[name])('${name}');`);
}

/** What no path of Kedge reaches: grpc-js loads its .proto reader for channelz, which Kedge does not serve. */
export const unreachable: Plugin = {
  name: 'unreachable',
  setup(build) {
    build.onResolve({ filter: /^@grpc\/proto-loader$/ }, ({ path }) => ({ path, namespace: 'unreachable' }));
    build.onLoad({ filter: /.*/, namespace: 'unreachable' }, ({ path }) => ({
      contents: `throw new Error(${JSON.stringify(`${path} is not part of this bundle`)});`,
      loader: 'js',
    }));
  },
};

/** Where grpc-js has a time written out that nobody reads: a header of each answer, and a trace that is off. */
const UNREAD_TIMES: readonly (readonly [file: RegExp, code: string, instead: string])[] = [
  [
    /grpc-js.build.src.server-interceptors\.js$/,
    'waitForTrailers: true,',
    'waitForTrailers: true, sendDate: false,',
  ],
  [
    /grpc-js.build.src.(load-balancing|retrying)-call\.js$/,
    'new Date(this.startTime).toISOString()',
    'this.startTime',
  ],
];

/**
 * Leaves out what makes ICU keep tables of time zones, see `isoTime`. Throws where the code is not as it was in the
 * version that this was written for.
 */
export const noUnreadTimes: Plugin = {
  name: 'no-unread-times',
  setup(build) {
    for (const [filter, code, instead] of UNREAD_TIMES) {
      build.onLoad({ filter }, async ({ path }) => {
        const parts = (await readFile(path, 'utf8')).split(code);
        if (parts.length !== 2) throw new Error(`${path} holds ${code} ${parts.length - 1} times`);
        return { contents: parts.join(instead), loader: 'js' };
      });
    }
  },
};

/** A module that goes into a file of its own. */
export interface PartApart {
  /** From the root of the repository. */
  readonly entry: string;
  /** As the program asks for it. */
  readonly name: string;
}

/**
 * Leaves a module out of a bundle, with all that it imports, to be loaded from its own file when it is first used: a
 * program is read whole before it runs, and what few of its commands need would cost all of them.
 *
 * The part must hold nothing of which there may be only one: what it shares with the program is there twice.
 */
export function apart(part: PartApart, root: string): Plugin {
  const source = `${root}/${part.entry}`;
  return {
    name: `apart-${part.name}`,
    setup(build) {
      const file = part.entry.slice(part.entry.lastIndexOf('/') + 1).replaceAll('.', '\\.');
      const namespace = `apart-${part.name}`;
      build.onResolve({ filter: new RegExp(`/${file}$`) }, () => ({ path: part.entry, namespace }));
      build.onResolve({ filter: /.*/, namespace }, ({ path }) => ({ path, external: true }));
      build.onLoad({ filter: /.*/, namespace }, async () => ({
        contents: [
          `import * as part from ${JSON.stringify(part.name)};`,
          ...exportsOf('part', Object.keys((await import(source)) as object)),
        ].join('\n'),
      }));
    },
  };
}
