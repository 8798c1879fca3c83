/**
 * Writes the code cache of a program: `node --random-seed=1 scripts/compile-program.ts <program> <cache file>`, one
 * process for each, so that the same program gives the same bytes. The seed is the one flag of V8 that a cache does
 * not ask about when it is read.
 *
 * Every function is compiled, not those that a start happens to run: which these are would depend on the machine.
 */
import { isAscii } from 'node:buffer';
import { readFileSync, writeFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { Script } from 'node:vm';
import { sealCodeCache } from '../host/code-cache.ts';

const [program, cacheFile] = process.argv.slice(2);
if (program === undefined || cacheFile === undefined) throw new TypeError('give a program and a cache file');
const text = readFileSync(program);
if (!isAscii(text)) throw new TypeError(`${program} is not ASCII alone`);
// The flags count when the cache is made: by then they must be those of a plain start again.
setFlagsFromString('--no-lazy');
const script = new Script(text.toString('latin1'));
setFlagsFromString('--lazy');
writeFileSync(cacheFile, sealCodeCache(text, script.createCachedData()), { mode: 0o644 });
