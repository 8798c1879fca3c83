/**
 * DER, written by composing elements (X.690). Each function gives one whole element: tag, length and content.
 *
 * Arguments come from Kedge itself, so one that has no encoding is a programming mistake and throws TypeError or
 * RangeError.
 */
import { concatBytes, octetAt } from './bytes.ts';
import { TAG } from './der-tag.ts';
import { encodeOid } from './oid.ts';
import { GENERALIZED_TIME_FROM_MS, TIME_FROM_MS, TIME_LIMIT_MS, writeTimeText } from './x509-time.ts';

/** How many octets tag and length take before `contentLength` octets of content. */
export function headerOctets(contentLength: number): number {
  if (contentLength < 0x80) return 2;
  if (contentLength < 0x100) return 3;
  if (contentLength < 0x1_0000) return 4;
  if (contentLength < 0x100_0000) return 5;
  throw new RangeError(`no element of Kedge holds ${contentLength} octets`);
}

/** Writes tag and length at `offset` of `target`; returns the offset behind them, where the content goes. */
export function writeHeader(target: Uint8Array, offset: number, tag: number, contentLength: number): number {
  const octets = headerOctets(contentLength);
  target[offset] = tag;
  if (octets === 2) {
    target[offset + 1] = contentLength;
    return offset + 2;
  }
  const lengthOctets = octets - 2;
  target[offset + 1] = 0x80 | lengthOctets;
  for (let i = 0; i < lengthOctets; i += 1)
    target[offset + 2 + i] = (contentLength >>> (8 * (lengthOctets - 1 - i))) & 0xff;
  return offset + octets;
}

/** One element whose content is all of `content`, one after the other. */
export function derElement(tag: number, ...content: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of content) length += part.length;
  const der = new Uint8Array(headerOctets(length) + length);
  let offset = writeHeader(der, 0, tag, length);
  for (const part of content) {
    der.set(part, offset);
    offset += part.length;
  }
  return der;
}

/** SEQUENCE or SEQUENCE OF. */
export function derSequence(...elements: readonly Uint8Array[]): Uint8Array {
  return derElement(TAG.sequence, ...elements);
}

/** SET OF, its elements put in DER's order (X.690 section 11.6). */
export function derSetOf(...elements: readonly Uint8Array[]): Uint8Array {
  return derElement(TAG.set, ...elements.toSorted((a, b) => Buffer.compare(a, b)));
}

/** `[number]` around whole elements: EXPLICIT, or the IMPLICIT of a constructed type given its content. */
export function derContext(number: number, ...elements: readonly Uint8Array[]): Uint8Array {
  return derElement(0xa0 | contextNumber(number), ...elements);
}

/** `[number] IMPLICIT` of a primitive type, given its content octets. */
export function derContextPrimitive(number: number, content: Uint8Array): Uint8Array {
  return derElement(0x80 | contextNumber(number), content);
}

function contextNumber(number: number): number {
  if (!Number.isInteger(number) || number < 0 || number > 30)
    throw new RangeError(`no context tag ${number}`);
  return number;
}

/** BOOLEAN. */
export function derBoolean(value: boolean): Uint8Array {
  return derElement(TAG.boolean, Uint8Array.of(value ? 0xff : 0x00));
}

/** INTEGER of a number from 0 up. */
export function derInteger(value: number): Uint8Array {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`not a whole number: ${value}`);
  const octets: number[] = [];
  for (let left = value; left > 0; left = Math.floor(left / 0x100)) octets.unshift(left % 0x100);
  return derUnsignedInteger(Uint8Array.from(octets));
}

/** INTEGER of an unsigned big-endian number; leading zeros do not matter. */
export function derUnsignedInteger(magnitude: Uint8Array): Uint8Array {
  return derElement(TAG.integer, unsignedIntegerContent(magnitude));
}

/**
 * The content octets of the INTEGER with an unsigned big-endian magnitude: the fewest octets, the first bit 0
 * (X.690 section 8.3). May be a view of `magnitude`.
 */
export function unsignedIntegerContent(magnitude: Uint8Array): Uint8Array {
  let start = 0;
  while (start < magnitude.length && magnitude[start] === 0) start += 1;
  const first = magnitude[start];
  if (first === undefined) return Uint8Array.of(0);
  if (first < 0x80) return magnitude.subarray(start);
  const content = new Uint8Array(magnitude.length - start + 1);
  content.set(magnitude.subarray(start), 1);
  return content;
}

/** OBJECT IDENTIFIER, from its dotted form. */
export function derOid(dotted: string): Uint8Array {
  return derElement(TAG.oid, encodeOid(dotted));
}

/** NULL. */
export function derNull(): Uint8Array {
  return derElement(TAG.null);
}

/** OCTET STRING. */
export function derOctetString(...content: readonly Uint8Array[]): Uint8Array {
  return derElement(TAG.octetString, ...content);
}

/** BIT STRING of whole octets. */
export function derBitString(octets: Uint8Array): Uint8Array {
  return derElement(TAG.bitString, Uint8Array.of(0), octets);
}

/** BIT STRING of a named bit list: the bits by number, trailing zeros left out (X.690 section 11.2.2). */
export function derNamedBits(bits: readonly number[]): Uint8Array {
  const last = Math.max(-1, ...bits);
  const octets = new Uint8Array(Math.ceil((last + 1) / 8));
  for (const bit of bits) octets[bit >> 3] = octetAt(octets, bit >> 3) | (0x80 >> (bit & 7));
  const unusedBits = octets.length * 8 - (last + 1);
  return derElement(TAG.bitString, Uint8Array.of(unusedBits), octets);
}

/** UTF8String. */
export function derUtf8String(text: string): Uint8Array {
  if (!text.isWellFormed()) throw new TypeError('a lone surrogate has no UTF-8 encoding');
  return derElement(TAG.utf8String, Buffer.from(text, 'utf8'));
}

/** The octets of an IA5String, for an implicit tag. */
export function ia5Octets(text: string): Uint8Array {
  const octets = Buffer.from(text, 'utf8');
  if (octets.length !== text.length) throw new TypeError('not ASCII');
  return octets;
}

/** The time at `ms` since the epoch, cut to the second: UTCTime through 2049, then GeneralizedTime. */
export function derTime(ms: number): Uint8Array {
  if (!(ms >= TIME_FROM_MS && ms < TIME_LIMIT_MS)) throw new RangeError(`no X.509 time at ${ms} ms`);
  const text = new Uint8Array(15);
  const length = writeTimeText(text, 0, ms);
  const tag = ms >= GENERALIZED_TIME_FROM_MS ? TAG.generalizedTime : TAG.utcTime;
  return derElement(tag, text.subarray(0, length));
}

/** One X.509 extension (RFC 5280 section 4.1), given the DER of its value. */
export function derExtension(oid: string, critical: boolean, value: Uint8Array): Uint8Array {
  // DER leaves a DEFAULT out, so "not critical" is written by nothing (X.690 section 11.5).
  const criticality = critical ? derBoolean(true) : new Uint8Array(0);
  return derSequence(concatBytes(derOid(oid), criticality, derOctetString(value)));
}
