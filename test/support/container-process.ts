import { spawnSync } from 'node:child_process';
import { findPeer, peerEnvironment } from '../../scripts/peer-folder.ts';
import type { ContainerImage } from './container-image.ts';

/** For `skip` of what runs containers: false, or why there are none. */
export const containerSkip = whyNoContainers();

function whyNoContainers(): string | false {
  const bubblewrap = findPeer('bwrap');
  if (bubblewrap === null) return 'no bubblewrap on this machine: npm run peers gets it from Debian';
  const env = { ...process.env, ...peerEnvironment('bwrap') };
  const tried = spawnSync(bubblewrap, ['--unshare-user', '--ro-bind', '/', '/', 'true'], { env });
  return tried.status === 0 ? false : 'this machine gives bubblewrap no user name space';
}

/** A container of a pod, as its spec has it. */
export interface ContainerSpec {
  readonly name: string;
  readonly image: string;
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  readonly env?: readonly { readonly name: string; readonly value?: string }[];
  readonly volumeMounts?: readonly {
    readonly name: string;
    readonly mountPath: string;
    readonly readOnly?: boolean;
  }[];
  readonly securityContext?: {
    readonly runAsUser?: number;
    readonly runAsGroup?: number;
    readonly readOnlyRootFilesystem?: boolean;
  };
}

/** What {@link containerCommand} takes. */
export interface ContainerOptions {
  readonly container: ContainerSpec;
  readonly image: ContainerImage;
  /** Volume -> its folder on this machine. */
  readonly volumes: ReadonlyMap<string, string>;
  /** A file as /etc/hosts. */
  readonly hosts: string;
  readonly hostName: string;
}

/**
 * The command that runs a container as its spec says: its command, arguments and environment, its user, no
 * capabilities, the image read-only, its volumes where they are mounted.
 */
export function containerCommand(options: ContainerOptions): { program: string; args: readonly string[] } {
  const { container, image, volumes, hosts, hostName } = options;
  const { command = image.entrypoint, args = [], env = [], volumeMounts = [] } = container;
  const { runAsUser = 65_532, runAsGroup = runAsUser } = container.securityContext ?? {};
  const mounts = volumeMounts.flatMap(({ name, mountPath, readOnly = false }) => {
    const folder = volumes.get(name);
    if (folder === undefined) throw new Error(`the pod has no volume ${name}`);
    return [readOnly ? '--ro-bind' : '--bind', folder, mountPath];
  });
  return {
    program: findPeer('bwrap') ?? '',
    args: [
      ...['--unshare-user', '--uid', String(runAsUser), '--gid', String(runAsGroup)],
      ...[
        '--unshare-pid',
        '--unshare-ipc',
        '--unshare-uts',
        '--hostname',
        hostName,
        '--cap-drop',
        'ALL',
        '--die-with-parent',
        '--new-session',
      ],
      ...[...image.files].flatMap(([path, source]) => ['--ro-bind', source, path]),
      ...['--ro-bind', hosts, '/etc/hosts', '--proc', '/proc', '--dev', '/dev', '--dir', '/tmp'],
      ...mounts,
      // What was mounted stays as it is; everything else is the image.
      ...['--remount-ro', '/', '--chdir', '/', '--clearenv'],
      ...[...Object.entries(image.env), ...env.map(({ name, value = '' }) => [name, value] as const)].flatMap(
        ([name, value]) => ['--setenv', name, value],
      ),
      ...['--', ...command, ...args],
    ],
  };
}
