import type { DerReader } from './der-reader.ts';
import { TAG } from './der-tag.ts';

/** The types of attribute values in a Name: DirectoryString and what else X.520 and RFC 4519 give to attributes. */
const VALUE_TAGS: readonly number[] = [
  TAG.utf8String,
  TAG.printableString,
  TAG.ia5String,
  TAG.teletexString,
  TAG.bmpString,
  TAG.universalString,
  TAG.numericString,
  TAG.bitString,
];

/**
 * Reads a Name (RFC 5280 section 4.1.2.4) and gives it whole, DER: a sequence of sets, each with at least one
 * attribute of a type and a value. Names are compared by their bytes, so nobody decodes the strings here.
 */
export function readName(reader: DerReader): Uint8Array {
  const { der, inside } = reader.open(TAG.sequence);
  while (!inside.atEnd) readRelativeName(inside);
  return der;
}

function readRelativeName(reader: DerReader): void {
  // Checks every value and the order of the set; what follows checks the shape.
  const set = reader.wholeAndInside(TAG.set);
  if (set.atEnd) reader.refuse('a Name with an empty relative name');
  while (!set.atEnd) {
    const attribute = set.enter(TAG.sequence);
    attribute.skipOid();
    if (!VALUE_TAGS.some((tag) => attribute.is(tag)))
      attribute.refuse('a Name with a value that is no string');
    attribute.skip();
    attribute.end();
  }
}
