import type { ErrorCode } from '../../pki/error-table.ts';
import { LIMITS } from '../../pki/limits.ts';
import { type AuditHead, formatHead, lineHash, parseLine } from './audit-line.ts';
import { suppressedCount } from './audit-suppressed.ts';

/** The first place at which the log is not what was written. */
export interface AuditBreak {
  readonly code: Extract<ErrorCode, 'audit_chain_broken' | 'audit_malformed'>;
  /** Null when the break is in no segment: the end of the log is missing. */
  readonly segment: string | null;
  /** Number of the line in that segment, from 1. */
  readonly line: number | null;
  readonly reason: string;
}

/** Follows the chain line by line. After the first break it takes no more. */
export class ChainCheck {
  /** The last good line. */
  head: AuditHead;
  records = 0;
  suppressedRefusals = 0;
  tornBytes = 0;
  brokenAt: AuditBreak | null = null;
  #segment = '';
  #line = 0;
  #isLast = false;
  /** Heads known from elsewhere that lie ahead. */
  readonly #anchors: Map<number, string>;

  /** `start`: the line before the first; `anchors`: lines that are known from elsewhere. */
  constructor(start: AuditHead, anchors: readonly AuditHead[]) {
    this.head = start;
    this.#anchors = new Map();
    for (const { seq, hash } of anchors) {
      const other = this.#anchors.get(seq) ?? (seq === start.seq ? start.hash : hash);
      if (other !== hash) this.#break('audit_chain_broken', `two heads are known for line ${seq}`);
      this.#anchors.set(seq, hash);
    }
  }

  /** A segment begins; its name says which line it begins with. */
  enter(name: string, firstSeq: number, isLast: boolean): void {
    this.#segment = name;
    this.#line = 0;
    this.#isLast = isLast;
    if (firstSeq !== this.head.seq + 1) {
      this.#break(
        'audit_chain_broken',
        `line ${this.head.seq + 1} is missing: the segment begins with ${firstSeq}`,
      );
    }
  }

  /** The next line, without its newline. */
  line(bytes: Uint8Array): void {
    if (this.brokenAt !== null) return;
    this.#line += 1;
    const parsed = bytes.length < LIMITS.auditLineBytes ? parseLine(bytes) : null;
    if (parsed === null) {
      this.#break('audit_malformed', 'the line is not one of Kedge');
    } else if (parsed.seq !== this.head.seq + 1) {
      this.#break('audit_chain_broken', `line ${this.head.seq + 1} is expected, this is line ${parsed.seq}`);
    } else if (parsed.prev !== this.head.hash) {
      const which = this.records === 0 ? 'what the log is said to begin after' : 'the line before';
      this.#break(
        'audit_chain_broken',
        `it does not carry the digest of ${which}: one of the two was altered`,
      );
    } else {
      const suppressed = parsed.event === 'refusals.suppressed' ? suppressedCount(parsed.record) : 0;
      if (suppressed === null) {
        this.#break('audit_malformed', 'the refusals that the line sums up do not add up');
        return;
      }
      this.suppressedRefusals += suppressed;
      this.#advance({ seq: parsed.seq, hash: lineHash(bytes) });
    }
  }

  /** The segment ends, with so many bytes after its last line. */
  leave(restBytes: number): void {
    if (this.brokenAt !== null) return;
    if (restBytes > 0 && !this.#isLast) {
      this.#line += 1;
      this.#break('audit_malformed', 'the last line of a segment that is not the last is cut short');
    }
    this.tornBytes = restBytes;
  }

  /** Once everything is read: what is known to have been committed must have been there. */
  finish(): void {
    if (this.brokenAt !== null) return;
    const missing = Math.max(...this.#anchors.keys(), 0);
    if (missing <= this.head.seq) return;
    this.brokenAt = {
      code: 'audit_chain_broken',
      segment: null,
      line: null,
      reason: `the log ends with line ${this.head.seq}, but line ${missing} was committed: the end was removed`,
    };
  }

  #advance(next: AuditHead): void {
    const known = this.#anchors.get(next.seq);
    if (known !== undefined && known !== next.hash) {
      this.#break(
        'audit_chain_broken',
        `the head ${formatHead({ seq: next.seq, hash: known })} was another line`,
      );
      return;
    }
    this.head = next;
    this.records += 1;
  }

  #break(code: AuditBreak['code'], reason: string): void {
    this.brokenAt ??= {
      code,
      segment: this.#segment === '' ? null : this.#segment,
      line: this.#line || null,
      reason,
    };
  }
}
