import { attempt } from './attempt.ts';
import type { Certificate } from './certificate.ts';
import type { ErrorCode } from './error-table.ts';
import { KedgeError, quote } from './kedge-error.ts';
import { OID } from './oid.ts';
import { SpiffeId } from './spiffe-id.ts';

/**
 * Checks what an X.509-SVID must be by itself, before anyone asks who signed it, and gives its SPIFFE ID
 * (X509-SVID sections 2, 3.1, 4 and 5.2). Each rule has its own `svid_*` code; the ones that tell a signing
 * certificate come first, since such a certificate is never one for authentication.
 */
export function checkLeaf(leaf: Certificate): SpiffeId {
  const usages = leaf.keyUsage?.usages ?? [];
  if (leaf.basicConstraints?.ca === true)
    throw wrong('svid_leaf_is_ca', 'the leaf is a CA certificate', 'put the SVID first, then its issuers');
  checkKeyUsagePresent(leaf, 'the leaf');
  if (usages.includes('keyCertSign'))
    throw wrong('svid_leaf_signs_certificates', "the leaf's key usage has keyCertSign");
  if (usages.includes('cRLSign')) throw wrong('svid_leaf_signs_crls', "the leaf's key usage has cRLSign");
  if (!usages.includes('digitalSignature'))
    throw wrong('svid_digital_signature_missing', "the leaf's key usage lacks digitalSignature");
  checkExtendedKeyUsage(leaf, 'the leaf');
  const spiffeId = spiffeIdOf(leaf, 'the leaf');
  if (spiffeId === null) throw wrong('svid_uri_san_missing', 'the leaf has no URI SAN');
  if (spiffeId.path === '')
    throw wrong('svid_path_missing', `the SPIFFE ID ${quote(spiffeId.toString())} of the leaf has no path`);
  if (isEmptyName(leaf.subject) && leaf.subjectAltName?.critical !== true) {
    throw wrong(
      'svid_subject_empty_san_not_critical',
      'the leaf has an empty subject and a SAN that is not critical',
    );
  }
  return spiffeId;
}

/** Checks that key usage is there and critical, as on every SVID (X509-SVID section 4.3). */
export function checkKeyUsagePresent(certificate: Certificate, role: string): void {
  if (certificate.keyUsage?.critical === true) return;
  const fault =
    certificate.keyUsage === undefined ? 'has no key usage' : 'has a key usage that is not critical';
  throw wrong('svid_key_usage_missing', `${role} ${fault}`);
}

/**
 * Checks that an extended key usage, where there is one, has both purposes of an SVID (X509-SVID section 4.4).
 *
 * On a CA too: OpenSSL and Go let a CA's purposes bind everything below it, so that an SVID under a CA for other
 * purposes would pass here and fail in every handshake.
 */
export function checkExtendedKeyUsage(certificate: Certificate, role: string): void {
  const purposes = certificate.extendedKeyUsage?.purposes;
  if (purposes === undefined) return;
  if (purposes.includes(OID.serverAuth) && purposes.includes(OID.clientAuth)) return;
  throw wrong(
    'svid_extended_key_usage_invalid',
    `${role} has an extended key usage without both serverAuth and clientAuth`,
  );
}

/** The SPIFFE ID of a certificate, or null when it has no URI SAN (X509-SVID section 2). */
export function spiffeIdOf(certificate: Certificate, role: string): SpiffeId | null {
  const uris = certificate.subjectAltName?.uris ?? [];
  const [uri] = uris;
  if (uris.length > 1) throw wrong('svid_uri_san_multiple', `${role} has ${uris.length} URI SANs`);
  if (uri === undefined) return null;
  const parsed = attempt(() => SpiffeId.parse(uri));
  if (parsed.ok) return parsed.value;
  const { refusal } = parsed;
  throw new KedgeError(
    'svid_spiffe_id_invalid',
    `the URI SAN of ${role} is no SPIFFE ID: ${refusal.message}`,
    {
      cause: refusal,
    },
  );
}

const EMPTY_NAME_OCTETS = 2;

function isEmptyName(name: Uint8Array): boolean {
  return name.length === EMPTY_NAME_OCTETS;
}

function wrong(
  code: ErrorCode,
  message: string,
  hint = 'issue the certificate anew by the X509-SVID profile',
): KedgeError {
  return new KedgeError(code, message, { hint });
}
