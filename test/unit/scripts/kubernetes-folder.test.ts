import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { findKubernetes, kubernetesFolder, RECIPE } from '../../../scripts/kubernetes-folder.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';

const PROGRAMS = ['kube-apiserver', 'etcd', 'kubectl', 'kube-controller-manager'];

/** A machine that has never built Kubernetes, with `KUBEBUILDER_ASSETS` as given. */
function bareMachine(t: TestContext, assets?: string): void {
  for (const [name, value] of [
    ['XDG_CACHE_HOME', temporaryFolder(t)],
    ['KUBEBUILDER_ASSETS', assets],
  ] as const) {
    const before = process.env[name];
    t.after(() => set(name, before));
    set(name, value);
  }
}

function set(name: string, value: string | undefined): void {
  if (value === undefined) delete process.env[name];
  else process.env[name] = value;
}

function withPrograms(folder: string, programs: readonly string[]): string {
  mkdirSync(folder, { recursive: true });
  for (const program of programs) writeFileSync(join(folder, program), '', { mode: 0o755 });
  return folder;
}

describe('the Kubernetes programs of the cluster tests', () => {
  it('are missing, with what to do, where nothing was built', (t) => {
    bareMachine(t);
    assert.deepEqual(findKubernetes(), {
      missing:
        'no kube-apiserver on this machine: npm run kubernetes builds it from Debian, or set KUBEBUILDER_ASSETS',
    });
  });

  it('are found in the newest folder that is whole and made by the present recipe', (t) => {
    bareMachine(t);
    const old = withPrograms(join(kubernetesFolder(), `1.20.1_1.19_${RECIPE}`), PROGRAMS);
    const half = withPrograms(join(kubernetesFolder(), `1.20.2_1.19_${RECIPE}`), PROGRAMS.slice(1));
    withPrograms(join(kubernetesFolder(), '1.20.3_1.19_r0'), PROGRAMS);
    assert.deepEqual(findKubernetes(), { folder: old, hasControllerManager: true });
    withPrograms(half, PROGRAMS);
    assert.deepEqual(findKubernetes(), { folder: half, hasControllerManager: true });
    chmodSync(join(half, 'etcd'), 0o644);
    assert.deepEqual(findKubernetes(), { folder: old, hasControllerManager: true });
  });

  it('are those of KUBEBUILDER_ASSETS where it is set, controllers or not', (t) => {
    const assets = withPrograms(join(temporaryFolder(t), 'assets'), PROGRAMS.slice(0, 3));
    bareMachine(t, assets);
    withPrograms(join(kubernetesFolder(), `1.20.1_1.19_${RECIPE}`), PROGRAMS);
    assert.deepEqual(findKubernetes(), { folder: assets, hasControllerManager: false });
  });

  it('are missing where KUBEBUILDER_ASSETS names a folder without them, whatever was built', (t) => {
    bareMachine(t, withPrograms(join(temporaryFolder(t), 'assets'), ['etcd']));
    withPrograms(join(kubernetesFolder(), `1.20.1_1.19_${RECIPE}`), PROGRAMS);
    assert.deepEqual(findKubernetes(), {
      missing: 'the folder that KUBEBUILDER_ASSETS names has no kube-apiserver, no kubectl',
    });
  });
});
