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
    ...names
      .filter((name) => /^[A-Za-z_$][\w$]*$/.test(name) && name !== 'default')
      .map((name) => `export const ${name} = /* @__PURE__ */ ((name) => taken[name])('${name}');`),
  ].join('\n');
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
