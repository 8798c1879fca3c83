/**
 * What is in a container of a test pod, for bubblewrap: a root file system that holds these files and nothing else, read
 * only, in name spaces of its own. The network is the machine's.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, realpathSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { findPeer, peerEnvironment } from '../../scripts/peer-folder.ts';
import { ROOT } from './kedge-process.ts';

/** An image, as far as a test node needs it. */
export interface ContainerImage {
  /** Runs where a container names no command. */
  readonly entrypoint: readonly string[];
  /** Path in the container -> path on this machine. */
  readonly files: ReadonlyMap<string, string>;
  readonly env: Readonly<Record<string, string>>;
}

/** Kedge's image, as `deploy/Dockerfile` puts it together: node, what it is linked with, and the built programs. */
export function kedgeImage(folder: string): ContainerImage {
  const dist = join(folder, 'dist');
  execFileSync(process.execPath, ['scripts/build.ts', dist], { cwd: ROOT, stdio: 'ignore' });
  const node = realpathSync(process.execPath);
  return {
    entrypoint: ['/usr/local/bin/node', '/usr/local/lib/kedge/kedge.mjs'],
    files: new Map([
      ['/usr/local/bin/node', node],
      ['/usr/local/lib/kedge', dist],
      ...librariesOf(node),
      ...accounts(folder),
    ]),
    env: {},
  };
}

/** HAProxy; its configuration is a volume at /etc/haproxy. */
export function haproxyImage(folder: string): ContainerImage {
  const program = findPeer('haproxy') ?? '';
  return {
    entrypoint: ['/usr/sbin/haproxy', '-db', '-f', '/etc/haproxy/haproxy.cfg'],
    files: new Map([
      ['/usr/sbin/haproxy', program],
      ...librariesOf(program, peerEnvironment('haproxy')),
      ...accounts(folder),
    ]),
    env: {},
  };
}

/** What a program is linked with, by the names under which the linker looks for it. */
export function librariesOf(
  program: string,
  env: Readonly<Record<string, string>> = {},
): (readonly [string, string])[] {
  const linked = execFileSync('ldd', [program], { encoding: 'utf8', env: { ...process.env, ...env } });
  return linked.split('\n').flatMap((line) => {
    const [, name, path] = /^\s*(?:(\S+) => )?(\/\S+) \(0x/.exec(line) ?? [];
    if (path === undefined) return [];
    // The loader itself is named by its path; everything else goes where it looks without being told.
    return [[name === undefined ? path : join('/lib', name), path] as const];
  });
}

function accounts(folder: string): (readonly [string, string])[] {
  const files = {
    passwd: 'kedge:x:65532:65532:kedge:/var/lib/kedge:/sbin/nologin\n',
    group: 'kedge:x:65532:\n',
    'nsswitch.conf': 'hosts: files\n',
    // All addresses of a name, not only the first.
    'host.conf': 'multi on\n',
  };
  mkdirSync(join(folder, 'etc'), { recursive: true });
  return Object.entries(files).map(([name, content]) => {
    const path = join(folder, 'etc', name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
    return [`/etc/${name}`, path] as const;
  });
}
