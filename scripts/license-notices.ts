import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Metafile } from 'esbuild';

/** A package of npm, and the notices that it comes with. */
export interface PackageNotice {
  readonly name: string;
  readonly version: string;
  readonly license: string;
  readonly texts: readonly string[];
}

/** The packages of npm that went into a bundle, sorted by name. `root` is the folder that the bundle was built in. */
export function noticesOf(metafile: Metafile, root: string): PackageNotice[] {
  const folders = Object.keys(metafile.inputs).flatMap(
    (path) => /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(path)?.[0] ?? [],
  );
  return [...new Set(folders)].sort().map((folder) => {
    const { name, version, license } = JSON.parse(
      readFileSync(join(root, folder, 'package.json'), 'utf8'),
    ) as PackageNotice;
    const files = globSync('{LICENSE,LICENCE,NOTICE,license}*', { cwd: join(root, folder) }).sort();
    return {
      name,
      version,
      license,
      texts: files.map((file) => readFileSync(join(root, folder, file), 'utf8')),
    };
  });
}

/** The notices as one text file. */
export function noticesText(notices: readonly PackageNotice[]): string {
  return notices
    .map(({ name, version, license, texts }) => [`${name} ${version} (${license})`, ...texts].join('\n\n'))
    .join(`\n\n${'-'.repeat(80)}\n\n`);
}

/** The packages as comments at the end of a bundle, which lead to the text file. */
export function noticesComment(notices: readonly PackageNotice[]): string {
  if (notices.length === 0) return '';
  const lines = notices.map(({ name, version, license }) => `// - ${name} ${version} (${license})`);
  return ['// With, under their own licenses, which the .licenses.txt beside it has:', ...lines, ''].join(
    '\n',
  );
}
