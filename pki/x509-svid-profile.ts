/**
 * The X.509-SVID that Kedge issues, written as DER in one pass: the hot path.
 *
 * | field | value |
 * | --- | --- |
 * | version | 3 |
 * | serialNumber | 128 random bits, as a positive INTEGER in the fewest octets; 0 becomes 1 |
 * | issuer | the issuer's subject, byte for byte |
 * | validity | cut to the second, UTCTime through 2049; never beyond the issuer's notAfter |
 * | subject | empty (so the SAN is critical, RFC 5280 section 4.2.1.6) |
 * | keyUsage, critical | digitalSignature (X509-SVID section 4.3) |
 * | extKeyUsage | serverAuth, clientAuth (X509-SVID section 4.4) |
 * | basicConstraints, critical | cA FALSE, written as the empty SEQUENCE; RFC 5280 leaves the criticality of a leaf open, critical makes every validator look |
 * | authorityKeyIdentifier | the issuer's subject key identifier |
 * | subjectKeyIdentifier | RFC 7093 method 1, see {@link subjectKeyId} |
 * | subjectAltName, critical | the SPIFFE ID as the one URI, first; then the DNS names in the order given |
 *
 * The extensions stand in this order. What does not change from SVID to SVID is encoded once per issuer.
 */
import { type SignatureAlgorithm, schemeOf, schemeSpec } from './algorithms.ts';
import { concatBytes, unwrittenBytes } from './bytes.ts';
import type { Certificate } from './certificate.ts';
import { TAG } from './der-tag.ts';
import {
  derContextPrimitive,
  derElement,
  derExtension,
  derNamedBits,
  derOid,
  derSequence,
  headerOctets,
  unsignedIntegerContent,
  writeHeader,
} from './der-writer.ts';
import { isDnsName } from './dns-name.ts';
import { DNS_NAME_TAG, URI_NAME_TAG } from './general-name.ts';
import { KedgeError, quote } from './kedge-error.ts';
import { OID } from './oid.ts';
import { SUBJECT_KEY_ID_OCTETS, publicKeyShape, subjectKeyId } from './public-key.ts';
import type { SpiffeId } from './spiffe-id.ts';
import {
  GENERALIZED_TIME_FROM_MS,
  GENERALIZED_TIME_OCTETS,
  TIME_FROM_MS,
  UTC_TIME_OCTETS,
  writeTimeText,
} from './x509-time.ts';

/** What all SVIDs of one issuer share, encoded. Make one per issuer with {@link svidTemplate} and keep it. */
export interface SvidTemplate {
  readonly issuerCertificate: Certificate;
  readonly algorithm: SignatureAlgorithm;
  /** AlgorithmIdentifier and issuer Name, one after the other. */
  readonly algorithmAndIssuer: Uint8Array;
  /** keyUsage, extKeyUsage, basicConstraints, authorityKeyIdentifier, and subjectKeyIdentifier up to its octets. */
  readonly fixedExtensions: Uint8Array;
}

/** What one SVID is made of. */
export interface SvidRequest {
  readonly spiffeId: SpiffeId;
  /** Further DNS SANs, by policy; each one that {@link isDnsName} takes. */
  readonly dnsNames: readonly string[];
  /** SubjectPublicKeyInfo, DER, as the checked CSR has it. */
  readonly spki: Uint8Array;
  /** 16 random octets, from a cryptographic source. */
  readonly serialNumber: Uint8Array;
  /** Already backdated. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

const SERIAL_NUMBER_OCTETS = 16;
const VERSION_3 = Uint8Array.of(0xa0, 0x03, 0x02, 0x01, 0x02);
const SAN_EXTENSION_HEAD = concatBytes(derOid(OID.subjectAltName), Uint8Array.of(TAG.boolean, 0x01, 0xff));
const EMPTY_OCTETS = new Uint8Array(SUBJECT_KEY_ID_OCTETS);

/**
 * Encodes what the SVIDs of an issuer share. Throws `authority_unusable` when SVIDs under it could not be valid: it
 * is not a CA that may sign certificates, has no subject or subject key identifier, or a key of another family than
 * the algorithm.
 */
export function svidTemplate(options: {
  /** The certificate of the issuer whose key will sign. */
  readonly issuerCertificate: Certificate;
  /** What its key signs with. */
  readonly algorithm: SignatureAlgorithm;
}): SvidTemplate {
  const { issuerCertificate, algorithm } = options;
  const { subject, subjectKeyId: keyId, basicConstraints, keyUsage, spki } = issuerCertificate;
  const { algorithmIdentifier, family } = schemeSpec(schemeOf(algorithm));
  if (basicConstraints?.ca !== true) throw unusable('it is not a CA certificate');
  if (keyUsage?.usages.includes('keyCertSign') !== true) throw unusable('its key usage lacks keyCertSign');
  if (subject.length <= 2) throw unusable('its subject is empty');
  if (keyId === undefined) throw unusable('it has no subject key identifier');
  if (publicKeyShape(spki, 'authority_unusable').family !== family)
    throw unusable(`its key does not sign with ${algorithm}`);
  const subjectKeyIdentifier = derExtension(
    OID.subjectKeyIdentifier,
    false,
    derElement(TAG.octetString, EMPTY_OCTETS),
  );
  const fixedExtensions = concatBytes(
    derExtension(OID.keyUsage, true, derNamedBits([0])),
    derExtension(OID.extKeyUsage, false, derSequence(derOid(OID.serverAuth), derOid(OID.clientAuth))),
    derExtension(OID.basicConstraints, true, derSequence()),
    derExtension(OID.authorityKeyIdentifier, false, derSequence(derContextPrimitive(0, keyId))),
    subjectKeyIdentifier.subarray(0, -SUBJECT_KEY_ID_OCTETS),
  );
  const algorithmAndIssuer = concatBytes(algorithmIdentifier, subject);
  return { issuerCertificate, algorithm, algorithmAndIssuer, fixedExtensions };
}

function unusable(fault: string): KedgeError {
  return new KedgeError('authority_unusable', `no SVID can be issued under the issuer: ${fault}`);
}

/** The serial number that 16 random octets become: content octets of the INTEGER, as the audit log names it. */
export function svidSerialNumber(random: Uint8Array): Uint8Array {
  const content = unsignedIntegerContent(random);
  return content.length === 1 && content[0] === 0 ? Uint8Array.of(1) : content;
}

/**
 * The TBSCertificate of one SVID. Throws `lint_failed` for a request that breaks the profile, which is a mistake of
 * the caller: a notAfter beyond the issuer's, an empty validity, a SPIFFE ID without a path (X509-SVID section
 * 3.1), a DNS name that is none.
 */
export function buildSvidTbs(template: SvidTemplate, request: SvidRequest): Uint8Array {
  checkRequest(template, request);
  const { algorithmAndIssuer, fixedExtensions } = template;
  const { dnsNames, spki, notBeforeMs, notAfterMs } = request;
  const uri = request.spiffeId.toString();
  const serialNumber = svidSerialNumber(request.serialNumber);
  const keyId = subjectKeyId(spki);

  // Lengths from the inside out, then one buffer from the front to the back.
  const validityOctets = timeOctets(notBeforeMs) + timeOctets(notAfterMs);
  let namesOctets = elementOctets(uri.length);
  for (const name of dnsNames) namesOctets += elementOctets(name.length);
  const sanValueOctets = elementOctets(namesOctets);
  const sanOctets = SAN_EXTENSION_HEAD.length + elementOctets(sanValueOctets);
  const extensionsOctets = fixedExtensions.length + SUBJECT_KEY_ID_OCTETS + elementOctets(sanOctets);
  const wrapperOctets = elementOctets(extensionsOctets);
  const tbsOctets =
    VERSION_3.length +
    elementOctets(serialNumber.length) +
    algorithmAndIssuer.length +
    elementOctets(validityOctets) +
    elementOctets(0) +
    spki.length +
    elementOctets(wrapperOctets);

  const der = unwrittenBytes(elementOctets(tbsOctets));
  let at = writeHeader(der, 0, TAG.sequence, tbsOctets);
  at = writeOctets(der, at, VERSION_3);
  at = writeHeader(der, at, TAG.integer, serialNumber.length);
  at = writeOctets(der, at, serialNumber);
  at = writeOctets(der, at, algorithmAndIssuer);
  at = writeHeader(der, at, TAG.sequence, validityOctets);
  at = writeTime(der, at, notBeforeMs);
  at = writeTime(der, at, notAfterMs);
  at = writeHeader(der, at, TAG.sequence, 0);
  at = writeOctets(der, at, spki);
  at = writeHeader(der, at, 0xa3, wrapperOctets);
  at = writeHeader(der, at, TAG.sequence, extensionsOctets);
  at = writeOctets(der, at, fixedExtensions);
  at = writeOctets(der, at, keyId);
  at = writeHeader(der, at, TAG.sequence, sanOctets);
  at = writeOctets(der, at, SAN_EXTENSION_HEAD);
  at = writeHeader(der, at, TAG.octetString, sanValueOctets);
  at = writeHeader(der, at, TAG.sequence, namesOctets);
  at = writeName(der, at, URI_NAME_TAG, uri);
  for (const name of dnsNames) at = writeName(der, at, DNS_NAME_TAG, name);
  return der;
}

/** The certificate of a signed TBSCertificate (RFC 5280 section 4.1). */
export function assembleCertificate(
  tbs: Uint8Array,
  algorithm: SignatureAlgorithm,
  signature: Uint8Array,
): Uint8Array {
  const { algorithmIdentifier } = schemeSpec(schemeOf(algorithm));
  const octets = tbs.length + algorithmIdentifier.length + elementOctets(1 + signature.length);
  const der = unwrittenBytes(elementOctets(octets));
  let at = writeHeader(der, 0, TAG.sequence, octets);
  at = writeOctets(der, at, tbs);
  at = writeOctets(der, at, algorithmIdentifier);
  at = writeHeader(der, at, TAG.bitString, 1 + signature.length);
  // No unused bits.
  der[at] = 0;
  writeOctets(der, at + 1, signature);
  return der;
}

function checkRequest(template: SvidTemplate, request: SvidRequest): void {
  const { spiffeId, dnsNames, serialNumber, notBeforeMs, notAfterMs } = request;
  if (spiffeId.path === '') throw broken(`the SPIFFE ID ${quote(spiffeId.toString())} has no path`);
  if (serialNumber.length !== SERIAL_NUMBER_OCTETS) throw broken('the serial number is not 16 octets');
  if (notAfterMs > template.issuerCertificate.notAfterMs)
    throw broken('notAfter is beyond the one of the issuer');
  if (!(notBeforeMs >= TIME_FROM_MS && notBeforeMs < notAfterMs))
    throw broken('notBefore is not an instant before notAfter');
  for (const name of dnsNames)
    if (!isDnsName(name)) throw broken(`the DNS SAN ${quote(name)} is not a DNS name`);
}

function broken(fault: string): KedgeError {
  return new KedgeError('lint_failed', `an SVID that was about to be written breaks the profile: ${fault}`);
}

function elementOctets(contentOctets: number): number {
  return headerOctets(contentOctets) + contentOctets;
}

function timeOctets(ms: number): number {
  return 2 + (ms >= GENERALIZED_TIME_FROM_MS ? GENERALIZED_TIME_OCTETS : UTC_TIME_OCTETS);
}

function writeTime(der: Uint8Array, offset: number, ms: number): number {
  const isLong = ms >= GENERALIZED_TIME_FROM_MS;
  const octets = isLong ? GENERALIZED_TIME_OCTETS : UTC_TIME_OCTETS;
  const at = writeHeader(der, offset, isLong ? TAG.generalizedTime : TAG.utcTime, octets);
  return writeTimeText(der, at, ms);
}

function writeOctets(der: Uint8Array, offset: number, octets: Uint8Array): number {
  der.set(octets, offset);
  return offset + octets.length;
}

/** `text` is ASCII: SPIFFE IDs and DNS names have no other characters. */
function writeName(der: Uint8Array, offset: number, tag: number, text: string): number {
  const at = writeHeader(der, offset, tag, text.length);
  for (let i = 0; i < text.length; i += 1) der[at + i] = text.charCodeAt(i);
  return at + text.length;
}
