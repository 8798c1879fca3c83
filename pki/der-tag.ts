/** Identifier octets of the universal types that X.509 uses (X.690 section 8.1.2), constructed bit included. */
export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  enumerated: 0x0a,
  utf8String: 0x0c,
  numericString: 0x12,
  printableString: 0x13,
  teletexString: 0x14,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  visibleString: 0x1a,
  universalString: 0x1c,
  bmpString: 0x1e,
  sequence: 0x30,
  set: 0x31,
} as const;

const NAMES: ReadonlyMap<number, string> = new Map([
  [TAG.boolean, 'BOOLEAN'],
  [TAG.integer, 'INTEGER'],
  [TAG.bitString, 'BIT STRING'],
  [TAG.octetString, 'OCTET STRING'],
  [TAG.null, 'NULL'],
  [TAG.oid, 'OBJECT IDENTIFIER'],
  [TAG.enumerated, 'ENUMERATED'],
  [TAG.utf8String, 'UTF8String'],
  [TAG.numericString, 'NumericString'],
  [TAG.printableString, 'PrintableString'],
  [TAG.teletexString, 'TeletexString'],
  [TAG.ia5String, 'IA5String'],
  [TAG.utcTime, 'UTCTime'],
  [TAG.generalizedTime, 'GeneralizedTime'],
  [TAG.visibleString, 'VisibleString'],
  [TAG.universalString, 'UniversalString'],
  [TAG.bmpString, 'BMPString'],
  [TAG.sequence, 'SEQUENCE'],
  [TAG.set, 'SET'],
]);

/** The name of an identifier octet, for messages: `INTEGER`, `[0]`, `tag 0x24`. */
export function tagName(tag: number): string {
  const known = NAMES.get(tag);
  if (known !== undefined) return known;
  if ((tag & 0xc0) === 0x80) return `[${tag & 0x1f}]`;
  return `tag 0x${tag.toString(16).padStart(2, '0')}`;
}
