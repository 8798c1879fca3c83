import { KedgeError } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import type { AuditFolder, AuditReader } from './audit-folder.ts';
import {
  type AuditHead,
  GENESIS,
  HEAD_FILE,
  lineHash,
  parseHeadFile,
  parseLine,
  segmentName,
  segmentsOf,
} from './audit-line.ts';

/** Where a log ends, as its files say. */
export interface AuditTail {
  readonly head: AuditHead;
  /** Name of the segment that the next line goes to; it may not exist yet. */
  readonly segment: string;
  /** Where in that segment the next line begins, in bytes. */
  readonly offset: number;
  /** Bytes after `offset`: a write that a crash cut short, which nobody was told is on the log. */
  readonly tornBytes: number;
  /** How many of them, at the very end, are zeros. */
  readonly zeroBytes: number;
}

/** What is read of the last segment: at least one whole line fits, however long. */
const WINDOW_BYTES = 4 * LIMITS.auditLineBytes;
/** What is read at once of the zeros behind it. */
const ZEROS_BYTES = 32 * 1024;

/**
 * Finds the end of a log without reading its history: the last lines of the last segment, and `audit.head`.
 *
 * Zeros at the very end are part of a torn write: a file system may have made the file longer before the power went,
 * and have written none of the blocks. Zeros anywhere before a later line are damage like any other.
 *
 * Throws `audit_malformed` when the last line is not one of Kedge, `audit_chain_broken` when the last lines do not
 * follow one another, when the log ends before the head that `audit.head` says was committed, or when that head has
 * another digest. Errors of the file system come as they are.
 */
export async function readAuditTail(folder: AuditFolder): Promise<AuditTail> {
  const committed = await readHeadFile(folder);
  const tail = await findTail(folder);
  if (committed !== null && committed !== 'unreadable') {
    const { head } = tail;
    if (committed.seq > head.seq || (committed.seq === head.seq && committed.hash !== head.hash)) {
      throw broken(
        `the log ends with line ${head.seq}, but ${HEAD_FILE} says that line ${committed.seq} was committed`,
      );
    }
  }
  return tail;
}

/** What `audit.head` says; null when there is none. */
export async function readHeadFile(folder: AuditFolder): Promise<AuditHead | 'unreadable' | null> {
  const file = await folder.openForReading(HEAD_FILE);
  if (file === null) return null;
  try {
    return parseHeadFile(Buffer.from(await file.read(0, 256)).toString('latin1')) ?? 'unreadable';
  } finally {
    await file.close();
  }
}

/** Where the content of a file of `size` bytes ends: behind the last byte that is not zero. */
export async function contentEnd(file: AuditReader, size: number): Promise<number> {
  for (let end = size; end > 0; ) {
    const start = Math.max(0, end - ZEROS_BYTES);
    const last = (await file.read(start, end - start)).findLastIndex((byte) => byte !== 0);
    if (last >= 0) return start + last + 1;
    end = start;
  }
  return 0;
}

async function findTail(folder: AuditFolder): Promise<AuditTail> {
  const segments = segmentsOf(await folder.list());
  const last = segments.at(-1);
  if (last === undefined) {
    return { head: GENESIS, segment: segmentName(GENESIS.seq + 1), offset: 0, tornBytes: 0, zeroBytes: 0 };
  }
  const own = await readSegmentTail(folder, last.name);
  if (own.head !== null) {
    if (own.head.seq < last.firstSeq) throw broken(`${last.name} ends with line ${own.head.seq}`);
    return { ...own, head: own.head, segment: last.name };
  }
  // The log had just begun a new segment when it stopped: its end is in the one before.
  const before = segments.at(-2);
  const previous = before === undefined ? null : await readSegmentTail(folder, before.name);
  if (previous !== null && previous.tornBytes > 0) throw broken(`${before?.name} ends within a line`);
  const head = previous?.head ?? GENESIS;
  if (head.seq + 1 !== last.firstSeq) {
    throw broken(
      `${last.name} should follow line ${last.firstSeq - 1}, the one before ends with ${head.seq}`,
    );
  }
  return { ...own, head, segment: last.name };
}

interface SegmentTail {
  /** Null when the segment holds no whole line. */
  readonly head: AuditHead | null;
  readonly offset: number;
  readonly tornBytes: number;
  readonly zeroBytes: number;
}

async function readSegmentTail(folder: AuditFolder, name: string): Promise<SegmentTail> {
  const file = await folder.openForReading(name);
  if (file === null) throw broken(`${name} went away`);
  try {
    return await readEnd(file, name);
  } finally {
    await file.close();
  }
}

async function readEnd(file: AuditReader, name: string): Promise<SegmentTail> {
  const size = await file.size();
  const written = await contentEnd(file, size);
  const start = Math.max(0, written - WINDOW_BYTES);
  const window = Buffer.from(await file.read(start, written - start));
  const end = window.lastIndexOf(0x0a) + 1;
  if (window.length - end > LIMITS.auditLineBytes) {
    throw malformed(name, 'ends with something that is no line');
  }
  const torn = { tornBytes: size - (start + end), zeroBytes: size - written };
  if (end === 0) return { head: null, offset: 0, ...torn };
  // Unless the window begins with the segment, its first line is cut, and serves only to find the second.
  let from = start === 0 ? 0 : window.indexOf(0x0a) + 1;
  let head: AuditHead | null = null;
  while (from < end) {
    const to = window.indexOf(0x0a, from);
    const line = window.subarray(from, to);
    const parsed = parseLine(line);
    if (parsed === null) throw malformed(name, `has a line at byte ${start + from} that is not one of Kedge`);
    if (head !== null && (parsed.seq !== head.seq + 1 || parsed.prev !== head.hash)) {
      throw broken(`in ${name}, line ${parsed.seq} does not follow line ${head.seq}`);
    }
    head = { seq: parsed.seq, hash: lineHash(line) };
    from = to + 1;
  }
  if (head === null) throw malformed(name, 'has no whole line at its end');
  return { head, offset: start + end, ...torn };
}

const HINT =
  'run kedge audit verify; keep the folder as evidence and give the CA another one, which starts a new log';

function broken(message: string): KedgeError {
  return new KedgeError('audit_chain_broken', message, { hint: HINT });
}

function malformed(name: string, problem: string): KedgeError {
  return new KedgeError('audit_malformed', `${name} ${problem}`, { hint: HINT });
}
