import { type SignatureScheme, type SvidKeyType, schemeOfIdentifier } from './algorithms.ts';
import { equalBytes } from './bytes.ts';
import { readSubjectAltName } from './certificate-extensions.ts';
import { DerReader } from './der-reader.ts';
import { TAG } from './der-tag.ts';
import { readName } from './distinguished-name.ts';
import { readExtensions } from './extension.ts';
import { KedgeError, quote } from './kedge-error.ts';
import { LIMITS } from './limits.ts';
import { OID, encodeOid } from './oid.ts';
import { keyTypeOfSpki, verifySignature } from './public-key.ts';
import { SpiffeId } from './spiffe-id.ts';

/** What Kedge takes from a PKCS #10 request; all bytes are views of the input. */
export interface Csr {
  readonly der: Uint8Array;
  /** CertificationRequestInfo, DER: the bytes that are signed. */
  readonly info: Uint8Array;
  /** SubjectPublicKeyInfo, DER, of a type that an SVID may hold. */
  readonly spki: Uint8Array;
  readonly keyType: SvidKeyType;
  readonly signatureAlgorithm: SignatureScheme;
  readonly signature: Uint8Array;
  /** The URIs of the SubjectAltName that is asked for: ASCII, not parsed. */
  readonly uriSans: readonly string[];
}

const SUBJECT = { code: 'csr_malformed', what: 'the CSR' } as const;
const EXTENSION_REQUEST = encodeOid(OID.extensionRequest);
const SUBJECT_ALT_NAME = encodeOid(OID.subjectAltName);

/**
 * Reads a CSR: strict DER PKCS #10 (RFC 2986 section 4), at most 16 KiB.
 *
 * Only the key and the URI SANs are taken. The subject, other names, other extensions and other attributes are
 * ignored, yet must be well-formed; what an ignored extension has inside its OCTET STRING is not looked at.
 *
 * Errors: `csr_too_large`, `csr_malformed`, `csr_key_type_unsupported`, `csr_signature_algorithm_unsupported`. The
 * signature is checked by {@link verifyProofOfPossession}.
 */
export function parseCsr(der: Uint8Array): Csr {
  if (der.length > LIMITS.csrBytes)
    throw new KedgeError(
      'csr_too_large',
      `the CSR has ${der.length} bytes, and may have ${LIMITS.csrBytes}`,
      {
        hint: 'send the key alone: no certificate, no chain, no long names',
      },
    );
  const input = DerReader.of(der, SUBJECT);
  const outer = input.enter(TAG.sequence);
  input.end();
  const { der: info, inside } = outer.open(TAG.sequence);
  if (inside.smallInteger() !== 0) inside.refuse('a version that is not 0');
  readName(inside);
  const spki = inside.whole(TAG.sequence);
  const uriSans = readAttributes(inside.enter(0xa0));
  inside.end();
  const signatureAlgorithm = readSignatureAlgorithm(outer.whole(TAG.sequence));
  const signature = outer.bitStringOctets();
  outer.end();
  const keyType = keyTypeOfSpki(spki, 'csr_key_type_unsupported');
  return { der, info, spki, keyType, signatureAlgorithm, signature, uriSans };
}

/** Gives the URI SANs of the extension request, if there is one; refuses a second. */
function readAttributes(attributes: DerReader): readonly string[] {
  let uriSans: readonly string[] | null = null;
  let previous: Uint8Array | null = null;
  while (!attributes.atEnd) {
    const { der, inside } = attributes.open(TAG.sequence);
    if (previous !== null && Buffer.compare(previous, der) > 0) attributes.fail('a SET OF out of order');
    previous = der;
    const type = inside.oidContent();
    const values = inside.wholeAndInside(TAG.set);
    inside.end();
    if (values.atEnd) values.refuse('an attribute without a value');
    if (!equalBytes(type, EXTENSION_REQUEST)) continue;
    if (uriSans !== null) values.refuse('more than one extension request');
    uriSans = readRequestedUris(values);
  }
  return uriSans ?? [];
}

function readRequestedUris(values: DerReader): readonly string[] {
  const extensions = readExtensions(values);
  if (!values.atEnd) values.refuse('an extension request with more than one value');
  const san = extensions.find(({ oidContent }) => equalBytes(oidContent, SUBJECT_ALT_NAME));
  if (san === undefined) return [];
  return readSubjectAltName(DerReader.of(san.value, SUBJECT), san.critical).uris;
}

function readSignatureAlgorithm(identifier: Uint8Array): SignatureScheme {
  const scheme = schemeOfIdentifier(identifier);
  if (scheme !== null) return scheme;
  const oid = DerReader.of(identifier, SUBJECT).enter(TAG.sequence).oid();
  throw new KedgeError(
    'csr_signature_algorithm_unsupported',
    `the CSR is signed with ${oid}, or with unusual parameters, which Kedge does not take`,
    { hint: 'sign with ECDSA or RSA PKCS #1 and SHA-256, SHA-384 or SHA-512, or with Ed25519' },
  );
}

/**
 * Checks that whoever made the CSR holds its private key: the signature verifies with the key in it, which must be
 * of the scheme's family and, on a curve, a point of it (RFC 2986 section 3).
 *
 * Errors: `csr_signature_invalid`, and `csr_malformed` for a key that is none.
 */
export function verifyProofOfPossession(csr: Csr): void {
  if (verifySignature(csr.signatureAlgorithm, csr.spki, csr.info, csr.signature, 'csr_malformed')) return;
  throw new KedgeError(
    'csr_signature_invalid',
    `the signature of the CSR (${csr.signatureAlgorithm}) is not by its own key (${csr.keyType})`,
    { hint: 'sign the CSR with the private key whose public key it holds' },
  );
}

/**
 * Holds what a CSR asks for against what attestation proved: each URI SAN in it, if any, is the attested SPIFFE ID.
 * A CSR that asks for none is fine; the SVID carries the attested ID in any case.
 *
 * Throws `csr_spiffe_id_mismatch`, naming both.
 */
export function checkRequestedId(csr: Pick<Csr, 'uriSans'>, attested: SpiffeId): void {
  for (const uri of csr.uriSans) {
    if (uri === attested.toString() || isSameId(uri, attested)) continue;
    throw new KedgeError(
      'csr_spiffe_id_mismatch',
      `the CSR asks for ${quote(uri, 256)}, but the token proves ${quote(attested.toString(), 256)}`,
      { hint: 'ask for the attested SPIFFE ID, or for no URI SAN at all' },
    );
  }
}

/** The scheme of a SPIFFE ID may be in any case (SPIFFE-ID section 2.4). */
function isSameId(uri: string, attested: SpiffeId): boolean {
  try {
    return SpiffeId.parse(uri).equals(attested);
  } catch {
    return false;
  }
}
