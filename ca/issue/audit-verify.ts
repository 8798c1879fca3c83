import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import { type AuditBreak, ChainCheck } from './audit-chain-check.ts';
import { type AuditFolder, fileAuditFolder } from './audit-folder.ts';
import { type AuditHead, GENESIS, parseHead, segmentsOf } from './audit-line.ts';
import { contentEnd, readHeadFile } from './audit-tail.ts';

/** What else is known of the log, from elsewhere. */
export interface AuditVerifyOptions {
  /** A head, `seq:hash`, noted earlier and kept elsewhere: the log must hold that very line. */
  readonly expectedHead?: string;
  /** Where the log begins, `seq:hash` of the line before, when older segments were archived. Default: at line 1. */
  readonly after?: string;
  /** Stops the reading. */
  readonly signal?: AbortSignal;
}

/** What {@link verifyAuditLog} found. The log is good when `brokenAt` is null. */
export interface AuditVerification {
  /** Lines read and found good, in this run. */
  readonly records: number;
  readonly segments: number;
  /** The last good line: what to note elsewhere. */
  readonly head: AuditHead;
  /** Refusals that the good lines tell only in a summary. */
  readonly suppressedRefusals: number;
  /**
   * Bytes after the last line: one that is being written now, or that a crash cut short, and the zeros that a file
   * system leaves in place of what it had not written. Nobody relied on it.
   */
  readonly tornBytes: number;
  /** Whether `audit.head` was there to compare with. */
  readonly headFile: 'compared' | 'absent' | 'unreadable';
  readonly brokenAt: AuditBreak | null;
}

const CHUNK_BYTES = 256 * 1024;

/**
 * Reads a whole audit log, in constant memory, and says whether its lines are those that were written, in order.
 *
 * Proves: no line was altered, removed, repeated or moved before the last one, by anybody who did not also write
 * every line after it anew. With `audit.head`: nor was the end taken off, by anybody who did not also write that
 * file. With an expected head from elsewhere: nothing up to that line was touched by anybody at all.
 *
 * Does not prove: that a recorded SVID was released (a crash may come between), nor, without an expected head, that
 * somebody who may write the folder has not replaced the log as a whole. The chain has no key.
 *
 * `path` is the folder, or a seam over it. Safe beside a running CA. Throws `file_unreadable`, `usage_invalid` for
 * a head that is none, and the signal's reason.
 */
export async function verifyAuditLog(
  path: string | AuditFolder,
  options: AuditVerifyOptions = {},
): Promise<AuditVerification> {
  const folder = typeof path === 'string' ? fileAuditFolder(path) : path;
  const expected = options.expectedHead === undefined ? null : requireHead(options.expectedHead);
  const start = options.after === undefined ? GENESIS : requireHead(options.after);
  if (expected !== null && expected.seq < start.seq) {
    throw new KedgeError(
      'usage_invalid',
      `line ${expected.seq} lies before line ${start.seq}, where the log begins`,
      {
        hint: 'verify the archived segments against that head, and these against a newer one',
      },
    );
  }
  try {
    // Before the lines: a CA that runs moves it on, and it may not be ahead of what is read after it.
    const headFile = await readHeadFile(folder);
    const anchors = [expected, headFile === 'unreadable' ? null : headFile].filter((head) => head !== null);
    const check = new ChainCheck(start, anchors);
    const segments = segmentsOf(await folder.list());
    for (const [index, segment] of segments.entries()) {
      if (check.brokenAt !== null) break;
      check.enter(segment.name, segment.firstSeq, index === segments.length - 1);
      await readSegment(folder, segment.name, check, options.signal);
    }
    check.finish();
    return {
      records: check.records,
      segments: segments.length,
      head: check.head,
      suppressedRefusals: check.suppressedRefusals,
      tornBytes: check.tornBytes,
      headFile: headFile === null ? 'absent' : headFile === 'unreadable' ? 'unreadable' : 'compared',
      brokenAt: check.brokenAt,
    };
  } catch (error) {
    options.signal?.throwIfAborted();
    if (error instanceof KedgeError) throw error;
    const where = typeof path === 'string' ? quote(path, 200) : 'the folder';
    throw new KedgeError('file_unreadable', `cannot read the audit log in ${where}`, { cause: error });
  }
}

async function readSegment(
  folder: AuditFolder,
  name: string,
  check: ChainCheck,
  signal: AbortSignal | undefined,
): Promise<void> {
  const file = await folder.openForReading(name);
  if (file === null) return;
  try {
    const size = await file.size();
    const end = await contentEnd(file, size);
    let rest = Buffer.alloc(0);
    for (let position = 0; check.brokenAt === null; ) {
      signal?.throwIfAborted();
      const chunk = await file.read(position, Math.min(CHUNK_BYTES, end - position));
      if (chunk.length === 0) break;
      position += chunk.length;
      const bytes = Buffer.concat([rest, chunk]);
      let from = 0;
      for (let to = bytes.indexOf(0x0a); to >= 0; to = bytes.indexOf(0x0a, from)) {
        check.line(bytes.subarray(from, to));
        from = to + 1;
      }
      rest = bytes.subarray(from);
      if (rest.length > LIMITS.auditLineBytes) {
        check.line(rest);
        rest = Buffer.alloc(0);
      }
    }
    check.leave(rest.length + size - end);
  } finally {
    await file.close();
  }
}

function requireHead(text: string): AuditHead {
  const head = parseHead(text);
  if (head !== null) return head;
  throw new KedgeError('usage_invalid', `${quote(text, 100)} is not a head of an audit log`, {
    hint: 'write the number of a line, a colon, and its SHA-256 in lower-case hex',
  });
}
