/**
 * Unpacks the real servers of the system tests from Debian's packages, without root: `npm run peers`.
 *
 * Nothing is installed: each package is downloaded by apt and unpacked below `peerFolder()`, so no service starts
 * and no maintainer script runs. What is on PATH already is left alone. A machine without apt says so and exits 0:
 * the tests that want the peer then report themselves as skipped. With CI=true a missing peer is an error.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { DebianPackages } from './debian-packages.ts';
import { isExecutable } from './executable.ts';
import { buildHaproxy } from './haproxy-build.ts';
import { findPeer, newerHaproxy, PEERS, peerFolder } from './peer-folder.ts';

const inCi = process.env['CI'] === 'true';
const folder = peerFolder();
mkdirSync(folder, { recursive: true });
const packages = new DebianPackages(join(folder, 'apt'));

let missing = 0;
for (const { name, debianPackages } of PEERS) {
  if (findPeer(name) !== null) {
    console.log(`${name}: found`);
    continue;
  }
  try {
    // The program last: once it is there, all that it needs is.
    for (const debianPackage of debianPackages.toReversed())
      packages.unpack(debianPackage, join(folder, debianPackage));
    console.log(`${name}: unpacked from Debian's packages ${debianPackages.join(', ')}`);
  } catch (error) {
    missing += 1;
    const why = error instanceof Error ? error.message.split('\n')[0] : 'unknown';
    console.log(`${name}: not to be had here (${why}); its tests will be skipped`);
  }
}
if (isExecutable(newerHaproxy())) console.log('haproxy of a newer series: found');
else {
  try {
    buildHaproxy(newerHaproxy());
    console.log("haproxy of a newer series: built from Debian's sources");
  } catch (error) {
    missing += 1;
    const why = error instanceof Error ? error.message.split('\n')[0] : 'unknown';
    console.log(`haproxy of a newer series: not to be had here (${why}); its tests will be skipped`);
  }
}
process.exit(inCi && missing > 0 ? 1 : 0);
