/**
 * Gets the Kubernetes programs of the cluster tests from Debian, without root: `npm run kubernetes`.
 *
 * etcd and kubectl are unpacked from Debian's packages. Debian has no package of kube-apiserver: it and
 * kube-controller-manager are built from Debian's source package with Debian's Go, unpacked beside it, which takes
 * about six minutes on two cores, once. What comes out lies in {@link kubernetesFolder}, named by its versions.
 *
 * Nothing to do where KUBEBUILDER_ASSETS names a folder of them. A machine without Debian's sources says so and exits
 * 0: the cluster tests then report themselves as skipped. With CI=true that is an error.
 */
import { cpSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { DebianPackages } from './debian-packages.ts';
import { buildKubernetes } from './kubernetes-build.ts';
import { CONTROLLER_MANAGER, findKubernetes, kubernetesFolder, RECIPE } from './kubernetes-folder.ts';

/** Debian 12's: the newest Go that builds Debian 12's Kubernetes. */
const GO = 'golang-1.19';

function make(): string {
  const folder = kubernetesFolder();
  mkdirSync(folder, { recursive: true });
  const packages = new DebianPackages(join(folder, 'apt'));
  const staging = mkdtempSync(join(folder, 'build-'));
  const programs = join(staging, 'programs');
  mkdirSync(programs);
  try {
    for (const [debianPackage, path] of [
      ['etcd-server', 'usr/bin/etcd'],
      ['kubernetes-client', 'usr/bin/kubectl'],
    ] as const) {
      packages.unpack(debianPackage, join(staging, debianPackage));
      renameSync(join(staging, debianPackage, path), join(programs, path.replace('usr/bin/', '')));
    }
    // Debian splits Go in two, with files of each beside the other's, and links between them.
    for (const part of ['go', 'src']) {
      packages.unpack(`${GO}-${part}`, join(staging, part));
      cpSync(join(staging, part), join(staging, 'go-root'), { recursive: true, verbatimSymlinks: true });
    }
    const version = buildKubernetes({
      packages,
      folder: staging,
      goRoot: join(staging, 'go-root/usr/lib', GO.replace('golang', 'go')),
      programs: ['kube-apiserver', CONTROLLER_MANAGER],
      into: programs,
    });
    const made = join(folder, `${version}_${packages.versionOf(`${GO}-go`)}_${RECIPE}`);
    rmSync(made, { recursive: true, force: true });
    renameSync(programs, made);
    return made;
  } finally {
    rmSync(staging, { recursive: true, force: true });
  }
}

const assets = findKubernetes();
if ('folder' in assets) {
  console.log(`Kubernetes: found in ${assets.folder}`);
} else if ((process.env['KUBEBUILDER_ASSETS'] ?? '') !== '') {
  console.error(`Kubernetes: ${assets.missing}`);
  process.exit(1);
} else {
  try {
    console.log(`Kubernetes: built from Debian's packages in ${make()}`);
  } catch (error) {
    const why = error instanceof Error ? error.message.split('\n')[0] : 'unknown';
    console.log(`Kubernetes: not to be had here (${why}); the cluster tests will be skipped`);
    process.exit(process.env['CI'] === 'true' ? 1 : 0);
  }
}
