/**
 * Unpacks the real servers of the system tests from Debian's packages, without root: `npm run peers`.
 *
 * Nothing is installed: each package is downloaded by apt and unpacked below `peerFolder()`, so no service starts
 * and no maintainer script runs. What is on PATH already is left alone. A machine without apt says so and exits 0:
 * the tests that want the peer then report themselves as skipped. With CI=true a missing peer is an error.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { findPeer, PEERS, peerFolder } from './peer-folder.ts';

const inCi = process.env['CI'] === 'true';
const folder = peerFolder();
mkdirSync(join(folder, 'apt/lists/partial'), { recursive: true });
mkdirSync(join(folder, 'apt/cache/archives/partial'), { recursive: true });

// apt's own state goes to our folder, so that neither root nor the machine's package lists are needed.
const apt = (args: readonly string[], cwd: string): void => {
  const options = [
    `Dir::State::Lists=${folder}/apt/lists`,
    `Dir::Cache=${folder}/apt/cache`,
    'APT::Sandbox::User=',
  ];
  execFileSync('apt-get', ['-qq', ...options.flatMap((o) => ['-o', o]), ...args], {
    cwd,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
};

let updated = false;
const unpack = (debianPackage: string): void => {
  const staging = mkdtempSync(join(folder, `${debianPackage}-`));
  try {
    if (!updated) apt(['update'], staging);
    updated = true;
    apt(['download', debianPackage], staging);
    const archive = readdirSync(staging).find((file) => file.endsWith('.deb'));
    if (archive === undefined) throw new Error('apt-get download left no package');
    execFileSync('dpkg-deb', ['-x', archive, 'root'], { cwd: staging });
    rmSync(join(folder, debianPackage), { recursive: true, force: true });
    renameSync(join(staging, 'root'), join(folder, debianPackage));
  } finally {
    rmSync(staging, { recursive: true, force: true });
  }
};

let missing = 0;
for (const { name, debianPackages } of PEERS) {
  if (findPeer(name) !== null) {
    console.log(`${name}: found`);
    continue;
  }
  try {
    // The program last: once it is there, all that it needs is.
    for (const debianPackage of debianPackages.toReversed()) unpack(debianPackage);
    console.log(`${name}: unpacked from Debian's packages ${debianPackages.join(', ')}`);
  } catch (error) {
    missing += 1;
    const why = error instanceof Error ? error.message.split('\n')[0] : 'unknown';
    console.log(`${name}: not to be had here (${why}); its tests will be skipped`);
  }
}
process.exit(inCi && missing > 0 ? 1 : 0);
