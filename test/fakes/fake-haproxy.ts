import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';

/** A kind of file, as the commands name it. */
type Kind = 'cert' | 'ca-file' | 'crl-file';

/** A file that a configuration names, with what was loaded. */
export interface FakeHaproxyFile {
  readonly kind: Kind;
  readonly pem: string;
}

/** What the answers call each kind. */
const WORDS = {
  cert: {
    set: 'Transaction',
    noun: 'certificate',
    absent: 'certificate: Not found or the certificate is a bundle!',
    a: 'a certificate',
  },
  'ca-file': { set: 'transaction', noun: 'CA', absent: 'CA file : Not found!', a: 'a CA file' },
  'crl-file': { set: 'transaction', noun: 'CRL', absent: 'CRL file : Not found!', a: 'a CRL file' },
} as const;

/** A refusal of one command, or null: it is carried out. */
export type FakeHaproxyFault = (command: string) => string | null;

/**
 * The runtime API of a HAProxy 3.4 on a Unix socket: files by path, one transaction for each kind, and the answers of
 * the real one: `test/unit/fakes/fake-haproxy.test.ts` holds them to what 3.4.0 was recorded to answer.
 *
 * Like the real one it takes a command up to its payload's empty line, answers, and closes; it keeps what was committed
 * only, and loses it when it is restarted.
 *
 * As 3.0.11 it does what that one was seen to do: after CAs or CRLs were committed, a certificate that is committed is
 * shown, as `Unused`, and not presented; and it dies when CAs or CRLs are committed after that.
 */
export class FakeHaproxy {
  readonly path: string;
  /** First lines of the commands that came. */
  readonly commands: string[] = [];
  fault: FakeHaproxyFault = () => null;
  readonly #files = new Map<string, FakeHaproxyFile>();
  readonly #transactions = new Map<Kind, { path: string; pem: string }>();
  readonly #server: Server;
  readonly #version: FakeHaproxyVersion;
  /** The certificates that its lines present, where they are not those of `#files`. */
  readonly #presented = new Map<string, string>();
  #pid = 1;
  /** Whether a commit of a certificate finds the lines that use it. */
  #isLinked = true;
  #isDead = false;

  /** Listens at `path`. `files` are what its configuration names, by path, with what it loaded at its start. */
  static async start(
    path: string,
    files: ReadonlyMap<string, FakeHaproxyFile>,
    version: FakeHaproxyVersion = '3.4.0',
  ): Promise<FakeHaproxy> {
    const fake = new FakeHaproxy(path, files, version);
    fake.#server.listen(path);
    await once(fake.#server, 'listening');
    return fake;
  }

  private constructor(
    path: string,
    files: ReadonlyMap<string, FakeHaproxyFile>,
    version: FakeHaproxyVersion,
  ) {
    this.path = path;
    this.#version = version;
    for (const [name, file] of files) this.#files.set(name, file);
    this.#server = createServer((socket) => this.#serve(socket));
  }

  /** The PEM in use of a file. */
  inUse(path: string): string {
    return this.#files.get(path)?.pem ?? '';
  }

  /** The PEM that a peer is given, which for a certificate should be the one in use. */
  presented(path: string): string {
    return this.#presented.get(path) ?? this.inUse(path);
  }

  /** As a new process that has loaded `files`. */
  restart(files: ReadonlyMap<string, FakeHaproxyFile>): void {
    this.#pid += 1;
    this.#isLinked = true;
    this.#isDead = false;
    this.#presented.clear();
    this.#transactions.clear();
    for (const [name, file] of files) this.#files.set(name, file);
  }

  async close(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    await closed;
  }

  #serve(socket: Socket): void {
    let text = '';
    socket.on('error', () => {});
    if (this.#isDead) socket.destroy();
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
      const whole = text.includes('<<\n') ? text.endsWith('\n\n') : text.endsWith('\n');
      if (!whole) return;
      const answer = this.#answer(text);
      if (this.#isDead) socket.destroy();
      else socket.end(answer);
    });
  }

  #answer(text: string): string {
    const [command = ''] = text.split('\n', 1);
    this.commands.push(command);
    const refusal = this.fault(command);
    if (refusal !== null) return refusal;
    if (command === 'show info') {
      return `Name: HAProxy\nVersion: ${this.#version}-1\nPid: ${this.#pid}\nStart_time_sec: 1795605048\n\n`;
    }
    const [, verb = '', kindText = '', path = ''] = /^(\w+) ssl (\S+)(?: (\S+))?/.exec(command) ?? [];
    const kind = (Object.keys(WORDS) as Kind[]).find((known) => known === kindText);
    if (kind === undefined) return `Unknown command: '${command}'\n\n`;
    switch (verb) {
      case 'show':
        return path === '' ? this.#list(kind) : this.#show(kind, path);
      case 'set':
      case 'add':
        return this.#set(verb, kind, path, text.slice(text.indexOf('<<\n') + 3, -1));
      case 'commit':
        return this.#commit(kind, path);
      case 'abort':
        return this.#transactions.delete(kind)
          ? `Transaction aborted for certificate '${path}'!\n\n`
          : 'No ongoing transaction!\n\n';
      default:
        return `Unknown command: '${command}'\n\n`;
    }
  }

  #list(kind: Kind): string {
    const line = (path: string, pem: string): string =>
      `${path}${kind === 'ca-file' ? ` - ${certificatesOf(pem).length} certificate(s)` : ''}\n`;
    const open = this.#transactions.get(kind);
    const before = open === undefined ? '' : `# transaction\n*${line(open.path, open.pem)}`;
    const own = [...this.#files].filter(([, file]) => file.kind === kind);
    return `${before}# filename\n${own.map(([path, { pem }]) => line(path, pem)).join('')}\n`;
  }

  #show(kind: Kind, path: string): string {
    const file = this.#files.get(path);
    if (file?.kind !== kind) return `Can't display the ${WORDS[kind].absent}\n\n`;
    const prints = certificatesOf(file.pem).map(({ fingerprint }) => fingerprint.replaceAll(':', ''));
    if (kind === 'cert') {
      const status = this.#isLinked ? 'Used' : 'Unused';
      return `Filename: ${path}\nStatus: ${status}\nSHA1 FingerPrint: ${prints[0]}\n\n`;
    }
    const shown = prints.map((print, i) => ` \nCertificate #${i + 1}:\nSHA1 FingerPrint: ${print}\n`);
    return `Filename: ${path}\nStatus: Used\n${shown.join('')}\n`;
  }

  #set(verb: 'set' | 'add', kind: Kind, path: string, payload: string): string {
    const refused = `Can't update ${path}!\n\n`;
    const open = this.#transactions.get(kind);
    if (open !== undefined && open.path !== path) {
      return `The ongoing transaction is about '${open.path}' but you are trying to set '${path}'\n${refused}`;
    }
    if (this.#files.get(path)?.kind !== kind) {
      return `Can't replace ${WORDS[kind].a} which is not referenced by the configuration!\n${refused}`;
    }
    this.#transactions.set(kind, { path, pem: verb === 'add' ? `${open?.pem ?? ''}${payload}` : payload });
    const { set, noun } = WORDS[kind];
    return `${set} ${open === undefined ? 'created' : 'updated'} for ${noun} ${path}!\n\n`;
  }

  #commit(kind: Kind, path: string): string {
    const open = this.#transactions.get(kind);
    if (open?.path !== path) return `No ongoing transaction! !\nCan't commit ${path}!\n\n`;
    if (this.#version === '3.0.11') this.#loseLines(kind, path);
    this.#files.set(path, { kind, pem: open.pem });
    this.#transactions.delete(kind);
    // A dot for each line that it finds.
    return `Committing ${path}${kind === 'cert' && !this.#isLinked ? '' : '.'}\nSuccess!\n\n`;
  }

  /** The fault of 3.0.11, at a commit that is under way. */
  #loseLines(kind: Kind, path: string): void {
    if (kind !== 'cert') {
      this.#isDead = this.#presented.size > 0;
      this.#isLinked = false;
    } else if (!this.#isLinked) this.#presented.set(path, this.presented(path));
  }
}

/** The versions that it behaves like. */
export type FakeHaproxyVersion = '3.4.0' | '3.0.11';

function certificatesOf(pem: string): X509Certificate[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n/g) ?? [];
  return blocks.map((block) => new X509Certificate(block));
}
