/** One DER element by its place in the input: header, content, and everything inside. */
import { octetAt } from './bytes.ts';
import { TAG, tagName } from './der-tag.ts';
import { CONTENT_RULES } from './der-values.ts';
import { LIMITS } from './limits.ts';

/** Refuses, naming a fault and the offset of the element that has it. */
export type Refuse = (fault: string, offset: number) => never;

/** Three octets say 16 MiB, more than any input that Kedge reads. */
const MAX_LENGTH_OCTETS = 3;

/**
 * What is wrong with identifier and length octets at `offset`, null for nothing: a tag number above 30, a length that
 * is indefinite or not in the fewest octets, an element that ends behind `end` (X.690 sections 8.1.2, 8.1.3, 10.1).
 */
export function headerFault(bytes: Uint8Array, offset: number, end: number): string | null {
  if (end - offset < 2) return 'an element that is cut off';
  if ((octetAt(bytes, offset) & 0x1f) === 0x1f) return 'a tag number above 30';
  const first = octetAt(bytes, offset + 1);
  if (first >= 0x80) {
    const octets = first & 0x7f;
    if (octets === 0) return 'an indefinite length';
    if (octets > MAX_LENGTH_OCTETS) return 'a length beyond any input';
    if (end - offset - 2 < octets) return 'an element that is cut off';
    const length = lengthAt(bytes, offset);
    if (length < 0x80 || length < 2 ** (8 * (octets - 1))) return 'a length that is not in the fewest octets';
  }
  return lengthAt(bytes, offset) > end - contentAt(bytes, offset) ? 'an element that is cut off' : null;
}

/** Where the content of the element at `offset` begins; its header has no fault. */
export function contentAt(bytes: Uint8Array, offset: number): number {
  const first = octetAt(bytes, offset + 1);
  return offset + 2 + (first < 0x80 ? 0 : first & 0x7f);
}

/** How long the content of the element at `offset` is; its header has no fault. */
export function lengthAt(bytes: Uint8Array, offset: number): number {
  const first = octetAt(bytes, offset + 1);
  if (first < 0x80) return first;
  let length = 0;
  for (let i = 0; i < (first & 0x7f); i += 1) length = length * 0x100 + octetAt(bytes, offset + 2 + i);
  return length;
}

/**
 * Checks the element at `offset` and everything inside, `depth` levels below the input; gives the offset behind it.
 * Under a context tag, primitive content is any octets: only the type says more.
 */
export function walkElement(
  bytes: Uint8Array,
  offset: number,
  end: number,
  depth: number,
  refuse: Refuse,
): number {
  if (depth > LIMITS.derDepth) refuse(`elements nested deeper than ${LIMITS.derDepth}`, offset);
  const fault = headerFault(bytes, offset, end);
  if (fault !== null) refuse(fault, offset);
  const tag = octetAt(bytes, offset);
  const start = contentAt(bytes, offset);
  const stop = start + lengthAt(bytes, offset);
  const isUniversal = (tag & 0xc0) === 0;
  const isConstructed = (tag & 0x20) !== 0;
  if (isUniversal && tag !== TAG.sequence && tag !== TAG.set) {
    const rule = CONTENT_RULES.get(tag);
    if (rule === undefined) return refuse(`${tagName(tag)}, which DER or X.509 does not have,`, offset);
    const wrong = rule(bytes, start, stop);
    if (wrong !== null) refuse(wrong, offset);
  } else if (isConstructed) {
    walkContent(bytes, start, stop, depth + 1, tag === TAG.set, refuse);
  }
  return stop;
}

/** Checks the elements in `[start, stop)`, and the order of a SET OF (X.690 section 11.6). */
function walkContent(
  bytes: Uint8Array,
  start: number,
  stop: number,
  depth: number,
  isOrdered: boolean,
  refuse: Refuse,
): void {
  let previous = start;
  for (let next = start; next < stop; ) {
    const after = walkElement(bytes, next, stop, depth, refuse);
    if (isOrdered && Buffer.compare(bytes.subarray(previous, next), bytes.subarray(next, after)) > 0)
      refuse('a SET OF out of order', next);
    previous = next;
    next = after;
  }
}
