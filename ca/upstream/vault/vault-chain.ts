import { equalBytes } from '../../../pki/bytes.ts';
import { type Certificate, parseCertificate } from '../../../pki/certificate.ts';
import { KedgeError } from '../../../pki/kedge-error.ts';
import { LIMITS } from '../../../pki/limits.ts';
import { isSelfIssued } from '../../../pki/verify-issuer.ts';
import { candidatePaths } from '../../../pki/verify-path.ts';

/**
 * The root that a CA certificate hangs under: itself where it is one, else the first self-issued certificate to which
 * a path of signatures leads; `pool` in order of preference. Null when the pool has none. All DER.
 *
 * Trust anchors are self-signed roots, never a CA in between: validators such as OpenSSL refuse a chain that ends in
 * one that is not. With cross-signed certificates there may be several roots; the one that Vault itself names first
 * in its chain counts.
 */
export function rootOf(ca: Uint8Array, pool: readonly Uint8Array[]): Uint8Array | null {
  const leaf = parseCertificate(ca, 'vault_answer_invalid');
  if (isSelfIssued(leaf)) return leaf.der;
  const others = distinct([...pool], leaf);
  const roots = others.filter(isSelfIssued);
  for (const root of roots) if (pathTo(leaf, root, others) !== null) return root.der;
  return null;
}

/**
 * What leads from a certificate to `anchor`, the certificate itself first, without the anchor; null when nothing
 * does. The certificates of `pool` may be in any order, of no use, or repeated. All DER. Throws
 * `vault_certificate_key_unsupported`, `vault_answer_invalid`.
 */
export function chainTo(
  anchor: Uint8Array,
  certificate: Uint8Array,
  pool: readonly Uint8Array[],
): readonly Uint8Array[] | null {
  const leaf = parseCertificate(certificate, 'vault_answer_invalid');
  const top = parseCertificate(anchor, 'vault_answer_invalid');
  if (equalBytes(leaf.der, top.der)) return [];
  const path = pathTo(leaf, top, distinct(pool, leaf));
  return path === null ? null : path.slice(0, -1).map(({ der }) => der);
}

function pathTo(
  leaf: Certificate,
  anchor: Certificate,
  others: readonly Certificate[],
): readonly Certificate[] | null {
  let unsupported: KedgeError | null = null;
  const onBadLink = (error: KedgeError): void => {
    if (error.code === 'svid_algorithm_unsupported') unsupported = error;
  };
  for (const { certificates } of candidatePaths({ leaf, others, anchors: [anchor], onBadLink })) {
    if (certificates.length <= LIMITS.chainCertificates) return certificates;
  }
  if (unsupported === null) return null;
  throw keyUnsupported(unsupported);
}

function keyUnsupported(cause: KedgeError): KedgeError {
  return new KedgeError('vault_certificate_key_unsupported', cause.message, {
    hint: 'make the CA with key_type=ec key_bits=256 or 384, or key_type=rsa key_bits=2048 or more',
    cause,
  });
}

/** Parsed, each once, without the leaf; no more than are taken from one answer. */
function distinct(pool: readonly Uint8Array[], leaf: Certificate): readonly Certificate[] {
  const found: Certificate[] = [];
  for (const der of pool) {
    const isKnown = equalBytes(der, leaf.der) || found.some((other) => equalBytes(other.der, der));
    if (!isKnown && found.length < LIMITS.vaultCertificates)
      found.push(parseCertificate(der, 'vault_answer_invalid'));
  }
  return found;
}
