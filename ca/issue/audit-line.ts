import { hash } from 'node:crypto';

import { KedgeError } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import { type AuditEntry, isoTime } from './audit-record.ts';

/** A place in the chain: a line and its digest. */
export interface AuditHead {
  /** Number of the line; 0 = before the first. */
  readonly seq: number;
  /** SHA-256 of the line's bytes without its newline, lower-case hex. */
  readonly hash: string;
}

/** What the first line of a log has as `prev`. */
export const GENESIS: AuditHead = { seq: 0, hash: '0'.repeat(64) };

/** Name of the side file that holds the newest committed {@link AuditHead}. */
export const HEAD_FILE = 'audit.head';

const SEQ_DIGITS = 16;
const SEGMENT = new RegExp(`^audit-([0-9]{${SEQ_DIGITS}})\\.jsonl$`);
const ENVELOPE =
  /^\{"seq":([1-9][0-9]{0,15}),"time":"([0-9TZ:.+-]{20,32})","prev":"([0-9a-f]{64})","event":"([a-z0-9_.-]{1,64})"[,}]/;
const HEAD = /^([0-9]{16}):([0-9a-f]{64})\n?$/;

/** Name of the segment whose first line has number `seq`. Names sort as their numbers do. */
export function segmentName(seq: number): string {
  return `audit-${String(seq).padStart(SEQ_DIGITS, '0')}.jsonl`;
}

/** The segments among `names`, in order, each with the number of its first line. */
export function segmentsOf(names: readonly string[]): readonly { name: string; firstSeq: number }[] {
  return names
    .flatMap((name) => {
      const match = SEGMENT.exec(name);
      return match === null ? [] : [{ name, firstSeq: Number(match[1]) }];
    })
    .sort((a, b) => a.firstSeq - b.firstSeq);
}

/** The line after `previous` that says `entry`, without newline, and the head that it makes. ASCII only. */
export function formatLine(
  previous: AuditHead,
  entry: AuditEntry,
): { readonly text: string; readonly head: AuditHead } {
  const seq = previous.seq + 1;
  const text = `{"seq":${seq},"time":"${isoTime(entry.timeMs)}","prev":"${previous.hash}","event":"${entry.event}"${entry.json}}`;
  if (text.length >= LIMITS.auditLineBytes) {
    throw new KedgeError('internal', `an audit line of ${text.length} bytes is over the limit`);
  }
  return { text, head: { seq, hash: hash('sha256', text) } };
}

/** A line of the log, read. */
export interface AuditLine {
  readonly seq: number;
  /** Digest of the line before. */
  readonly prev: string;
  readonly event: string;
  /** The whole line as JSON. */
  readonly record: unknown;
}

/** Reads a line; null when it is not one of Kedge. `line` comes without its newline. */
export function parseLine(line: Uint8Array): AuditLine | null {
  const text = Buffer.from(line.buffer, line.byteOffset, line.byteLength).toString('latin1');
  const match = ENVELOPE.exec(text);
  if (match === null) return null;
  let record: unknown;
  try {
    record = JSON.parse(text);
  } catch {
    return null;
  }
  return { seq: Number(match[1]), prev: match[3] ?? '', event: match[4] ?? '', record };
}

/** The digest of a line as the chain has it. */
export function lineHash(line: Uint8Array): string {
  return hash('sha256', line);
}

/** A head as it is written down: `0000000000000042:<hex>`. */
export function formatHead(head: AuditHead): string {
  return `${String(head.seq).padStart(SEQ_DIGITS, '0')}:${head.hash}`;
}

/** Reads what {@link formatHead} wrote, with or without leading zeros and a newline. Null when it is none. */
export function parseHead(text: string): AuditHead | null {
  const match = HEAD.exec(text.replace(/^[0-9]{1,16}(?=:)/, (digits) => digits.padStart(SEQ_DIGITS, '0')));
  return match === null ? null : { seq: Number(match[1]), hash: match[2] ?? '' };
}

/**
 * The content of {@link HEAD_FILE}: the head and a check over it, always of one length. It is overwritten in place,
 * so that a reader may meet the half of one head and the half of another; the check tells.
 */
export function formatHeadFile(head: AuditHead): string {
  const text = formatHead(head);
  return `${text} ${checkOf(text)}\n`;
}

/** Reads what {@link formatHeadFile} wrote; null when it is damaged. */
export function parseHeadFile(content: string): AuditHead | null {
  const [, text = '', check] = /^(\S+) ([0-9a-f]{16})\n$/.exec(content) ?? [];
  return check === checkOf(text) ? parseHead(text) : null;
}

function checkOf(text: string): string {
  return hash('sha256', text).slice(0, 16);
}
