import { LIMITS } from '../../pki/limits.ts';
import type { AuditFolder, AuditReader } from './audit-folder.ts';
import { segmentsOf } from './audit-line.ts';

/** The newest SVID that an instance was issued, as the audit log has it. */
export interface IssuedRecord {
  readonly podUid: string;
  readonly cluster: string;
  readonly namespace: string;
  readonly podName: string;
  readonly spiffeId: string;
  /** Big endian, lower-case hex. */
  readonly serialNumber: string;
  /** Subject key identifier of the issuer, lower-case hex. */
  readonly issuerId: string;
  /** Milliseconds since the Unix epoch. */
  readonly issuedAtMs: number;
  readonly notAfterMs: number;
}

const CHUNK_BYTES = 256 * 1024;
const EVENT = '"event":"svid.issued"';
const TIME = /^\{"seq":[0-9]{1,16},"time":"([0-9TZ:.+-]{20,32})"/;

/**
 * Who was issued an SVID since `sinceMs` that is valid after `nowMs`, from the audit log: the newest of each instance.
 * An issued SVID is on the log before it is on the wire, so nobody is missing, however the process before this one
 * ended. The chain of the log is not verified: `kedge audit verify` does.
 *
 * Reads segments from the one on in which `sinceMs` lies, in constant memory but for the answer. Errors of the file
 * system come as they are; the signal's reason.
 */
export async function issuedSince(
  folder: AuditFolder,
  sinceMs: number,
  nowMs: number,
  signal: AbortSignal,
): Promise<readonly IssuedRecord[]> {
  const found = new Map<string, IssuedRecord>();
  for (const name of await segmentsSince(folder, sinceMs)) {
    for await (const line of linesOf(folder, name)) {
      signal.throwIfAborted();
      const record = line.includes(EVENT) ? readRecord(line) : null;
      if (record === null || record.issuedAtMs < sinceMs || record.notAfterMs <= nowMs) continue;
      found.set(`${record.cluster}/${record.podUid}`, record);
    }
  }
  return [...found.values()];
}

/** The segments that may hold a line from `sinceMs` on: from the last one on that begins before that. */
async function segmentsSince(folder: AuditFolder, sinceMs: number): Promise<readonly string[]> {
  const names = segmentsOf(await folder.list()).map(({ name }) => name);
  for (let i = names.length - 1; i > 0; i -= 1) {
    const [first] = await firstLines(folder, names[i] ?? '');
    const startsMs = first === undefined ? Number.NaN : Date.parse(TIME.exec(first)?.[1] ?? '');
    if (startsMs < sinceMs) return names.slice(i);
  }
  return names;
}

async function firstLines(folder: AuditFolder, name: string): Promise<readonly string[]> {
  for await (const line of linesOf(folder, name)) return [line];
  return [];
}

/** The whole lines of a segment; what is after the last newline was told to nobody. */
async function* linesOf(folder: AuditFolder, name: string): AsyncGenerator<string> {
  const file = await folder.openForReading(name);
  if (file === null) return;
  try {
    yield* splitLines(file);
  } finally {
    await file.close();
  }
}

async function* splitLines(file: AuditReader): AsyncGenerator<string> {
  let rest = '';
  for (let position = 0; ; ) {
    const chunk = await file.read(position, CHUNK_BYTES);
    if (chunk.length === 0) return;
    position += chunk.length;
    const lines = (rest + Buffer.from(chunk).toString('latin1')).split('\n');
    rest = lines.pop() ?? '';
    // No line is that long: what follows, up to the next newline, is none either.
    if (rest.length > LIMITS.auditLineBytes) rest = rest.slice(0, LIMITS.auditLineBytes);
    yield* lines;
  }
}

/** Null for a line that is not about an instance, or not one of Kedge. */
function readRecord(line: string): IssuedRecord | null {
  let record: Readonly<Record<string, unknown>>;
  try {
    record = JSON.parse(line) as Readonly<Record<string, unknown>>;
  } catch {
    return null;
  }
  const text = (name: string): string => {
    const value = record[name];
    return typeof value === 'string' ? value : '';
  };
  const issuedAtMs = Date.parse(text('time'));
  const notAfterMs = Date.parse(text('not_after'));
  const podUid = text('pod_uid');
  if (podUid === '' || Number.isNaN(issuedAtMs) || Number.isNaN(notAfterMs)) return null;
  return {
    podUid,
    cluster: text('cluster'),
    namespace: text('namespace'),
    podName: text('pod_name'),
    spiffeId: text('spiffe_id'),
    serialNumber: text('serial'),
    issuerId: text('issuer_id'),
    issuedAtMs,
    notAfterMs,
  };
}
