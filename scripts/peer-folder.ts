import { globSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { isExecutable } from './executable.ts';

/** A real program that tests run against. */
export interface Peer {
  readonly name: string;
  /** The Debian packages: the one that holds it, then those of shared libraries that a machine may lack. */
  readonly debianPackages: readonly [string, ...string[]];
  /** Where it lies in its package. */
  readonly path: string;
  /** Where else a machine may have it, beside PATH: absolute, as globs. */
  readonly places?: readonly string[];
}

/** The real servers of the system tests. */
export const PEERS: readonly Peer[] = [
  { name: 'nginx', debianPackages: ['nginx'], path: 'usr/sbin/nginx' },
  {
    name: 'haproxy',
    debianPackages: ['haproxy', 'liblua5.3-0', 'libopentracing-c-wrapper0', 'libopentracing1'],
    path: 'usr/sbin/haproxy',
  },
  // Checks the model of the rotation; needs a C compiler beside it.
  { name: 'spin', debianPackages: ['spin'], path: 'usr/bin/spin' },
  // Runs the containers of the cluster tests.
  { name: 'bwrap', debianPackages: ['bubblewrap', 'libcap2', 'libselinux1'], path: 'usr/bin/bwrap' },
  // Loaded by the tests, not run; what else is in its package makes tokens by hand.
  { name: 'softhsm2-util', debianPackages: ['softhsm2', 'libsofthsm2'], path: 'usr/bin/softhsm2-util' },
  { name: 'stunnel', debianPackages: ['stunnel4', 'libwrap0', 'libnsl2'], path: 'usr/bin/stunnel4' },
  {
    name: 'postgres',
    debianPackages: [
      ...([
        'postgresql-15',
        'libxml2',
        'libicu72',
        'libldap-2.5-0',
        'libsasl2-2',
        'libgssapi-krb5-2',
      ] as const),
      ...['libkrb5-3', 'libk5crypto3', 'libkrb5support0', 'libkeyutils1'],
    ],
    path: 'usr/lib/postgresql/15/bin/postgres',
    // Debian keeps the server off PATH.
    places: ['/usr/lib/postgresql/*/bin/postgres'],
  },
];

/** Where peers are unpacked: outside the tree, kept between runs. */
export function peerFolder(): string {
  return join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'kedge', 'peers');
}

/** Where `npm run peers` builds a HAProxy of a newer series than Debian 12's. */
export function newerHaproxy(): string {
  return join(peerFolder(), 'haproxy-newer', 'haproxy');
}

/** The path of a peer, on PATH, where a machine may have it, or in the peer folder; null when there is none. */
export function findPeer(name: string): string | null {
  const peer = PEERS.find((p) => p.name === name);
  const onPath = (process.env['PATH'] ?? '').split(delimiter).map((folder) => join(folder, name));
  const elsewhere = (peer?.places ?? []).flatMap((place) => globSync(place).sort().reverse());
  const unpacked = peer === undefined ? [] : [join(peerFolder(), peer.debianPackages[0], peer.path)];
  return [...onPath, ...elsewhere, ...unpacked].find(isExecutable) ?? null;
}

/**
 * The environment variables with which a peer finds the shared libraries that were unpacked with it. Without effect
 * on one that the machine has itself: nothing was unpacked for that.
 */
export function peerEnvironment(name: string): Record<string, string> {
  const packages = PEERS.find((peer) => peer.name === name)?.debianPackages ?? [];
  const folders = packages
    .slice(1)
    .flatMap((library) =>
      ['usr/lib', 'lib'].flatMap((folder) => globSync(join(peerFolder(), library, folder, '*-linux-gnu*'))),
    );
  return folders.length === 0 ? {} : { LD_LIBRARY_PATH: folders.join(delimiter) };
}
