import { KedgeError, quote } from '../../pki/kedge-error.ts';

/** The kinds of file that HAProxy replaces at run time, as its commands name them. */
export const HAPROXY_FILE_KINDS = ['crl-file', 'ca-file', 'cert'] as const;
export type HaproxyFileKind = (typeof HAPROXY_FILE_KINDS)[number];

/** A file that HAProxy has loaded; it knows it by the path in its configuration, and by nothing else. */
export interface HaproxyFile {
  readonly kind: HaproxyFileKind;
  readonly path: string;
}

/** Path characters that HAProxy's command line takes as they are: no blank, quote, backslash, `;`, `<` or `#`. */
const PLAIN_PATH = /^\/[A-Za-z0-9._/@+=,-]+$/;

/** True when HAProxy's runtime API takes `path` without quoting. */
export function isHaproxyPath(path: string): boolean {
  return PLAIN_PATH.test(path);
}

/** Version, process and age of a HAProxy. */
export const SHOW_INFO = 'show info\n';

/** The crt-lists that HAProxy has loaded. */
export const SHOW_CRT_LISTS = 'show ssl crt-list\n';

/** The files of one kind, with the one that is open in a transaction. */
export function listCommand(kind: HaproxyFileKind): string {
  return `show ssl ${kind}\n`;
}

/** What HAProxy has in use of one file. */
export function showCommand({ kind, path }: HaproxyFile): string {
  return `show ssl ${kind} ${path}\n`;
}

/** Makes the content of the transaction the one in use. */
export function commitCommand({ kind, path }: HaproxyFile): string {
  return `commit ssl ${kind} ${path}\n`;
}

/** Drops the transaction. */
export function abortCommand({ kind, path }: HaproxyFile): string {
  return `abort ssl ${kind} ${path}\n`;
}

/** What one HAProxy takes. */
export interface CommandLimits {
  /** Longest command, payload and line ends included, in bytes. */
  readonly maxBytes: number;
  /** Whether it has `add ssl ca-file` (2.7 and newer), which puts more into an open transaction. */
  readonly mayAdd: boolean;
}

/**
 * The commands that open a transaction on `file` and put `blocks` (PEM, each with its line end) into it: one `set`,
 * or for a CA file that is over the limit a `set` and as many `add` as it takes.
 *
 * Throws `haproxy_payload_too_large` where no command may hold it. Never send a longer one to find out: HAProxy
 * 2.6.12 closes the connection without a word on most lengths over `tune.bufsize`, and on one byte over it hangs
 * and then dies of a segmentation fault.
 */
export function setCommands(
  file: HaproxyFile,
  blocks: readonly string[],
  { maxBytes, mayAdd }: CommandLimits,
): string[] {
  const mayDivide = mayAdd && file.kind === 'ca-file';
  const commands: string[] = [];
  let payload = '';
  const frame = (body: string): string => withPayload(commands.length === 0 ? 'set' : 'add', file, body);
  for (const block of blocks) {
    if (mayDivide && payload !== '' && Buffer.byteLength(frame(payload + block)) > maxBytes) {
      commands.push(frame(payload));
      payload = '';
    }
    payload += block;
  }
  commands.push(frame(payload));
  const longest = Math.max(...commands.map((command) => Buffer.byteLength(command)));
  if (longest > maxBytes) {
    throw new KedgeError(
      'haproxy_payload_too_large',
      `the content of ${quote(file.path, 200)} makes a command of ${longest} bytes, HAProxy takes ${maxBytes}`,
      {
        hint:
          "raise tune.bufsize in HAProxy's configuration (from 3.4 on tune.cli.max-payload-size), and haproxyMaxCommand " +
          'to the same number here; for CAs alone HAProxy 2.7 or newer will do',
      },
    );
  }
  return commands;
}

/** HAProxy takes the lines after `<<` as the payload, up to the first empty one. */
function withPayload(verb: 'set' | 'add', { kind, path }: HaproxyFile, payload: string): string {
  if (!payload.endsWith('\n') || /^\n|\n\n/.test(payload)) {
    throw new TypeError('a payload of HAProxy is whole lines, none of them empty');
  }
  return `${verb} ssl ${kind} ${path} <<\n${payload}\n`;
}
