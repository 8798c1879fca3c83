import { join } from 'node:path';
import { compileProgram } from '../host/code-cache.ts';

/** What the build makes of a program, or of a part of one: a function, in parentheses. */
type Program = (module: { exports: unknown }, exports: unknown, require: (part: string) => unknown) => void;

/**
 * Runs a program of `npm run build`, and gives what it exports. `folder` holds `<name>.cjs`, its compiled form
 * `<name>.cache`, and the parts that it loads, by their names, when it first uses them.
 */
export function startProgram(folder: string, name: string): unknown {
  const file = join(folder, `${name}.cjs`);
  const cacheFile = join(folder, `${name}.cache`);
  const { script } = compileProgram({ file, cacheFile, uid: process.geteuid?.() });
  const program = script.runInThisContext() as Program;
  const module = { exports: {} };
  program(module, module.exports, (part) => startProgram(folder, part));
  return module.exports;
}
