import { type SignatureScheme, schemeOfIdentifier } from './algorithms.ts';
import { equalBytes, toHex } from './bytes.ts';
import type { Certificate } from './certificate.ts';
import { DerReader, type DerSubject } from './der-reader.ts';
import { TAG } from './der-tag.ts';
import { readExtensions } from './extension.ts';
import { KedgeError } from './kedge-error.ts';
import { LIMITS } from './limits.ts';
import { OID, decodeOid } from './oid.ts';
import { verifySignature } from './public-key.ts';

/** Why a certificate was revoked, by the names of RFC 5280 section 5.3.1; those that a full CRL can have. */
export const CRL_REASONS = {
  unspecified: 0,
  keyCompromise: 1,
  cACompromise: 2,
  affiliationChanged: 3,
  superseded: 4,
  cessationOfOperation: 5,
  certificateHold: 6,
  privilegeWithdrawn: 9,
  aACompromise: 10,
} as const;
export type CrlReason = keyof typeof CRL_REASONS;

/** One revoked certificate. */
export interface CrlEntry {
  readonly revokedAtMs: number;
  readonly reason: CrlReason;
}

/** A full v2 CRL, read and not yet verified. Byte fields are views of the input. */
export interface Crl {
  readonly der: Uint8Array;
  /** The signed bytes. */
  readonly tbs: Uint8Array;
  /** Null: an algorithm that Kedge does not verify. */
  readonly signatureScheme: SignatureScheme | null;
  readonly signature: Uint8Array;
  /** The issuer's Name, DER. */
  readonly issuer: Uint8Array;
  readonly thisUpdateMs: number;
  readonly nextUpdateMs: number;
  /** CRLNumber, lower-case hex without leading zeros. Grows from one CRL of an issuer to the next. */
  readonly number: string;
  /** Lower-case hex. */
  readonly authorityKeyId: string;
  /** By serial number, as {@link serialOf} writes it. */
  readonly entries: ReadonlyMap<string, CrlEntry>;
}

const SUBJECT: DerSubject = { code: 'crl_malformed', what: 'the CRL' };
const VERSION_2 = 1;

/**
 * Reads a CertificateList (RFC 5280 section 5), strictly: v2 with nextUpdate, CRLNumber and a key identifier of
 * its authority, as section 5.2 demands of CAs.
 *
 * A critical extension that is not known here refuses the whole CRL (section 5.2): it says that the list is a
 * delta, or leaves certificates out, and would read as if it were complete.
 *
 * Throws `message_too_large` over {@link LIMITS.crlBytes}, else `crl_malformed`.
 */
export function parseCrl(der: Uint8Array): Crl {
  if (der.length > LIMITS.crlBytes) {
    throw new KedgeError(
      'message_too_large',
      `a CRL of ${der.length} bytes is over the limit of ${LIMITS.crlBytes}`,
    );
  }
  const outer = DerReader.of(der, SUBJECT);
  const list = outer.enter(TAG.sequence);
  outer.end();
  const { der: tbs, inside } = list.open(TAG.sequence);
  const algorithm = list.whole(TAG.sequence);
  const signature = list.bitStringOctets();
  list.end();
  const content = readTbs(inside, algorithm);
  return { der, tbs, signatureScheme: schemeOfIdentifier(algorithm), signature, ...content };
}

/**
 * True when the CRL names `issuer` as the one that made it, by subject and by key: the CRL of a CA that was given
 * another key, or of anyone else, says nothing about what `issuer` signed.
 */
export function isCrlOf(crl: Crl, issuer: Certificate): boolean {
  return (
    equalBytes(crl.issuer, issuer.subject) &&
    (issuer.subjectKeyId === undefined || crl.authorityKeyId === toHex(issuer.subjectKeyId))
  );
}

/**
 * Checks that `issuer` made and signed the CRL, and may (RFC 5280 section 6.3.3 steps f and g). Whether the
 * issuer is trusted is for the caller to know. Throws `crl_signature_invalid`.
 */
export function verifyCrl(crl: Crl, issuer: Certificate): void {
  const refuse = (fault: string): KedgeError =>
    new KedgeError('crl_signature_invalid', `the CRL ${fault}`, {
      hint: 'take the CRL from the authority again',
    });
  if (!isCrlOf(crl, issuer)) throw refuse('is of another authority');
  if (issuer.keyUsage?.usages.includes('cRLSign') !== true)
    throw refuse('is of an authority that may not sign CRLs');
  if (crl.signatureScheme === null) throw refuse('is signed with an algorithm that Kedge does not accept');
  const isGenuine = verifySignature(
    crl.signatureScheme,
    issuer.spki,
    crl.tbs,
    crl.signature,
    'crl_signature_invalid',
  );
  if (!isGenuine) throw refuse('is not signed by the key of its authority');
}

/** A serial number as {@link Crl.entries} has it, from the content octets of its INTEGER: hex. */
export function serialOf(content: Uint8Array): string {
  return toHex(content);
}

type CrlContent = Pick<
  Crl,
  'issuer' | 'thisUpdateMs' | 'nextUpdateMs' | 'number' | 'authorityKeyId' | 'entries'
>;

function readTbs(tbs: DerReader, signedWith: Uint8Array): CrlContent {
  if (tbs.smallInteger() !== VERSION_2) tbs.refuse('it is not version 2 (RFC 5280 section 5.1.2.1)');
  if (!equalBytes(tbs.whole(TAG.sequence), signedWith))
    tbs.refuse('its two signature algorithms differ (RFC 5280 section 5.1.1.2)');
  const issuer = tbs.whole(TAG.sequence);
  const thisUpdateMs = tbs.time();
  const nextUpdateMs = tbs.time();
  if (thisUpdateMs > nextUpdateMs) tbs.refuse('it ends before it begins');
  const entries = readEntries(tbs);
  const wrapper = tbs.enter(0xa0);
  tbs.end();
  const extensions = extensionValues(wrapper);
  wrapper.end();
  const number = extensions.get(OID.cRLNumber);
  const keyId = extensions.get(OID.authorityKeyIdentifier);
  if (number === undefined || keyId === undefined)
    tbs.refuse('it lacks its number or the key identifier of its authority (RFC 5280 section 5.2)');
  return {
    issuer,
    thisUpdateMs,
    nextUpdateMs,
    number: readNumber(number),
    authorityKeyId: readKeyId(keyId),
    entries,
  };
}

function readEntries(tbs: DerReader): ReadonlyMap<string, CrlEntry> {
  const entries = new Map<string, CrlEntry>();
  const list = tbs.enterOptional(TAG.sequence);
  if (list === null) return entries;
  if (list.atEnd) list.refuse('its list of entries is empty instead of absent (RFC 5280 section 5.1.2.6)');
  while (!list.atEnd) {
    const entry = list.enter(TAG.sequence);
    const serial = serialOf(entry.integer());
    const revokedAtMs = entry.time();
    const extensions = entry.atEnd ? null : extensionValues(entry);
    entry.end();
    entries.set(serial, { revokedAtMs, reason: readReason(extensions?.get(OID.reasonCode)) });
  }
  return entries;
}

const KNOWN_EXTENSIONS: readonly string[] = [OID.cRLNumber, OID.authorityKeyIdentifier, OID.reasonCode];

/** The values of the extensions of the list or of one entry, by OID. */
function extensionValues(reader: DerReader): ReadonlyMap<string, Uint8Array> {
  const values = new Map<string, Uint8Array>();
  for (const extension of readExtensions(reader)) {
    const oid = decodeOid(extension.oidContent);
    if (extension.critical && !KNOWN_EXTENSIONS.includes(oid))
      reader.refuse(`it has the critical extension ${oid}, so it is not a full CRL of its issuer`);
    values.set(oid, extension.value);
  }
  return values;
}

function readNumber(value: Uint8Array): string {
  const reader = DerReader.of(value, SUBJECT);
  const content = reader.integer();
  reader.end();
  // 20 octets: RFC 5280 section 5.2.3.
  const hex = toHex(content);
  if (/^[89a-f]/.test(hex) || content.length > 20) reader.refuse('its number is negative or too long');
  return BigInt(`0x${hex}`).toString(16);
}

function readKeyId(value: Uint8Array): string {
  const outer = DerReader.of(value, SUBJECT);
  const identifier = outer.enter(TAG.sequence);
  outer.end();
  const keyId = identifier.content(0x80);
  while (!identifier.atEnd) identifier.any();
  return toHex(keyId);
}

function readReason(value: Uint8Array | undefined): CrlReason {
  if (value === undefined) return 'unspecified';
  const reader = DerReader.of(value, SUBJECT);
  const code = reader.smallInteger(TAG.enumerated);
  reader.end();
  for (const [reason, known] of Object.entries(CRL_REASONS)) if (known === code) return reason as CrlReason;
  return reader.refuse(`it has the reason code ${code}, which a full CRL cannot have`);
}
