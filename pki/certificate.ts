import { type SignatureScheme, schemeOfIdentifier } from './algorithms.ts';
import { equalBytes, octetAt } from './bytes.ts';
import { type KnownExtensions, readKnownExtensions } from './certificate-extensions.ts';
import { DerReader, type DerSubject } from './der-reader.ts';
import { TAG } from './der-tag.ts';
import { readName } from './distinguished-name.ts';
import type { ErrorCode } from './error-table.ts';
import { type Extension, readExtensions } from './extension.ts';
import { KedgeError } from './kedge-error.ts';
import { LIMITS } from './limits.ts';
import { GENERALIZED_TIME_FROM_MS } from './x509-time.ts';

/**
 * A TBSCertificate of X.509 version 3, read strictly (RFC 5280 section 4.1).
 *
 * All bytes are views of the input; names, key and extension values are DER. Times are ms since the epoch.
 */
export interface TbsCertificate extends KnownExtensions {
  /** Content octets of the INTEGER: positive, big endian, at most 20, a leading zero where the sign needs it. */
  readonly serialNumber: Uint8Array;
  readonly signatureAlgorithm: SignatureScheme;
  /** Name, DER; may be the empty Name. */
  readonly issuer: Uint8Array;
  /** Name, DER; empty for SVIDs of Kedge. */
  readonly subject: Uint8Array;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** SubjectPublicKeyInfo, DER; its kind shows when it is used. */
  readonly spki: Uint8Array;
  /** Every extension in its order. */
  readonly extensions: readonly Extension[];
}

/** A certificate: what it says, and the signature over it. */
export interface Certificate extends TbsCertificate {
  /** The whole certificate. */
  readonly der: Uint8Array;
  /** TBSCertificate, DER: the bytes that are signed. */
  readonly tbs: Uint8Array;
  readonly signature: Uint8Array;
}

/** Who wrote a certificate: of our own more is asked. */
type Maker = 'anyone' | 'kedge';

const VERSION_3 = 2;
const SERIAL_NUMBER_OCTETS = 20;

/**
 * Reads one X.509 v3 certificate of any maker: strict DER and every rule of structure in RFC 5280 section 4, at
 * most 32 KiB. What the fields mean for trust is for the verifier; here nothing is checked against a time, a key
 * or a signature.
 *
 * Refused beyond that: signature algorithms other than {@link SignatureScheme} (the message has the OID), and the
 * unique identifiers that RFC 5280 section 4.1.2.8 forbids to CAs.
 *
 * Throws `code`.
 */
export function parseCertificate(der: Uint8Array, code: ErrorCode = 'svid_malformed'): Certificate {
  const subject: DerSubject = { code, what: 'the certificate' };
  if (der.length > LIMITS.certificateBytes)
    throw new KedgeError(code, `the certificate is longer than ${LIMITS.certificateBytes} bytes`);
  const input = DerReader.of(der, subject);
  const outer = input.enter(TAG.sequence);
  input.end();
  const { der: tbs, inside } = outer.open(TAG.sequence);
  const { fields, algorithmIdentifier } = readTbs(inside, subject, 'anyone');
  if (!equalBytes(outer.whole(TAG.sequence), algorithmIdentifier))
    outer.refuse('the signature algorithms inside and outside of the signed part differ');
  const signature = outer.bitStringOctets();
  outer.end();
  return { ...fields, der, tbs, signature };
}

/**
 * Reads a TBSCertificate that Kedge itself is about to sign: beyond what holds for any maker, times through 2049 are
 * UTCTime, as CAs must write them and some do not (RFC 5280 section 4.1.2.5). Throws `code`.
 */
export function parseTbsCertificate(tbs: Uint8Array, code: ErrorCode): TbsCertificate {
  const subject: DerSubject = { code, what: 'the certificate to sign' };
  const input = DerReader.of(tbs, subject);
  const reader = input.enter(TAG.sequence);
  input.end();
  return readTbs(reader, subject, 'kedge').fields;
}

function readTbs(
  reader: DerReader,
  subject: DerSubject,
  maker: Maker,
): { readonly fields: TbsCertificate; readonly algorithmIdentifier: Uint8Array } {
  readVersion(reader);
  const serialNumber = readSerialNumber(reader);
  const algorithmIdentifier = reader.whole(TAG.sequence);
  const signatureAlgorithm = schemeOf(algorithmIdentifier, reader, subject);
  const issuer = readName(reader);
  const validity = reader.enter(TAG.sequence);
  const notBeforeMs = readTime(validity, maker);
  const notAfterMs = readTime(validity, maker);
  validity.end();
  const subjectName = readName(reader);
  const spki = readSpki(reader);
  if (reader.is(0x81) || reader.is(0x82)) reader.refuse('unique identifiers, which RFC 5280 forbids');
  const wrapper = reader.enterOptional(0xa3);
  reader.end();
  const extensions = wrapper === null ? [] : readExtensions(wrapper);
  wrapper?.end();
  const fields: TbsCertificate = {
    serialNumber,
    signatureAlgorithm,
    issuer,
    subject: subjectName,
    notBeforeMs,
    notAfterMs,
    spki,
    extensions,
    ...readKnownExtensions(extensions, subject),
  };
  return { fields, algorithmIdentifier };
}

function readVersion(reader: DerReader): void {
  const version = reader.enterOptional(0xa0);
  if (version === null || version.smallInteger() !== VERSION_3) reader.refuse('it is not X.509 version 3');
  version.end();
}

function readTime(reader: DerReader, maker: Maker): number {
  const isGeneralized = reader.is(TAG.generalizedTime);
  const ms = reader.time();
  if (maker === 'kedge' && isGeneralized && ms < GENERALIZED_TIME_FROM_MS)
    reader.refuse('a GeneralizedTime before 2050');
  return ms;
}

function readSerialNumber(reader: DerReader): Uint8Array {
  const content = reader.integer();
  const first = octetAt(content, 0);
  const isZero = content.length === 1 && first === 0;
  if (first >= 0x80 || isZero) reader.refuse('a serial number that is not positive');
  if (content.length > SERIAL_NUMBER_OCTETS)
    reader.refuse(`a serial number of more than ${SERIAL_NUMBER_OCTETS} octets`);
  return content;
}

function schemeOf(identifier: Uint8Array, reader: DerReader, subject: DerSubject): SignatureScheme {
  const scheme = schemeOfIdentifier(identifier);
  if (scheme !== null) return scheme;
  const oid = DerReader.of(identifier, subject).enter(TAG.sequence).oid();
  return reader.refuse(
    `the signature algorithm ${oid}, or its parameters, are none that Kedge takes (ECDSA and RSA PKCS #1 with SHA-2, Ed25519)`,
  );
}

/** Checks the outer shape; the key itself is checked by whoever uses it. */
function readSpki(reader: DerReader): Uint8Array {
  const { der, inside } = reader.open(TAG.sequence);
  const algorithm = inside.wholeAndInside(TAG.sequence);
  algorithm.skipOid();
  if (!algorithm.atEnd) algorithm.skip();
  algorithm.end();
  inside.bitStringOctets();
  inside.end();
  return der;
}
