import { equalBytes } from '../../../pki/bytes.ts';
import { type Certificate, parseCertificate } from '../../../pki/certificate.ts';
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
 * does. The certificates of `pool` may be in any order, of no use, or repeated. All DER.
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
  const search = { leaf, others, anchors: [anchor], onBadLink: () => {} };
  for (const { certificates } of candidatePaths(search)) {
    if (certificates.length <= LIMITS.chainCertificates) return certificates;
  }
  return null;
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
