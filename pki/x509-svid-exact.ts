/**
 * An SVID's TBSCertificate held octet by octet against the one encoding that the profile leaves for it, see
 * `x509-svid-profile.ts`. Shares no code with the writer: what is the same in every SVID stands here as octets.
 */
import { type SignatureAlgorithm, schemeOf, schemeSpec } from './algorithms.ts';
import { octetAt } from './bytes.ts';
import type { Certificate } from './certificate.ts';
import { TAG } from './der-tag.ts';
import { DNS_NAME_TAG, URI_NAME_TAG } from './general-name.ts';
import { subjectKeyId } from './public-key.ts';
import type { SpiffeId } from './spiffe-id.ts';
import { GENERALIZED_TIME_FROM_MS, parseTimeText } from './x509-time.ts';

/** What an SVID must say: taken from attestation, policy and the issuer, not from the template. */
export interface ExpectedSvid {
  readonly issuerCertificate: Certificate;
  readonly algorithm: SignatureAlgorithm;
  readonly spiffeId: SpiffeId;
  readonly dnsNames: readonly string[];
  /** SubjectPublicKeyInfo of the CSR whose proof of possession was checked, DER. */
  readonly spki: Uint8Array;
  /** The 16 random octets. */
  readonly serialNumber: Uint8Array;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

const octets = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex.replaceAll(' ', ''), 'hex'));

/** `[0] EXPLICIT INTEGER 2`. */
const VERSION_3 = octets('a003 0201 02');
/** The empty Name. */
const NO_SUBJECT = octets('3000');
/** keyUsage digitalSignature, critical; extKeyUsage serverAuth, clientAuth; basicConstraints of a leaf, critical. */
const USAGES = octets(
  `
  300e 0603551d0f 0101ff 0404 03020780
  301d 0603551d25 0416 3014 06082b06010505070301 06082b06010505070302
  300c 0603551d13 0101ff 0402 3000`.replaceAll('\n', ''),
);
const AUTHORITY_KEY_IDENTIFIER = octets('0603551d23');
/** subjectKeyIdentifier up to its 20 octets. */
const SUBJECT_KEY_IDENTIFIER = octets('301d 0603551d0e 0416 0414');
/** extnID and critical of subjectAltName. */
const SUBJECT_ALT_NAME = octets('0603551d11 0101ff');

/** The longest key identifier around which every length has one octet. */
const SHORT_KEY_ID_OCTETS = 116;

/**
 * True when `tbs` is the encoding of `expected`. False does not say what is wrong, and for an issuer with an unusually
 * long key identifier says nothing at all.
 */
export function isExactSvidTbs(tbs: Uint8Array, expected: ExpectedSvid): boolean {
  const { issuerCertificate: issuer, spki, notBeforeMs, notAfterMs } = expected;
  const cursor = new ExactCursor(tbs);
  cursor.lastElement(TAG.sequence);
  cursor.octets(VERSION_3);
  cursor.serialNumber(expected.serialNumber);
  cursor.octets(schemeSpec(schemeOf(expected.algorithm)).algorithmIdentifier);
  cursor.octets(issuer.subject);
  cursor.validity(notBeforeMs, notAfterMs);
  cursor.octets(NO_SUBJECT);
  cursor.octets(spki);
  cursor.lastElement(0xa3);
  cursor.lastElement(TAG.sequence);
  cursor.octets(USAGES);
  cursor.authorityKeyId(issuer.subjectKeyId);
  cursor.octets(SUBJECT_KEY_IDENTIFIER);
  cursor.octets(subjectKeyId(spki));
  cursor.lastElement(TAG.sequence);
  cursor.octets(SUBJECT_ALT_NAME);
  cursor.lastElement(TAG.octetString);
  cursor.lastElement(TAG.sequence);
  cursor.name(URI_NAME_TAG, expected.spiffeId.toString());
  for (const name of expected.dnsNames) cursor.name(DNS_NAME_TAG, name);
  return cursor.isExact && expected.spiffeId.path !== '' && isWithin(expected);
}

function isWithin({ notBeforeMs, notAfterMs, issuerCertificate }: ExpectedSvid): boolean {
  return (
    wholeSeconds(notBeforeMs) < wholeSeconds(notAfterMs) &&
    wholeSeconds(notAfterMs) <= issuerCertificate.notAfterMs
  );
}

function wholeSeconds(ms: number): number {
  return Math.floor(ms / 1000) * 1000;
}

/** Steps over what must come next; the first octet that is another ends the match for good. */
class ExactCursor {
  readonly #bytes: Uint8Array;
  #at = 0;
  #matches = true;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** Everything matched, and nothing is left. */
  get isExact(): boolean {
    return this.#matches && this.#at === this.#bytes.length;
  }

  octets(expected: Uint8Array): void {
    const [bytes, at] = [this.#bytes, this.#at];
    for (let i = 0; i < expected.length; i += 1) if (bytes[at + i] !== expected[i]) this.#matches = false;
    this.#at = at + expected.length;
  }

  /** Tag and length of an element that ends where the input ends, the length in the fewest octets. */
  lastElement(tag: number): void {
    this.#octet(tag);
    const first = octetAt(this.#bytes, this.#at);
    const lengthOctets = first < 0x80 ? 1 : 1 + (first & 0x7f);
    const content = this.#bytes.length - this.#at - lengthOctets;
    if (content < 0x80) this.#octet(content);
    else if (content < 0x100) this.#two(0x81, content);
    else if (content < 0x1_0000) {
      this.#two(0x82, content >>> 8);
      this.#octet(content & 0xff);
    } else this.#matches = false;
  }

  /** An INTEGER: positive, in the fewest octets, and never zero. */
  serialNumber(drawn: Uint8Array): void {
    let start = 0;
    while (start < drawn.length && drawn[start] === 0) start += 1;
    const magnitude = drawn.length - start;
    if (magnitude === 0) {
      this.#two(TAG.integer, 1);
      this.#octet(1);
      return;
    }
    const isHigh = octetAt(drawn, start) >= 0x80;
    this.#two(TAG.integer, isHigh ? magnitude + 1 : magnitude);
    if (isHigh) this.#octet(0);
    for (let i = start; i < drawn.length; i += 1) this.#octet(octetAt(drawn, i));
  }

  validity(notBeforeMs: number, notAfterMs: number): void {
    this.#two(TAG.sequence, 4 + timeOctets(notBeforeMs) + timeOctets(notAfterMs));
    this.#time(notBeforeMs);
    this.#time(notAfterMs);
  }

  /** The whole extension authorityKeyIdentifier, with a keyIdentifier alone. */
  authorityKeyId(keyId: Uint8Array | undefined): void {
    if (keyId === undefined || keyId.length > SHORT_KEY_ID_OCTETS) {
      this.#matches = false;
      return;
    }
    this.#two(TAG.sequence, keyId.length + 11);
    this.octets(AUTHORITY_KEY_IDENTIFIER);
    this.#two(TAG.octetString, keyId.length + 4);
    this.#two(TAG.sequence, keyId.length + 2);
    this.#two(0x80, keyId.length);
    this.octets(keyId);
  }

  /** A GeneralName that is text; ours is ASCII. */
  name(tag: number, text: string): void {
    this.#octet(tag);
    if (text.length < 0x80) this.#octet(text.length);
    else if (text.length < 0x100) this.#two(0x81, text.length);
    else {
      this.#two(0x82, text.length >>> 8);
      this.#octet(text.length & 0xff);
    }
    const [bytes, at] = [this.#bytes, this.#at];
    for (let i = 0; i < text.length; i += 1) if (bytes[at + i] !== text.charCodeAt(i)) this.#matches = false;
    this.#at = at + text.length;
  }

  #time(ms: number): void {
    const length = timeOctets(ms);
    const kind = ms < GENERALIZED_TIME_FROM_MS ? 'utc' : 'generalized';
    this.#two(kind === 'utc' ? TAG.utcTime : TAG.generalizedTime, length);
    // NaN for anything that is no time at all.
    if (parseTimeText(this.#bytes, this.#at, this.#at + length, kind) !== wholeSeconds(ms))
      this.#matches = false;
    this.#at += length;
  }

  #two(first: number, second: number): void {
    this.#octet(first);
    this.#octet(second);
  }

  #octet(expected: number): void {
    if (this.#bytes[this.#at] !== expected) this.#matches = false;
    this.#at += 1;
  }
}

/** RFC 5280 section 4.1.2.5: UTCTime through 2049. */
function timeOctets(ms: number): number {
  return ms < GENERALIZED_TIME_FROM_MS ? 13 : 15;
}
