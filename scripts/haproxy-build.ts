import { execFileSync } from 'node:child_process';
import { existsSync, globSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { DebianPackages, ofSuite } from './debian-packages.ts';

/** The Debian after the machine's: its HAProxy is of the 3.0 series, which takes CAs and CRLs at run time. */
const SUITE = 'trixie';

/**
 * Builds the HAProxy of a newer Debian with this machine's compiler and OpenSSL, as the program `into`: some two
 * minutes on two cores, once. Needs make, a C compiler and OpenSSL's headers. Throws where it cannot.
 */
export function buildHaproxy(into: string): void {
  const folder = dirname(into);
  mkdirSync(folder, { recursive: true });
  const staging = mkdtempSync(join(folder, 'build-'));
  try {
    const packages = new DebianPackages(join(folder, 'apt'), (list) => ofSuite(list, SUITE));
    packages.downloadOriginal('haproxy', staging);
    const [archive] = globSync('haproxy_*.orig.tar.*', { cwd: staging });
    if (archive === undefined) throw new Error('the source package has no archive');
    const tree = join(staging, 'tree');
    mkdirSync(tree);
    execFileSync('tar', ['-xf', join(staging, archive), '-C', tree, '--strip-components=1']);
    execFileSync(
      'make',
      [`-j${availableParallelism()}`, 'TARGET=linux-glibc', 'USE_OPENSSL=1', 'OPT_CFLAGS=-O1', 'haproxy'],
      { cwd: tree, stdio: ['ignore', 'ignore', 'ignore'] },
    );
    renameSync(join(tree, 'haproxy'), into);
  } finally {
    rmSync(staging, { recursive: true, force: true });
  }
  if (!existsSync(into)) throw new Error('the build left no program');
}
