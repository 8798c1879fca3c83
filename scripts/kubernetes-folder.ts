import { readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { isExecutable } from './executable.ts';

/** What a folder of Kubernetes programs must hold, as `KUBEBUILDER_ASSETS` does by the convention of its ecosystem. */
export const KUBERNETES_PROGRAMS = ['kube-apiserver', 'etcd', 'kubectl'] as const;

/** What the folder of `npm run kubernetes` holds beside them. */
export const CONTROLLER_MANAGER = 'kube-controller-manager';

/** Changes where `npm run kubernetes` makes something else of the same versions, so that it is made again. */
export const RECIPE = 'r1';

/** Where `npm run kubernetes` keeps what it has made, one folder for each set of versions: outside the tree. */
export function kubernetesFolder(): string {
  return join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'kedge', 'kubernetes');
}

/** The folder of the Kubernetes programs; or why there is none. */
export type KubernetesAssets =
  | { readonly folder: string; readonly hasControllerManager: boolean }
  | { readonly missing: string };

/** Looks where `KUBEBUILDER_ASSETS` says, and nowhere else when it is set; then in {@link kubernetesFolder}. */
export function findKubernetes(): KubernetesAssets {
  const named = process.env['KUBEBUILDER_ASSETS'] ?? '';
  if (named !== '') {
    const absent = KUBERNETES_PROGRAMS.filter((program) => !isExecutable(join(named, program)));
    return absent.length === 0
      ? found(named)
      : { missing: `the folder that KUBEBUILDER_ASSETS names has no ${absent.join(', no ')}` };
  }
  const made = foldersOf(kubernetesFolder()).find((folder) =>
    [...KUBERNETES_PROGRAMS, CONTROLLER_MANAGER].every((program) => isExecutable(join(folder, program))),
  );
  return made === undefined
    ? {
        missing:
          'no kube-apiserver on this machine: npm run kubernetes builds it from Debian, or set KUBEBUILDER_ASSETS',
      }
    : found(made);
}

function found(folder: string): KubernetesAssets {
  return { folder, hasControllerManager: isExecutable(join(folder, CONTROLLER_MANAGER)) };
}

function foldersOf(parent: string): string[] {
  try {
    return readdirSync(parent)
      .filter((name) => name.endsWith(`_${RECIPE}`))
      .sort()
      .reverse()
      .map((name) => join(parent, name));
  } catch {
    return [];
  }
}
