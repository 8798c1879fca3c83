/**
 * The rules of DER for the content of each primitive universal type. Each function gives null when the content
 * octets `[start, end)` are the one encoding that DER allows, else what is wrong with them.
 */
import { octetAt } from './bytes.ts';
import { TAG } from './der-tag.ts';
import { isOidContent } from './oid.ts';
import { parseTimeText } from './x509-time.ts';

/** A primitive's content rule. */
export type ContentRule = (bytes: Uint8Array, start: number, end: number) => string | null;

/** X.690 section 11.1: one octet, 0x00 or 0xff. */
export function booleanFault(bytes: Uint8Array, start: number, end: number): string | null {
  const value = bytes[start];
  return end - start === 1 && (value === 0x00 || value === 0xff)
    ? null
    : 'a BOOLEAN that is neither 0x00 nor 0xff';
}

/** X.690 section 8.3.2: at least one octet, and no octet that the sign bit makes needless. */
export function integerFault(bytes: Uint8Array, start: number, end: number): string | null {
  if (start >= end) return 'an INTEGER without octets';
  if (end - start === 1) return null;
  const first = octetAt(bytes, start);
  const nextIsHigh = (octetAt(bytes, start + 1) & 0x80) !== 0;
  return (first === 0x00 && !nextIsHigh) || (first === 0xff && nextIsHigh)
    ? 'an INTEGER that is not in the fewest octets'
    : null;
}

/** X.690 section 8.6.2 and 11.2.1: 0 to 7 unused bits, all zero, none in an empty string. */
export function bitStringFault(bytes: Uint8Array, start: number, end: number): string | null {
  if (start >= end) return 'a BIT STRING without its first octet';
  const unused = octetAt(bytes, start);
  if (unused > 7 || (unused > 0 && end - start === 1))
    return 'a BIT STRING with an impossible number of unused bits';
  const last = octetAt(bytes, end - 1);
  return unused > 0 && (last & ((1 << unused) - 1)) !== 0
    ? 'a BIT STRING whose unused bits are not zero'
    : null;
}

/** X.690 section 8.8.2. */
export function nullFault(_bytes: Uint8Array, start: number, end: number): string | null {
  return start === end ? null : 'a NULL that is not empty';
}

/** X.690 section 8.19.2. */
export function oidFault(bytes: Uint8Array, start: number, end: number): string | null {
  return isOidContent(bytes, start, end)
    ? null
    : 'an OBJECT IDENTIFIER whose arcs are not in the fewest octets, or are cut off';
}

const utcTimeFault: ContentRule = (bytes, start, end) =>
  Number.isNaN(parseTimeText(bytes, start, end, 'utc'))
    ? 'a UTCTime that is not a real instant written YYMMDDHHMMSSZ'
    : null;

const generalizedTimeFault: ContentRule = (bytes, start, end) =>
  Number.isNaN(parseTimeText(bytes, start, end, 'generalized'))
    ? 'a GeneralizedTime that is not a real instant from 1950 on written YYYYMMDDHHMMSSZ'
    : null;

const anyOctets: ContentRule = () => null;

/** A rule that holds for each octet by itself. */
function eachOctet(type: string, isAllowed: (octet: number) => boolean): ContentRule {
  const allowed = Uint8Array.from({ length: 256 }, (_, octet) => (isAllowed(octet) ? 1 : 0));
  return (bytes, start, end) => {
    for (let i = start; i < end; i += 1)
      if (allowed[octetAt(bytes, i)] !== 1) return `${type} with a character that the type does not have`;
    return null;
  };
}

const isDigit = (c: number): boolean => c >= 0x30 && c <= 0x39;
const isLetter = (c: number): boolean => (c >= 0x41 && c <= 0x5a) || (c >= 0x61 && c <= 0x7a);
/** ITU-T X.680 section 41.4, table 10. */
const PRINTABLE_SIGNS: ReadonlySet<number> = new Set(Buffer.from(" '()+,-./:=?", 'latin1'));

/** X.680 section 41: ASCII. */
export const ia5StringFault = eachOctet('an IA5String', (c) => c < 0x80);

const utf8StringFault: ContentRule = (bytes, start, end) => {
  let i = start;
  while (i < end && octetAt(bytes, i) < 0x80) i += 1;
  if (i === end) return null;
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(i, end));
    return null;
  } catch {
    return 'a UTF8String that is not UTF-8';
  }
};

/** A string of big-endian code points, `width` octets each, none of them a surrogate or beyond Unicode. */
function codePoints(type: string, width: 2 | 4): ContentRule {
  return (bytes, start, end) => {
    if ((end - start) % width !== 0) return `${type} that ends inside a character`;
    for (let i = start; i < end; i += width) {
      let point = 0;
      for (let k = 0; k < width; k += 1) point = point * 0x100 + octetAt(bytes, i + k);
      if (point > 0x10_ffff || (point >= 0xd800 && point <= 0xdfff))
        return `${type} with something that is not a character`;
    }
    return null;
  };
}

/** The rule of each primitive universal type that X.509 uses, by its identifier octet. */
export const CONTENT_RULES: ReadonlyMap<number, ContentRule> = new Map<number, ContentRule>([
  [TAG.boolean, booleanFault],
  [TAG.integer, integerFault],
  [TAG.enumerated, integerFault],
  [TAG.bitString, bitStringFault],
  [TAG.octetString, anyOctets],
  [TAG.null, nullFault],
  [TAG.oid, oidFault],
  [TAG.utf8String, utf8StringFault],
  [TAG.numericString, eachOctet('a NumericString', (c) => c === 0x20 || isDigit(c))],
  [
    TAG.printableString,
    eachOctet('a PrintableString', (c) => isLetter(c) || isDigit(c) || PRINTABLE_SIGNS.has(c)),
  ],
  [TAG.teletexString, anyOctets],
  [TAG.ia5String, ia5StringFault],
  [TAG.utcTime, utcTimeFault],
  [TAG.generalizedTime, generalizedTimeFault],
  [TAG.visibleString, eachOctet('a VisibleString', (c) => c >= 0x20 && c < 0x7f)],
  [TAG.universalString, codePoints('a UniversalString', 4)],
  [TAG.bmpString, codePoints('a BMPString', 2)],
]);
