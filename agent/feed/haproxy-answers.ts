/**
 * What HAProxy's runtime API answers, read strictly. The forms are those of HAProxy 2.6.12 and 3.4.0, recorded in
 * `test/unit/agent/feed/haproxy-answers.json`: a complete answer ends with an empty line, then HAProxy closes.
 */
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import type { HaproxyFile, HaproxyFileKind } from './haproxy-commands.ts';
import { type HaproxyVersion, parseHaproxyVersion } from './haproxy-version.ts';

/** Longest answer that is read, bytes: 64 CAs with their names take 40 KiB. */
export const MAX_ANSWER_BYTES = 256 * 1024;
/** How much of a refusal is quoted, characters. */
const QUOTED = 160;

/** One HAProxy process. */
export interface HaproxyProcess {
  readonly version: HaproxyVersion;
  /** Differs between two processes on one machine, and between two lives of process 1 in a container. */
  readonly id: string;
}

/** Reads the answer to `show info`. */
export function parseInfo(answer: string): HaproxyProcess {
  const fields = fieldsOf(linesOf(answer, 'show info'), 'show info');
  const version = parseHaproxyVersion(single(fields, 'Version', 'show info'));
  const pid = single(fields, 'Pid', 'show info');
  const startedAt = single(fields, 'Start_time_sec', 'show info');
  if (
    single(fields, 'Name', 'show info') !== 'HAProxy' ||
    version === null ||
    !/^\d+ \d+$/.test(`${pid} ${startedAt}`)
  ) {
    throw invalid('show info', 'it is not of a HAProxy');
  }
  return { version, id: `${pid}@${startedAt}` };
}

/** Reads the answer to `show ssl <kind>`: the path of the open transaction, null where there is none. */
export function parseTransaction(answer: string, kind: HaproxyFileKind): string | null {
  const command = `show ssl ${kind}`;
  const lines = linesOf(answer, command);
  const filesAt = lines.indexOf('# filename');
  if (filesAt < 0) throw refusedOrInvalid(command, lines, /^(# transaction|\*)/);
  const before = lines.slice(0, filesAt);
  if (before.length === 0) return null;
  const path = before[1]?.replace(/ - \d+ certificate\(s\)$/, '');
  if (before.length !== 2 || before[0] !== '# transaction' || path?.startsWith('*/') !== true) {
    throw invalid(command, 'its part on transactions is not understood');
  }
  return path.slice(1);
}

/** Reads the answer to `show ssl crt-list`: the paths of the crt-lists. */
export function parseCrtLists(answer: string): readonly string[] {
  const lines = linesOf(answer, 'show ssl crt-list');
  const denied = lines.find((line) => !line.startsWith('/'));
  if (denied !== undefined) throw refusedOrInvalid('show ssl crt-list', lines, /^\//);
  return lines;
}

/** What HAProxy has in use of a certificate file. */
export interface ShownCertificate {
  /** Whether a `bind` or `server` line is known to present it. */
  readonly isUsed: boolean;
  /** Its SHA-1, hex in capitals. */
  readonly fingerprint: string;
}

/** Reads the answer to `show ssl cert <path>`. */
export function parseShownCertificate(answer: string, { path }: HaproxyFile): ShownCertificate {
  const command = 'show ssl cert';
  const fields = shownFields(answer, command, path, "Can't display the certificate");
  const [fingerprint, ...others] = fingerprintsOf(fields, command);
  const status = single(fields, 'Status', command);
  if (fingerprint === undefined || others.length > 0) {
    throw invalid(command, 'it does not hold one fingerprint');
  }
  if (status !== 'Used' && status !== 'Unused') throw invalid(command, 'its status is not understood');
  return { isUsed: status === 'Used', fingerprint };
}

/** What HAProxy has in use of a CA file. */
export interface ShownAuthorities {
  /** Whether a `bind` or `server` line verifies by it. */
  readonly isUsed: boolean;
  /** SHA-1 of each CA, hex in capitals, in HAProxy's order. */
  readonly fingerprints: readonly string[];
}

/** Reads the answer to `show ssl ca-file <path>`. */
export function parseShownAuthorities(answer: string, { path }: HaproxyFile): ShownAuthorities {
  const fields = shownFields(answer, 'show ssl ca-file', path, "Can't display the CA file");
  // An answer that is longer than one of HAProxy's buffers repeats its heading.
  const heading = fields.filter(([key]) => key === 'Status' || key === 'Filename').map(([, value]) => value);
  if (new Set(heading).size !== 2) throw invalid('show ssl ca-file', 'its heading is not understood');
  const [, status] = heading;
  const fingerprints = fingerprintsOf(fields, 'show ssl ca-file');
  const headings = fields.filter(([key]) => key.startsWith('Certificate #')).length;
  if ((status !== 'Used' && status !== 'Unused') || fingerprints.length !== headings) {
    throw invalid('show ssl ca-file', 'it is not understood');
  }
  return { isUsed: status === 'Used', fingerprints };
}

/** Checks the answer to `set` or `add`. Gives the path that HAProxy says it has put the payload under. */
export function parseSet(answer: string, { kind }: HaproxyFile): string {
  const command = `set ssl ${kind}`;
  const lines = linesOf(answer, command);
  const done = /^[Tt]ransaction (?:created|updated) for (?:certificate|CA|CRL) (\/.*)!$/.exec(
    lines.at(-1) ?? '',
  );
  if (done?.[1] === undefined) throw refused(command, lines);
  return done[1];
}

/** Checks the answer to `commit`. */
export function checkCommit(answer: string, { kind, path }: HaproxyFile): void {
  const command = `commit ssl ${kind}`;
  const lines = linesOf(answer, command);
  if (lines.at(-1) === 'Success!' && lines[0]?.startsWith(`Committing ${path}`) === true) return;
  if (lines[0]?.startsWith('Committing ') === true && lines.length === 1) {
    throw invalid(command, 'it does not say how the commit ended');
  }
  throw refused(command, lines);
}

/** Checks the answer to `abort`: the transaction is gone, or there was none. */
export function checkAbort(answer: string, { kind, path }: HaproxyFile): void {
  const command = `abort ssl ${kind}`;
  const lines = linesOf(answer, command);
  const isDone = lines.at(-1) === `Transaction aborted for certificate '${path}'!`;
  if (!isDone && lines[0] !== 'No ongoing transaction!') throw refused(command, lines);
}

/** The lines of an answer, without the empty ones at its end. Throws when it is empty or cut off. */
function linesOf(answer: string, command: string): string[] {
  if (answer === '') throw invalid(command, 'there is none');
  // A refusal of 3.4 ends with one line end; what was cut off in a line has none.
  if (!answer.endsWith('\n')) throw invalid(command, 'it is cut off');
  const text = answer.replace(/\n+$/, '');
  const lines = text === '' ? [] : text.split('\n');
  if (!answer.endsWith('\n\n') && /^(?:[A-Za-z ]+: |# |\/|Committing )/.test(lines[0] ?? '')) {
    throw invalid(command, 'it is cut off');
  }
  return lines;
}

type Field = readonly [key: string, value: string];

function fieldsOf(lines: readonly string[], command: string): readonly Field[] {
  if (lines[0]?.includes(': ') !== true) throw refused(command, lines);
  return lines.map((line): Field => {
    const colon = line.indexOf(':');
    return colon < 0 ? [line, ''] : [line.slice(0, colon), line.slice(colon + 1).trim()];
  });
}

/** The fields of what `show ssl <kind> <path>` shows. Throws `haproxy_config_unusable` where HAProxy has no such file. */
function shownFields(answer: string, command: string, path: string, absent: string): readonly Field[] {
  const lines = linesOf(answer, command);
  if (lines[0]?.startsWith(absent) === true) throw notLoaded(path);
  const fields = fieldsOf(lines, command);
  if (fields[0]?.[0] !== 'Filename') throw refused(command, lines);
  if (fields[0][1] !== path) throw invalid(command, 'it is about another file');
  return fields;
}

function single(fields: readonly Field[], key: string, command: string): string {
  const values = fields.filter(([name]) => name === key);
  const [value] = values;
  if (value === undefined || values.length > 1) throw invalid(command, `it does not hold one ${quote(key)}`);
  return value[1];
}

function fingerprintsOf(fields: readonly Field[], command: string): string[] {
  const found = fields.filter(([key]) => key === 'SHA1 FingerPrint').map(([, value]) => value);
  if (found.some((value) => !/^[0-9A-F]{40}$/.test(value)))
    throw invalid(command, 'a fingerprint is not one');
  return found;
}

/** HAProxy has no file of that path. */
export function notLoaded(path: string): KedgeError {
  return new KedgeError('haproxy_config_unusable', `HAProxy has not loaded ${quote(path, 200)}`, {
    hint: 'name exactly this path in its configuration: HAProxy replaces only what it has loaded',
  });
}

function refusedOrInvalid(command: string, lines: readonly string[], own: RegExp): KedgeError {
  return own.test(lines[0] ?? '') ? invalid(command, 'it is not understood') : refused(command, lines);
}

function refused(command: string, lines: readonly string[]): KedgeError {
  const words = lines.slice(0, 2).join(' ');
  if (words.includes('which is not referenced by the configuration')) {
    return notLoaded(/Can't update (\/.*)!/.exec(words)?.[1] ?? '');
  }
  return new KedgeError(
    'haproxy_refused',
    `HAProxy refused ${quote(command)}: ${quote(withoutMaterial(words), QUOTED)}`,
    {
      hint: words.startsWith('Permission denied')
        ? 'the stats socket must have "level admin"'
        : 'it is tried again; what was in use stays in use',
    },
  );
}

/** HAProxy quotes the beginning of what it does not know: a line of a PEM block must not get into a log that way. */
function withoutMaterial(words: string): string {
  return words.replace(/-----BEGIN[^]*/, '[...]').replace(/[A-Za-z0-9+/=]{48,}/g, '[...]');
}

function invalid(command: string, why: string): KedgeError {
  return new KedgeError(
    'haproxy_answer_invalid',
    `the answer of HAProxy to ${quote(command)} is not usable: ${why}`,
  );
}
