import { octetAt, toLatin1 } from './bytes.ts';
import type { DerReader } from './der-reader.ts';
import { TAG } from './der-tag.ts';
import { ia5StringFault } from './der-values.ts';
import { readName } from './distinguished-name.ts';

/** A name in a SubjectAltName, or the base of a name constraint (RFC 5280 section 4.2.1.6). */
export type GeneralName =
  | { readonly kind: 'email' | 'dns' | 'uri'; readonly value: string }
  /** `octets`: 4 or 16 in a SubjectAltName, 8 or 32 (address, mask) in a name constraint. */
  | { readonly kind: 'ip'; readonly octets: Uint8Array }
  /** `der`: the Name. */
  | { readonly kind: 'directory'; readonly der: Uint8Array }
  /** A form that Kedge does not look into: otherName, x400Address, ediPartyName, registeredID. */
  | { readonly kind: 'other'; readonly der: Uint8Array };

/** The context tags of the forms, as identifier octets. */
const FORM = { email: 0x81, dns: 0x82, directory: 0xa4, uri: 0x86, ip: 0x87 } as const;
/** Forms that are only checked for DER: otherName, x400Address, ediPartyName, registeredID. */
const OTHER_FORMS: ReadonlySet<number> = new Set([0xa0, 0xa3, 0xa5, 0x88]);

/** The identifier octet of a uniformResourceIdentifier and of a dNSName, for writers. */
export const URI_NAME_TAG = FORM.uri;
export const DNS_NAME_TAG = FORM.dns;

/** Reads one GeneralName. `place` says how long an iPAddress must be. */
export function readGeneralName(reader: DerReader, place: 'name' | 'constraint'): GeneralName {
  if (reader.is(FORM.uri)) return { kind: 'uri', value: readIa5(reader, FORM.uri) };
  if (reader.is(FORM.dns)) return { kind: 'dns', value: readIa5(reader, FORM.dns) };
  if (reader.is(FORM.email)) return { kind: 'email', value: readIa5(reader, FORM.email) };
  if (reader.is(FORM.ip)) return { kind: 'ip', octets: readAddress(reader, place) };
  if (reader.is(FORM.directory)) return { kind: 'directory', der: readDirectoryName(reader) };
  const der = reader.any();
  if (!OTHER_FORMS.has(octetAt(der, 0))) reader.refuse('a GeneralName of no known form');
  return { kind: 'other', der };
}

/** Reads every GeneralName that is left, at least one. */
export function readGeneralNames(reader: DerReader): GeneralName[] {
  const names: GeneralName[] = [];
  while (!reader.atEnd) names.push(readGeneralName(reader, 'name'));
  if (names.length === 0) reader.refuse('a list of names without a name');
  return names;
}

function readIa5(reader: DerReader, tag: number): string {
  const octets = reader.content(tag);
  const fault = ia5StringFault(octets, 0, octets.length);
  if (fault !== null) reader.refuse(fault);
  return toLatin1(octets);
}

function readAddress(reader: DerReader, place: 'name' | 'constraint'): Uint8Array {
  const octets = reader.content(FORM.ip);
  const addressOctets = place === 'name' ? octets.length : octets.length / 2;
  if (addressOctets !== 4 && addressOctets !== 16) reader.refuse('an iPAddress of a wrong length');
  return octets;
}

/** `[4]` is EXPLICIT, since a Name is a CHOICE. */
function readDirectoryName(reader: DerReader): Uint8Array {
  const inside = reader.enter(FORM.directory);
  if (!inside.is(TAG.sequence)) inside.refuse('a directoryName that is not a Name');
  const der = readName(inside);
  inside.end();
  return der;
}
