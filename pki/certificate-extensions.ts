import { octetAt } from './bytes.ts';
import { DerReader, type DerSubject } from './der-reader.ts';
import { TAG } from './der-tag.ts';
import type { Extension } from './extension.ts';
import { type GeneralName, readGeneralName, readGeneralNames } from './general-name.ts';
import { decodeOid } from './oid.ts';

/** RFC 5280 section 4.2.1.9. */
export interface BasicConstraints {
  readonly critical: boolean;
  readonly ca: boolean;
  /** Intermediate CA certificates that may follow; undefined for no limit. */
  readonly pathLength: number | undefined;
}

/** The bits of a KeyUsage, by position (RFC 5280 section 4.2.1.3). */
export const KEY_USAGE_NAMES = [
  'digitalSignature',
  'nonRepudiation',
  'keyEncipherment',
  'dataEncipherment',
  'keyAgreement',
  'keyCertSign',
  'cRLSign',
  'encipherOnly',
  'decipherOnly',
] as const;
export type KeyUsageName = (typeof KEY_USAGE_NAMES)[number];

export interface KeyUsage {
  readonly critical: boolean;
  /** At least one. */
  readonly usages: readonly KeyUsageName[];
}

/** RFC 5280 section 4.2.1.12. */
export interface ExtendedKeyUsage {
  readonly critical: boolean;
  /** Dotted OIDs, at least one. */
  readonly purposes: readonly string[];
}

/** RFC 5280 section 4.2.1.6. */
export interface SubjectAltName {
  readonly critical: boolean;
  /** All names, in their order; at least one. */
  readonly names: readonly GeneralName[];
  /** The URIs among them: ASCII, not parsed. */
  readonly uris: readonly string[];
  /** The DNS names among them: ASCII, not parsed. */
  readonly dnsNames: readonly string[];
}

/** RFC 5280 section 4.2.1.10. */
export interface NameConstraints {
  readonly critical: boolean;
  readonly permitted: readonly GeneralName[];
  readonly excluded: readonly GeneralName[];
}

/** The extensions that Kedge knows, each undefined where the certificate lacks it. */
export interface KnownExtensions {
  readonly basicConstraints: BasicConstraints | undefined;
  readonly keyUsage: KeyUsage | undefined;
  readonly extendedKeyUsage: ExtendedKeyUsage | undefined;
  readonly subjectAltName: SubjectAltName | undefined;
  readonly nameConstraints: NameConstraints | undefined;
  /** The octets of subjectKeyIdentifier (RFC 5280 section 4.2.1.2). */
  readonly subjectKeyId: Uint8Array | undefined;
  /** The octets of keyIdentifier in authorityKeyIdentifier, where it has one (RFC 5280 section 4.2.1.1). */
  readonly authorityKeyId: Uint8Array | undefined;
  /** Dotted OIDs of critical extensions that are none of these: whoever relies on the certificate must refuse it. */
  readonly unknownCriticalExtensions: readonly string[];
}

/** The last arcs of the extensions that Kedge knows; all are id-ce, 2.5.29 (RFC 5280 section 4.2.1). */
const ARC = {
  subjectKeyIdentifier: 14,
  keyUsage: 15,
  subjectAltName: 17,
  basicConstraints: 19,
  nameConstraints: 30,
  authorityKeyIdentifier: 35,
  extKeyUsage: 37,
} as const;

/** Reads every extension that Kedge knows, strictly; passes over the others. */
export function readKnownExtensions(extensions: readonly Extension[], subject: DerSubject): KnownExtensions {
  const unknownCriticalExtensions: string[] = [];
  const known: { -readonly [K in keyof KnownExtensions]: KnownExtensions[K] } = {
    basicConstraints: undefined,
    keyUsage: undefined,
    extendedKeyUsage: undefined,
    subjectAltName: undefined,
    nameConstraints: undefined,
    subjectKeyId: undefined,
    authorityKeyId: undefined,
    unknownCriticalExtensions,
  };
  for (const extension of extensions) {
    const { critical, value } = extension;
    const reader = DerReader.of(value, subject);
    switch (standardArc(extension.oidContent)) {
      case ARC.basicConstraints:
        known.basicConstraints = readBasicConstraints(reader, critical);
        break;
      case ARC.keyUsage:
        known.keyUsage = readKeyUsage(reader, critical);
        break;
      case ARC.extKeyUsage:
        known.extendedKeyUsage = readExtendedKeyUsage(reader, critical);
        break;
      case ARC.subjectAltName:
        known.subjectAltName = readSubjectAltName(reader, critical);
        break;
      case ARC.nameConstraints:
        known.nameConstraints = readNameConstraints(reader, critical);
        break;
      case ARC.subjectKeyIdentifier:
        known.subjectKeyId = readSubjectKeyId(reader);
        break;
      case ARC.authorityKeyIdentifier:
        known.authorityKeyId = readAuthorityKeyId(reader);
        break;
      default:
        if (critical) unknownCriticalExtensions.push(decodeOid(extension.oidContent));
    }
  }
  return known;
}

/** The last arc of an OID right below id-ce, 2.5.29, where the arcs above have one octet; else -1. */
function standardArc(oidContent: Uint8Array): number {
  return oidContent.length === 3 && oidContent[0] === 0x55 && oidContent[1] === 0x1d
    ? octetAt(oidContent, 2)
    : -1;
}

function readBasicConstraints(reader: DerReader, critical: boolean): BasicConstraints {
  const value = reader.enter(TAG.sequence);
  reader.end();
  const ca = value.booleanDefaultFalse();
  if (!ca && !value.atEnd) value.refuse('basic constraints with a path length and without cA');
  const pathLength = value.is(TAG.integer) ? value.smallInteger() : undefined;
  value.end();
  return { critical, ca, pathLength };
}

function readKeyUsage(reader: DerReader, critical: boolean): KeyUsage {
  const bits = reader.namedBits();
  reader.end();
  if (bits === 0) reader.refuse('a key usage without a usage');
  if (bits >= 1 << KEY_USAGE_NAMES.length) reader.refuse('a key usage with unknown usages');
  return { critical, usages: KEY_USAGE_NAMES.filter((_, bit) => (bits & (1 << bit)) !== 0) };
}

function readExtendedKeyUsage(reader: DerReader, critical: boolean): ExtendedKeyUsage {
  const value = reader.enter(TAG.sequence);
  reader.end();
  const purposes: string[] = [];
  while (!value.atEnd) purposes.push(value.oid());
  if (purposes.length === 0) value.refuse('an extended key usage without a purpose');
  return { critical, purposes };
}

/** Reads the value of a SubjectAltName. */
export function readSubjectAltName(reader: DerReader, critical: boolean): SubjectAltName {
  const value = reader.enter(TAG.sequence);
  reader.end();
  const names = readGeneralNames(value);
  const uris: string[] = [];
  const dnsNames: string[] = [];
  for (const name of names) {
    if (name.kind === 'uri') uris.push(name.value);
    else if (name.kind === 'dns') dnsNames.push(name.value);
  }
  return { critical, names, uris, dnsNames };
}

function readNameConstraints(reader: DerReader, critical: boolean): NameConstraints {
  const value = reader.enter(TAG.sequence);
  reader.end();
  const permitted = readSubtrees(value.enterOptional(0xa0));
  const excluded = readSubtrees(value.enterOptional(0xa1));
  value.end();
  if (permitted === null && excluded === null) value.refuse('name constraints that constrain nothing');
  return { critical, permitted: permitted ?? [], excluded: excluded ?? [] };
}

/** GeneralSubtrees: minimum is 0 and thus absent, maximum is absent (RFC 5280 section 4.2.1.10). */
function readSubtrees(reader: DerReader | null): GeneralName[] | null {
  if (reader === null) return null;
  const bases: GeneralName[] = [];
  while (!reader.atEnd) {
    const subtree = reader.enter(TAG.sequence);
    bases.push(readGeneralName(subtree, 'constraint'));
    subtree.end();
  }
  if (bases.length === 0) reader.refuse('name constraints with an empty list');
  return bases;
}

function readSubjectKeyId(reader: DerReader): Uint8Array {
  const keyId = reader.content(TAG.octetString);
  reader.end();
  if (keyId.length === 0) reader.refuse('an empty subject key identifier');
  return keyId;
}

/** authorityCertIssuer and authorityCertSerialNumber come both or not at all; Kedge does not use them. */
function readAuthorityKeyId(reader: DerReader): Uint8Array | undefined {
  const value = reader.enter(TAG.sequence);
  reader.end();
  const keyId = value.is(0x80) ? value.content(0x80) : undefined;
  const issuer = value.enterOptional(0xa1);
  if (issuer !== null) readGeneralNames(issuer);
  const serialNumber = value.is(0x82) ? value.integer(0x82) : undefined;
  value.end();
  if ((issuer === null) !== (serialNumber === undefined) || keyId?.length === 0)
    value.refuse('an authority key identifier with half a reference or an empty one');
  return keyId;
}
