import type { AuthoritySigner } from './authority-signer.ts';
import { equalBytes, toHex } from './bytes.ts';
import { type Certificate, parseCertificate } from './certificate.ts';
import { parseCsr, verifyProofOfPossession } from './csr.ts';
import { derContext, derContextPrimitive, derSequence, ia5Octets } from './der-writer.ts';
import { KedgeError, quote } from './kedge-error.ts';
import { OID } from './oid.ts';
import { subjectKeyId } from './public-key.ts';
import type { TrustDomain } from './spiffe-id.ts';
import { signerCrypto } from './webcrypto-signer.ts';
import { x509 } from './x509-library.ts';

/**
 * How many CA certificates may stand between an anchor and an SVID.
 *
 * One is the issuer. The second is room that an anchor must have from its first day, because it cannot be added
 * without replacing it: for a nested CA, and for a new anchor that an old one signs across.
 */
export const ANCHOR_PATH_LENGTH = 2;

/** An issuer signs SVIDs and no further CA. */
export const ISSUER_PATH_LENGTH = 0;

/** What a new anchor is made of. */
export interface AnchorRequest {
  readonly trustDomain: TrustDomain;
  /** Holds the anchor's key. */
  readonly signer: AuthoritySigner;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** See {@link certificateSerial}. */
  readonly serialNumber: Uint8Array;
  /** Default {@link ANCHOR_PATH_LENGTH}. */
  readonly pathLength?: number;
  /**
   * Confines the anchor to SPIFFE IDs of its trust domain, by a critical name constraint (X509-SVID section 4.2).
   *
   * Off by default: OpenSSL and Kedge enforce it, but libraries that do not know URI constraints refuse the whole
   * chain (the same section warns of it), and RFC 5280 has no URI constraint for a trust domain that looks like an
   * IP address. Verifiers look up the bundle by the leaf's trust domain, which confines an anchor anyway.
   */
  readonly uriNameConstraints?: boolean;
}

/** What a new issuer is made of. */
export interface IssuerRequest {
  /** PKCS#10 of {@link issuerCsr}, or of a nested CA's own making. */
  readonly csr: Uint8Array;
  readonly trustDomain: TrustDomain;
  /** The certificate above the new one: the anchor, or an intermediate CA. DER. */
  readonly anchor: Uint8Array;
  /** Holds the key of `anchor`. */
  readonly signer: AuthoritySigner;
  /** Moved up to the anchor's notBefore. */
  readonly notBeforeMs: number;
  /** Cut back to the anchor's notAfter. */
  readonly notAfterMs: number;
  /** See {@link certificateSerial}. */
  readonly serialNumber: Uint8Array;
  /** Default {@link ISSUER_PATH_LENGTH}; at least one less than the anchor's. */
  readonly pathLength?: number;
}

/**
 * A new trust anchor, DER: self-signed, cA with a path length, keyCertSign and cRLSign, both extensions critical,
 * the trust domain's ID as its URI SAN, a subject key identifier (X509-SVID sections 3.2 and 4).
 *
 * The subject is never empty (RFC 5280 section 4.1.2.6) and holds the subject key identifier, so that no two
 * keys share a name: a validator with several anchors never has to guess which one is meant.
 */
export async function mintAnchor(request: AnchorRequest): Promise<Uint8Array> {
  const { signer, trustDomain } = request;
  const { crypto, keys, signingAlgorithm } = await signerCrypto(signer);
  const subject = authoritySubject(trustDomain, 'Kedge trust anchor', signer.spki);
  const certificate = await x509.X509CertificateGenerator.create(
    {
      serialNumber: certificateSerial(request.serialNumber),
      subject,
      issuer: subject,
      ...validity(request.notBeforeMs, request.notAfterMs),
      publicKey: keys.publicKey,
      signingKey: keys.privateKey,
      signingAlgorithm,
      extensions: [
        ...authorityExtensions(trustDomain, signer.spki, request.pathLength ?? ANCHOR_PATH_LENGTH),
        ...(request.uriNameConstraints === true ? [trustDomainConstraint(trustDomain)] : []),
      ],
    },
    crypto,
  );
  return new Uint8Array(certificate.rawData);
}

/**
 * A new issuer below an anchor, DER: the profile of {@link mintAnchor} with an authority key identifier and, by
 * default, path length 0. It never outlives the anchor.
 *
 * Of the CSR only the key and its one URI SAN, the trust domain's ID, count. Errors: the csr_* codes,
 * `csr_spiffe_id_mismatch` for another URI SAN, `authority_unusable` when the anchor cannot sign this issuer.
 */
export async function mintIssuer(request: IssuerRequest): Promise<Uint8Array> {
  const { signer, trustDomain } = request;
  const spki = checkIssuerCsr(request.csr, trustDomain);
  const anchor = parseCertificate(request.anchor, 'authority_unusable');
  const pathLength = request.pathLength ?? ISSUER_PATH_LENGTH;
  checkCanSign(anchor, signer, pathLength);
  const { crypto, keys, signingAlgorithm } = await signerCrypto(signer);
  const certificate = await x509.X509CertificateGenerator.create(
    {
      serialNumber: certificateSerial(request.serialNumber),
      subject: authoritySubject(trustDomain, 'Kedge issuer', spki),
      issuer: new x509.Name(anchor.subject),
      ...validity(
        Math.max(request.notBeforeMs, anchor.notBeforeMs),
        Math.min(request.notAfterMs, anchor.notAfterMs),
      ),
      publicKey: spki,
      signingKey: keys.privateKey,
      signingAlgorithm,
      extensions: [
        ...authorityExtensions(trustDomain, spki, pathLength),
        new x509.AuthorityKeyIdentifierExtension(toHex(anchor.subjectKeyId ?? subjectKeyId(anchor.spki))),
      ],
    },
    crypto,
  );
  return new Uint8Array(certificate.rawData);
}

/** The PKCS#10 request of a new issuer, DER: signed by its key, the trust domain's ID as its only URI SAN. */
export async function issuerCsr(request: {
  readonly trustDomain: TrustDomain;
  readonly signer: AuthoritySigner;
}): Promise<Uint8Array> {
  const { crypto, keys, signingAlgorithm } = await signerCrypto(request.signer);
  const csr = await x509.Pkcs10CertificateRequestGenerator.create(
    {
      name: authoritySubject(request.trustDomain, 'Kedge issuer', request.signer.spki),
      keys,
      signingAlgorithm,
      extensions: [trustDomainName(request.trustDomain)],
    },
    crypto,
  );
  return new Uint8Array(csr.rawData);
}

/**
 * A serial number as hex, from at least 8 unpredictable octets (at most 20): the first two bits are set to 01,
 * which makes it positive, never zero and of one length (RFC 5280 section 4.1.2.2).
 */
export function certificateSerial(random: Uint8Array): string {
  if (random.length < 8 || random.length > 20) throw new RangeError('a serial number has 8 to 20 octets');
  return toHex(random.map((octet, i) => (i === 0 ? (octet & 0x3f) | 0x40 : octet)));
}

function authoritySubject(trustDomain: TrustDomain, commonName: string, spki: Uint8Array): x509.Name {
  return new x509.Name([
    // 64 characters is all that an organization name may have (RFC 5280 appendix A.1).
    { O: [trustDomain.name.slice(0, 64)] },
    { CN: [commonName] },
    { [OID.serialNumber]: [{ printableString: toHex(subjectKeyId(spki)) }] },
  ]);
}

function authorityExtensions(
  trustDomain: TrustDomain,
  spki: Uint8Array,
  pathLength: number,
): readonly x509.Extension[] {
  if (!Number.isInteger(pathLength) || pathLength < 0 || pathLength > 6)
    throw new RangeError(`no path length of Kedge: ${pathLength}`);
  return [
    new x509.BasicConstraintsExtension(true, pathLength, true),
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
    new x509.SubjectKeyIdentifierExtension(toHex(subjectKeyId(spki))),
    trustDomainName(trustDomain),
  ];
}

function trustDomainName(trustDomain: TrustDomain): x509.Extension {
  return new x509.SubjectAlternativeNameExtension([{ type: 'url', value: trustDomain.id }]);
}

/** NameConstraints with the trust domain as the only permitted URI host (RFC 5280 section 4.2.1.10). */
function trustDomainConstraint(trustDomain: TrustDomain): x509.Extension {
  const uri = derContextPrimitive(6, ia5Octets(trustDomain.name));
  return new x509.Extension(OID.nameConstraints, true, derSequence(derContext(0, derSequence(uri))));
}

function checkIssuerCsr(der: Uint8Array, trustDomain: TrustDomain): Uint8Array {
  const csr = parseCsr(der);
  verifyProofOfPossession(csr);
  const [uri, ...more] = csr.uriSans;
  if (uri !== trustDomain.id || more.length > 0) {
    throw new KedgeError(
      'csr_spiffe_id_mismatch',
      `the CSR of an issuer of ${quote(trustDomain.id)} asks for ${quote(csr.uriSans.join(' '))}`,
      { hint: 'give the trust domain ID as the only URI SAN' },
    );
  }
  return csr.spki;
}

function checkCanSign(anchor: Certificate, signer: AuthoritySigner, pathLength: number): void {
  if (!equalBytes(anchor.spki, signer.spki)) {
    throw new KedgeError('authority_unusable', 'the signer does not hold the key of the anchor');
  }
  const room = anchor.basicConstraints?.pathLength;
  if (room !== undefined && room <= pathLength) {
    throw new KedgeError(
      'authority_unusable',
      `an anchor of path length ${room} has no room for an issuer of path length ${pathLength}`,
      { hint: 'use an anchor with a longer path length' },
    );
  }
}

/** Whole seconds, as certificates have them; both ends are cut down. */
function validity(notBeforeMs: number, notAfterMs: number): { notBefore: Date; notAfter: Date } {
  const second = (ms: number): Date => new Date(Math.floor(ms / 1000) * 1000);
  const [notBefore, notAfter] = [second(notBeforeMs), second(notAfterMs)];
  if (!(notBefore < notAfter)) {
    throw new KedgeError(
      'authority_unusable',
      `an authority that ends at ${notAfter.toISOString()} cannot begin at ${notBefore.toISOString()}`,
      { hint: 'replace the anchor first if it is the one that ends' },
    );
  }
  return { notBefore, notAfter };
}
