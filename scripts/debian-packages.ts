import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';

const MACHINE_LISTS = '/etc/apt';
const DEBIAN_RELEASE = /^(?:bookworm|trixie)$/;

/**
 * Packages of the machine's own Debian mirrors, downloaded and unpacked: nothing is installed, no maintainer script
 * runs, no root is needed. apt checks what it downloads against the signatures of the archive.
 */
export class DebianPackages {
  readonly #folder: string;
  readonly #edit: (list: string) => string;
  #isUpdated = false;

  /**
   * `folder` holds apt's state, so that neither root nor the machine's package lists are needed. `edit` makes of each of
   * the machine's lists of mirrors the one that is used, as {@link ofSuite} does; absent = as it is.
   */
  constructor(folder: string, edit: (list: string) => string = (list) => list) {
    this.#folder = folder;
    this.#edit = edit;
  }

  /** Unpacks a package as the folder `into`, in place of what is there. Throws where it is not to be had. */
  unpack(debianPackage: string, into: string): void {
    const staging = mkdtempSync(`${into}-`);
    try {
      this.#apt(['download', debianPackage], staging);
      const archive = readdirSync(staging).find((file) => file.endsWith('.deb'));
      if (archive === undefined) throw new Error('apt-get download left no package');
      execFileSync('dpkg-deb', ['-x', archive, 'root'], { cwd: staging });
      rmSync(into, { recursive: true, force: true });
      renameSync(join(staging, 'root'), into);
    } finally {
      rmSync(staging, { recursive: true, force: true });
    }
  }

  /** Downloads the files of a source package into a folder; gives the package's version. */
  downloadSource(sourcePackage: string, into: string): string {
    this.#apt(['source', '--download-only', sourcePackage], into);
    const description = readdirSync(into).find((file) => file.endsWith('.dsc'));
    if (description === undefined) throw new Error('apt-get source left no .dsc');
    const version = /^Version: (?:\d+:)?(\S+)$/m.exec(readFileSync(join(into, description), 'utf8'))?.[1];
    if (version === undefined) throw new Error(`${description} names no version`);
    return version;
  }

  /** Downloads what the authors of a source package released, without what Debian adds, into a folder. */
  downloadOriginal(sourcePackage: string, into: string): void {
    this.#apt(['source', '--download-only', '--tar-only', sourcePackage], into);
  }

  /** The version of a package that would be unpacked, without its epoch. */
  versionOf(debianPackage: string): string {
    this.#update();
    const described = execFileSync(
      'apt-cache',
      [...this.#options(), 'show', '--no-all-versions', debianPackage],
      {
        encoding: 'utf8',
      },
    );
    const version = /^Version: (?:\d+:)?(\S+)$/m.exec(described)?.[1];
    if (version === undefined) throw new Error(`apt-cache show names no version of ${debianPackage}`);
    return version;
  }

  #apt(args: readonly string[], cwd: string): void {
    this.#update();
    this.#run(args, cwd);
  }

  #run(args: readonly string[], cwd: string): void {
    execFileSync('apt-get', ['-qq', ...this.#options(), ...args], {
      cwd,
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  }

  #update(): void {
    if (this.#isUpdated) return;
    const sources = this.#path('sources');
    for (const folder of [this.#path('lists/partial'), this.#path('cache/archives/partial'), sources])
      mkdirSync(folder, { recursive: true });
    for (const file of machineLists())
      writeFileSync(join(sources, basename(file)), withSources(this.#edit(readFileSync(file, 'utf8'))));
    this.#run(['update'], this.#folder);
    this.#isUpdated = true;
  }

  #options(): string[] {
    return [
      `Dir::State::Lists=${this.#path('lists')}`,
      `Dir::Cache=${this.#path('cache')}`,
      'Dir::Etc::SourceList=/dev/null',
      `Dir::Etc::SourceParts=${this.#path('sources')}`,
      'APT::Sandbox::User=',
    ].flatMap((option) => ['-o', option]);
  }

  #path(name: string): string {
    return join(this.#folder, name);
  }
}

function machineLists(): string[] {
  const [main, parts] = [join(MACHINE_LISTS, 'sources.list'), join(MACHINE_LISTS, 'sources.list.d')];
  return [
    ...(existsSync(main) ? [main] : []),
    ...(existsSync(parts) ? readdirSync(parts).filter((file) => /\.(?:list|sources)$/.test(file)) : []).map(
      (file) => join(parts, file),
    ),
  ];
}

/** A list of mirrors (sources.list(5), either format) with the source packages of each. */
export function withSources(list: string): string {
  return list
    .replaceAll(/^Types:[ \t]*deb[ \t]*$/gm, 'Types: deb deb-src')
    .replaceAll(/^deb([ \t].*)$/gm, 'deb$1\ndeb-src$1');
}

/**
 * A list of mirrors (sources.list(5), either format) with the Debian release `suite` in place of the machine's. Left out
 * are updates, which lie elsewhere, and mirrors of anything else than Debian.
 */
export function ofSuite(list: string, suite: string): string {
  const inStanza = (stanza: string): string[] => {
    const release = /^Suites:[ \t]*(\S+)/m.exec(stanza)?.[1] ?? '';
    return DEBIAN_RELEASE.test(release)
      ? [`${stanza.replace(/^Suites:.*$/m, `Suites: ${suite}`).trim()}\n`]
      : [];
  };
  const inLine = (line: string): string[] => {
    const [, before = '', release = '', after = ''] =
      /^(deb[ \t]+(?:\[.*?\][ \t]+)?\S+[ \t]+)(\S+)(.*)$/.exec(line) ?? [];
    return DEBIAN_RELEASE.test(release) ? [`${before}${suite}${after}\n`] : [];
  };
  return /^Suites:/m.test(list)
    ? list
        .split(/\n{2,}/)
        .flatMap(inStanza)
        .join('\n')
    : list.split('\n').flatMap(inLine).join('');
}
