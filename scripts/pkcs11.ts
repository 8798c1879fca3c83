/**
 * Builds the package pkcs11js, through which Kedge talks to PKCS#11 tokens, from its source in node_modules:
 * `npm run pkcs11`. It needs a C++ compiler, make and Python, and nothing from the network: the headers are those of
 * the pinned Node, and the interface that the package is written to (Node-API) does not change between versions.
 *
 * `npm ci` does not build it: most machines have no token. A machine without a compiler says so and exits 0, unless
 * CI=true: the tests that want it then report themselves as skipped.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, globSync } from 'node:fs';
import { dirname, join } from 'node:path';

const ROOT = join(import.meta.dirname, '..');
const PACKAGE = join(ROOT, 'node_modules/pkcs11js');
const HEADERS = ['node_modules/node/node_modules/node-*', 'node_modules/node'].flatMap((folder) =>
  globSync(folder, { cwd: ROOT }).map((found) => join(ROOT, found)),
);

function fail(why: string): never {
  console.error(`pkcs11js: not built (${why}); the tests of PKCS#11 tokens will be skipped`);
  process.exit(process.env['CI'] === 'true' ? 1 : 0);
}

if (!existsSync(PACKAGE)) fail('it is not installed: npm ci without --omit=optional');
const npm = process.env['npm_execpath'];
if (npm === undefined) fail('run it by npm: npm run pkcs11');
const gyp = join(dirname(npm), '../node_modules/node-gyp/bin/node-gyp.js');
if (!existsSync(gyp)) fail('this npm has no node-gyp');
const nodeFolder = [...HEADERS, '/usr', '/usr/local'].find((folder) =>
  existsSync(join(folder, 'include/node/node_api.h')),
);
if (nodeFolder === undefined) fail('there are no headers of Node: npm ci brings them');
const run = spawnSync(process.execPath, [gyp, 'rebuild', `--nodedir=${nodeFolder}`, '--silent'], {
  cwd: PACKAGE,
  encoding: 'utf8',
});
if (run.status !== 0) {
  fail(`${run.stderr.trim().split('\n').slice(-3).join(' ')}: a C++ compiler, make and Python are needed`);
}
console.log('pkcs11js: built');
