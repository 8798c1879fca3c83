import { execFileSync } from 'node:child_process';
import { cpSync, globSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import type { DebianPackages } from './debian-packages.ts';

/** What {@link buildKubernetes} takes. */
export interface KubernetesBuild {
  readonly packages: DebianPackages;
  /** Where it works. Whoever calls removes it: sources and objects take some 2 GB. */
  readonly folder: string;
  /** GOROOT. */
  readonly goRoot: string;
  /** Commands of Kubernetes, as its folder `cmd` names them. */
  readonly programs: readonly string[];
  /** The folder for the programs. */
  readonly into: string;
}

const REPOSITORY = 'k8s.io/kubernetes';
const OPENAPI = 'pkg/generated/openapi';
/** Where a type of an API says that it belongs into the OpenAPI document. */
const OPENAPI_TAG = '+k8s:openapi-gen=';
const VENDORED_REFLECT2 = 'github.com/modern-go/reflect2';

/** Builds programs of Debian's source package `kubernetes`; gives its version. */
export function buildKubernetes({ packages, folder, goRoot, programs, into }: KubernetesBuild): string {
  const downloads = join(folder, 'source');
  mkdirSync(downloads);
  const version = packages.downloadSource('kubernetes', downloads);
  // The dependencies are vendored in the way of GOPATH.
  const goPath = join(folder, 'gopath');
  const tree = join(goPath, 'src', REPOSITORY);
  unpackSource(downloads, tree);
  replaceReflect2(packages, folder, tree);
  const go = (args: readonly string[]): void => {
    execFileSync(join(goRoot, 'bin/go'), args, {
      cwd: tree,
      stdio: ['ignore', 'ignore', 'inherit'],
      env: environment(folder, goRoot, goPath),
    });
  };
  const generator = join(folder, 'openapi-gen');
  go(['build', '-o', generator, `${REPOSITORY}/vendor/k8s.io/kube-openapi/cmd/openapi-gen`]);
  generateOpenApi(generator, tree, environment(folder, goRoot, goPath));
  go([
    ...['build', '-trimpath', '-ldflags', `-s -w ${versionFlags(version)}`, '-o', `${into}/`],
    ...programs.map((program) => `${REPOSITORY}/cmd/${program}`),
  ]);
  return version;
}

function environment(folder: string, goRoot: string, goPath: string): Record<string, string> {
  return {
    PATH: [join(goRoot, 'bin'), process.env['PATH'] ?? ''].join(delimiter),
    HOME: folder,
    GOROOT: goRoot,
    GOPATH: goPath,
    GO111MODULE: 'off',
    GOCACHE: join(folder, 'objects'),
    GOTMPDIR: folder,
    CGO_ENABLED: '0',
  };
}

function unpackSource(downloads: string, tree: string): void {
  mkdirSync(tree, { recursive: true });
  const [original] = globSync('*.orig.tar.*', { cwd: downloads });
  const [debian] = globSync('*.debian.tar.*', { cwd: downloads });
  if (original === undefined || debian === undefined)
    throw new Error('the source package has no tar archives');
  execFileSync('tar', ['-xf', join(downloads, original), '-C', tree, '--strip-components=1']);
  execFileSync('tar', ['-xf', join(downloads, debian), '-C', tree]);
  const patches = readFileSync(join(tree, 'debian/patches/series'), 'utf8').split('\n').filter(Boolean);
  for (const patch of patches) {
    execFileSync('git', ['apply', join('debian/patches', patch)], {
      cwd: tree,
      // Else a repository around the cache would have git leave out what is outside of it.
      env: { ...process.env, GIT_CEILING_DIRECTORIES: dirname(tree) },
    });
  }
}

/**
 * The vendored reflect2 1.0.1 reads maps of Go's runtime in a way that 1.18 broke: kube-apiserver would crash on the
 * first patch of a mutating webhook. Debian's 1.0.2 does not.
 */
function replaceReflect2(packages: DebianPackages, folder: string, tree: string): void {
  const unpacked = join(folder, 'reflect2');
  packages.unpack('golang-github-modern-go-reflect2-dev', unpacked);
  const vendored = join(tree, 'vendor', VENDORED_REFLECT2);
  rmSync(vendored, { recursive: true });
  cpSync(join(unpacked, 'usr/share/gocode/src', VENDORED_REFLECT2), vendored, { recursive: true });
}

/** The one generated file that the sources lack, as Kubernetes' own `make generated_files` writes it. */
function generateOpenApi(generator: string, tree: string, env: Record<string, string>): void {
  const found = execFileSync('grep', ['-RlF', '--include=*.go', OPENAPI_TAG, 'pkg', 'vendor/k8s.io'], {
    cwd: tree,
    encoding: 'utf8',
  });
  const folders = found
    .split('\n')
    .filter(
      (file) =>
        file !== '' && !/k8s\.io\/(?:code-generator|sample-apiserver|kube-openapi)\/|\/testdata\//.test(file),
    )
    .map((file) => dirname(file));
  execFileSync(
    generator,
    [
      ...['--logtostderr', '--go-header-file', 'hack/boilerplate/boilerplate.generatego.txt'],
      ...[
        '--input-dirs',
        [...new Set(folders)]
          .sort()
          .map((path) => `${REPOSITORY}/${path}`)
          .join(),
      ],
      ...['--output-package', `${REPOSITORY}/${OPENAPI}`, '--output-file-base', 'zz_generated.openapi'],
      ...['--report-filename', join(env['GOTMPDIR'] ?? '', 'violations')],
    ],
    { cwd: tree, env, stdio: ['ignore', 'ignore', 'inherit'] },
  );
}

/** What the programs say of their version: Debian writes `1.20.5+really1.20.2-1.1` where it went back to 1.20.2. */
function versionFlags(debianVersion: string): string {
  const [, version = '', major = '', minor = ''] =
    /^(?:.*really)?((\d+)\.(\d+)\.\d+)/.exec(debianVersion) ?? [];
  const values = { gitVersion: `v${version}`, gitMajor: major, gitMinor: minor, gitTreeState: 'archive' };
  return ['client-go/pkg/version', 'component-base/version']
    .flatMap((path) =>
      Object.entries(values).map(([key, value]) => `-X ${REPOSITORY}/vendor/k8s.io/${path}.${key}=${value}`),
    )
    .join(' ');
}
