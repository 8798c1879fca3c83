import { accessSync, constants } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';

/** A real program that tests run against. */
export interface Peer {
  readonly name: string;
  /** The Debian package that holds it. */
  readonly debianPackage: string;
  /** Where it lies in the package. */
  readonly path: string;
}

/** The real servers of the system tests. */
export const PEERS: readonly Peer[] = [{ name: 'nginx', debianPackage: 'nginx', path: 'usr/sbin/nginx' }];

/** Where peers are unpacked: outside the tree, kept between runs. */
export function peerFolder(): string {
  return join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'kedge', 'peers');
}

/** The path of a peer, on PATH or in the peer folder; null when this machine has none. */
export function findPeer(name: string): string | null {
  const peer = PEERS.find((p) => p.name === name);
  const onPath = (process.env['PATH'] ?? '').split(delimiter).map((folder) => join(folder, name));
  const unpacked = peer === undefined ? [] : [join(peerFolder(), peer.debianPackage, peer.path)];
  return [...onPath, ...unpacked].find(isExecutable) ?? null;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
