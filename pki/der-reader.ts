import { octetAt } from './bytes.ts';
import { contentAt, headerFault, lengthAt, walkElement } from './der-element.ts';
import { bitStringFault, booleanFault, integerFault, oidFault } from './der-values.ts';
import { TAG, tagName } from './der-tag.ts';
import type { ErrorCode } from './error-table.ts';
import { KedgeError } from './kedge-error.ts';
import { LIMITS } from './limits.ts';
import { decodeOid } from './oid.ts';
import { parseTimeText } from './x509-time.ts';

/** What a reader says when it refuses: the error code, and what the bytes should have been, with its article. */
export interface DerSubject {
  readonly code: ErrorCode;
  /** `the CSR`, `the certificate`. */
  readonly what: string;
}

/**
 * A cursor over the elements of strict DER (X.690): definite lengths in the fewest octets, low tag numbers,
 * bounded depth, and the one encoding that each type has. Anything else is refused with the subject's code and the
 * offset of the fault.
 *
 * What it gives are views of the input, not copies: whoever owns the input must not change it while they are used.
 * A reader must be ended with {@link DerReader.end}, which is what refuses trailing bytes.
 */
export class DerReader {
  readonly #bytes: Uint8Array;
  readonly #subject: DerSubject;
  readonly #depth: number;
  readonly #end: number;
  /** Where the next element begins. */
  #offset: number;
  /** The content of the element whose header was read last. */
  #contentStart = 0;
  #contentEnd = 0;

  private constructor(bytes: Uint8Array, subject: DerSubject, depth: number, start: number, end: number) {
    this.#bytes = bytes;
    this.#subject = subject;
    this.#depth = depth;
    this.#offset = start;
    this.#end = end;
  }

  /** A reader of all of `bytes`, which the caller has bounded in size. */
  static of(bytes: Uint8Array, subject: DerSubject): DerReader {
    return new DerReader(bytes, subject, 0, 0, bytes.length);
  }

  /** True when no element is left. */
  get atEnd(): boolean {
    return this.#offset >= this.#end;
  }

  /** True when another element follows and its identifier octet is `tag`. */
  is(tag: number): boolean {
    return this.#offset < this.#end && this.#bytes[this.#offset] === tag;
  }

  /** Ends the reading: refuses what is left over. */
  end(): void {
    if (this.#offset < this.#end) this.fail('trailing bytes');
  }

  /** Refuses, naming the place of the next element. */
  fail(fault: string): never {
    return this.#failAt(fault, this.#offset);
  }

  /** Refuses for a reason beyond DER: a rule of the structure itself. */
  refuse(fault: string): never {
    const { code, what } = this.#subject;
    throw new KedgeError(code, `${what} is malformed: ${fault}`);
  }

  /** Reads the element `tag`; gives its content octets. */
  content(tag: number): Uint8Array {
    this.#take(tag);
    return this.#bytes.subarray(this.#contentStart, this.#contentEnd);
  }

  /** Reads the constructed element `tag`; gives a reader of the elements in it. */
  enter(tag: number): DerReader {
    this.#take(tag);
    return this.#inside();
  }

  /** The same for an element that may be absent. */
  enterOptional(tag: number): DerReader | null {
    return this.is(tag) ? this.enter(tag) : null;
  }

  /** Reads the next element, whatever it is, and checks everything inside. */
  skip(): void {
    this.#offset = walkElement(this.#bytes, this.#offset, this.#end, this.#depth, (fault, offset) =>
      this.#failAt(fault, offset),
    );
  }

  /** The same, and gives it whole, header included. */
  any(): Uint8Array {
    const start = this.#offset;
    this.skip();
    return this.#bytes.subarray(start, this.#offset);
  }

  /** The same for the element `tag`. */
  whole(tag: number): Uint8Array {
    // Refuses another tag by its name.
    if (!this.is(tag)) this.#take(tag);
    return this.any();
  }

  /** The same, and gives a reader of what is inside. */
  wholeAndInside(tag: number): DerReader {
    const start = this.#offset;
    if (!this.is(tag)) this.#take(tag);
    this.skip();
    this.#offset = start;
    return this.enter(tag);
  }

  /**
   * Reads the element `tag` and gives it whole and unread, with a reader of what is inside. That reader's owner
   * checks the inside.
   */
  open(tag: number): { readonly der: Uint8Array; readonly inside: DerReader } {
    const start = this.#offset;
    this.#take(tag);
    return { der: this.#bytes.subarray(start, this.#offset), inside: this.#inside() };
  }

  /** BOOLEAN. */
  boolean(): boolean {
    this.#take(TAG.boolean);
    this.#hold(booleanFault(this.#bytes, this.#contentStart, this.#contentEnd));
    return this.#bytes[this.#contentStart] === 0xff;
  }

  /** `BOOLEAN DEFAULT FALSE`: false when absent, and FALSE is not to be written (X.690 section 11.5). */
  booleanDefaultFalse(): boolean {
    if (!this.is(TAG.boolean)) return false;
    if (!this.boolean()) this.fail('a FALSE that is the default and should be absent');
    return true;
  }

  /** INTEGER (or what an implicit tag makes of it): the content octets, two's complement, the fewest. */
  integer(tag: number = TAG.integer): Uint8Array {
    this.#takeInteger(tag);
    return this.#bytes.subarray(this.#contentStart, this.#contentEnd);
  }

  /** INTEGER from 0 to 2^31 - 1, as a number. */
  smallInteger(tag: number = TAG.integer): number {
    this.#takeInteger(tag);
    const start = this.#contentStart;
    let value = octetAt(this.#bytes, start);
    if (value >= 0x80 || this.#contentEnd - start > 4) this.fail('an INTEGER out of range');
    for (let i = start + 1; i < this.#contentEnd; i += 1) value = value * 0x100 + octetAt(this.#bytes, i);
    return value;
  }

  /** OBJECT IDENTIFIER: checked and passed over. */
  skipOid(): void {
    this.#take(TAG.oid);
    this.#hold(oidFault(this.#bytes, this.#contentStart, this.#contentEnd));
  }

  /** OBJECT IDENTIFIER: its content octets. */
  oidContent(): Uint8Array {
    this.skipOid();
    return this.#bytes.subarray(this.#contentStart, this.#contentEnd);
  }

  /** OBJECT IDENTIFIER: dotted. */
  oid(): string {
    return decodeOid(this.oidContent());
  }

  /** BIT STRING that holds whole octets, as keys and signatures do: those octets. */
  bitStringOctets(): Uint8Array {
    this.#take(TAG.bitString);
    this.#hold(bitStringFault(this.#bytes, this.#contentStart, this.#contentEnd));
    if (this.#bytes[this.#contentStart] !== 0) this.fail('a BIT STRING that is not whole octets');
    return this.#bytes.subarray(this.#contentStart + 1, this.#contentEnd);
  }

  /**
   * BIT STRING of a named bit list with at most 32 names, under its own or an implicit tag: bit 0 of the list is
   * bit 0 (value 1) of the answer. Trailing zero bits are refused (X.690 section 11.2.2).
   */
  namedBits(tag: number = TAG.bitString): number {
    this.#take(tag);
    const start = this.#contentStart;
    const end = this.#contentEnd;
    this.#hold(bitStringFault(this.#bytes, start, end));
    const octets = end - start - 1;
    if (octets > 4) this.fail('a named bit list with unknown bits');
    const unused = octetAt(this.#bytes, start);
    if (octets > 0 && (octetAt(this.#bytes, end - 1) & (1 << unused)) === 0)
      this.fail('a named bit list with trailing zero bits');
    let bits = 0;
    for (let i = 0; i < octets * 8; i += 1)
      if ((octetAt(this.#bytes, start + 1 + (i >> 3)) & (0x80 >> (i & 7))) !== 0) bits |= 1 << i;
    return bits >>> 0;
  }

  /** UTCTime or GeneralizedTime, whichever comes: ms since the epoch. */
  time(): number {
    const kind = this.is(TAG.generalizedTime) ? 'generalized' : 'utc';
    const start = this.#offset;
    this.#take(kind === 'generalized' ? TAG.generalizedTime : TAG.utcTime);
    const ms = parseTimeText(this.#bytes, this.#contentStart, this.#contentEnd, kind);
    if (Number.isNaN(ms)) {
      this.#offset = start;
      this.fail('a time that is not a real instant in UTC, with seconds and without fractions');
    }
    return ms;
  }

  #takeInteger(tag: number): void {
    this.#take(tag);
    this.#hold(integerFault(this.#bytes, this.#contentStart, this.#contentEnd));
  }

  /** A reader of the content of the element read last. */
  #inside(): DerReader {
    if (this.#depth >= LIMITS.derDepth) this.fail(`elements nested deeper than ${LIMITS.derDepth}`);
    return new DerReader(this.#bytes, this.#subject, this.#depth + 1, this.#contentStart, this.#contentEnd);
  }

  #failAt(fault: string, offset: number): never {
    const { code, what } = this.#subject;
    throw new KedgeError(code, `${what} is not valid DER: ${fault} at offset ${offset}`, {
      hint: `give ${what} as it came from its maker, whole and in DER`,
    });
  }

  #hold(fault: string | null): void {
    if (fault !== null) this.fail(fault);
  }

  /** Reads the header of the element `tag` and steps over the element. */
  #take(tag: number): void {
    if (this.#offset >= this.#end) this.fail(`no ${tagName(tag)} where one is due`);
    const found = octetAt(this.#bytes, this.#offset);
    if (found !== tag) this.fail(`${tagName(found)} where ${tagName(tag)} is due`);
    this.#hold(headerFault(this.#bytes, this.#offset, this.#end));
    this.#contentStart = contentAt(this.#bytes, this.#offset);
    this.#contentEnd = this.#contentStart + lengthAt(this.#bytes, this.#offset);
    this.#offset = this.#contentEnd;
  }
}
