import { attempt } from './attempt.ts';
import { equalBytes } from './bytes.ts';
import { type Certificate, parseCertificate } from './certificate.ts';
import { type Crl, isCrlOf, serialOf, verifyCrl } from './crl.ts';
import { KedgeError, quote } from './kedge-error.ts';
import { LIMITS } from './limits.ts';
import type { SpiffeId, TrustDomain } from './spiffe-id.ts';
import { checkIssuer, checkPathLengths, isSelfIssued } from './verify-issuer.ts';
import { checkLeaf } from './verify-leaf.ts';
import { checkNameConstraints } from './verify-names.ts';
import { candidatePaths } from './verify-path.ts';

/** An SVID to verify, and what to hold it against. */
export interface SvidVerification {
  /** DER; the leaf first, the others in any order, the anchor among them or not. */
  readonly chain: readonly Uint8Array[];
  /**
   * The X.509 authorities of a trust domain, DER, or undefined when it has no bundle here. It is asked for the
   * leaf's trust domain and no other, so that no bundle ever vouches for another's IDs.
   */
  readonly bundles: (trustDomain: TrustDomain) => readonly Uint8Array[] | undefined;
  readonly nowMs: number;
  /** See {@link verifyX509Svid} for what they mean. */
  readonly crls?: readonly Crl[];
  /** The only SPIFFE ID that will do. */
  readonly expectedId?: SpiffeId;
}

/** An SVID that was found good. */
export interface VerifiedSvid {
  readonly spiffeId: SpiffeId;
  readonly leaf: Certificate;
  readonly anchor: Certificate;
  /** From the leaf to the anchor, both included. */
  readonly path: readonly Certificate[];
}

/**
 * Verifies an X.509-SVID against the bundle of its trust domain at a given time: X509-SVID section 5 and, for the
 * path, RFC 5280 section 6.1 with names compared byte by byte and without certificate policies (a critical policy
 * extension is an unknown one, and refuses). Every refusal is a KedgeError with its own `svid_*` code, but
 * `bundle_empty` for a bundle without authorities and `bundle_malformed` for one that holds no certificates.
 *
 * Where readings differ, the one that OpenSSL takes: a certificate ends at its notAfter, not a second later; an
 * anchor is subject to the same checks as every CA, dates included; it must name itself as its issuer.
 *
 * CRLs: an entry of a CRL by the issuer of a certificate in the path revokes it, and whatever is below. A CRL of
 * any other authority is passed over. One that names an issuer of the path without being signed by it refuses the
 * SVID, `crl_signature_invalid`: somebody hides the true one. One past its nextUpdate still revokes what it
 * lists, and refuses nobody else: an agent cut off from its CA goes on until its SVID expires.
 *
 * Synchronous, on node:crypto alone: the agent runs it at each rotation.
 */
export function verifyX509Svid(verification: SvidVerification): VerifiedSvid {
  const [leaf, ...others] = parseChain(verification.chain);
  if (leaf === undefined) throw new KedgeError('svid_chain_empty', 'the chain has no certificate');
  const spiffeId = checkLeaf(leaf);
  checkCertificate(leaf, verification.nowMs, 'the leaf');
  const anchors = anchorsOf(verification, spiffeId.trustDomain);
  const verified = findPath({ leaf, others, anchors }, spiffeId, verification);
  const { expectedId } = verification;
  if (expectedId !== undefined && !spiffeId.equals(expectedId)) {
    throw new KedgeError(
      'svid_unexpected_id',
      `the SVID is of ${quote(spiffeId.toString())}, expected is ${quote(expectedId.toString())}`,
    );
  }
  return verified;
}

function parseChain(chain: readonly Uint8Array[]): readonly Certificate[] {
  if (chain.length > LIMITS.chainCertificates) {
    throw new KedgeError(
      'svid_chain_too_long',
      `a chain of ${chain.length} certificates is over the limit of ${LIMITS.chainCertificates}`,
    );
  }
  return chain.map((der) => parseCertificate(der, 'svid_malformed'));
}

function anchorsOf({ bundles }: SvidVerification, trustDomain: TrustDomain): readonly Certificate[] {
  const bundle = bundles(trustDomain);
  if (bundle === undefined) {
    throw new KedgeError(
      'svid_trust_domain_unknown',
      `there is no bundle for the trust domain ${quote(trustDomain.name)}`,
      { hint: 'federate with the trust domain, or give its bundle' },
    );
  }
  if (bundle.length === 0)
    throw new KedgeError('bundle_empty', `the bundle of ${quote(trustDomain.name)} holds no X.509 authority`);
  return bundle.map((der) => parseCertificate(der, 'bundle_malformed')).filter(isAnchor);
}

/** Self-issued, and not signed by another key of the same name. */
function isAnchor(certificate: Certificate): boolean {
  const { subjectKeyId, authorityKeyId } = certificate;
  const isOwnKey =
    subjectKeyId === undefined || authorityKeyId === undefined || equalBytes(subjectKeyId, authorityKeyId);
  return isOwnKey && isSelfIssued(certificate);
}

interface PathParts {
  readonly leaf: Certificate;
  readonly others: readonly Certificate[];
  readonly anchors: readonly Certificate[];
}

/** The first path that holds; else throws what was wrong with the first one, which is the shortest. */
function findPath(parts: PathParts, spiffeId: SpiffeId, verification: SvidVerification): VerifiedSvid {
  const pathErrors: KedgeError[] = [];
  const linkErrors: KedgeError[] = [];
  const search = { ...parts, onBadLink: (error: KedgeError) => linkErrors.push(error) };
  for (const { certificates, anchor } of candidatePaths(search)) {
    const checked = attempt(() => checkPath(certificates, spiffeId.trustDomain, verification));
    if (checked.ok) return { spiffeId, leaf: parts.leaf, anchor, path: certificates };
    pathErrors.push(checked.refusal);
  }
  throw pathErrors[0] ?? linkErrors[0] ?? untrusted(spiffeId.trustDomain);
}

function checkPath(
  path: readonly Certificate[],
  trustDomain: TrustDomain,
  { nowMs, crls = [] }: SvidVerification,
): void {
  const roleOf = (index: number): string => {
    if (index === 0) return 'the leaf';
    return index === path.length - 1 ? 'the trust anchor' : `issuer ${index} of the chain`;
  };
  for (const [index, certificate] of path.entries()) {
    if (index === 0) continue;
    checkCertificate(certificate, nowMs, roleOf(index));
    checkIssuer(certificate, trustDomain, roleOf(index));
  }
  checkPathLengths(path, roleOf);
  checkNameConstraints(path, roleOf);
  checkRevocation(path, crls, roleOf);
}

/** What holds for every certificate of a path (RFC 5280 section 6.1.3 step a 2, section 4.2). */
function checkCertificate(certificate: Certificate, nowMs: number, role: string): void {
  const [unknown] = certificate.unknownCriticalExtensions;
  if (unknown !== undefined) {
    throw new KedgeError(
      'svid_extension_unknown_critical',
      `${role} has the critical extension ${unknown}, which Kedge does not know`,
    );
  }
  if (nowMs < certificate.notBeforeMs) {
    throw new KedgeError(
      'svid_not_yet_valid',
      `${role} is valid from ${new Date(certificate.notBeforeMs).toISOString()}`,
      { hint: 'compare the clocks of both machines' },
    );
  }
  if (nowMs >= certificate.notAfterMs) {
    throw new KedgeError(
      'svid_expired',
      `${role} was valid until ${new Date(certificate.notAfterMs).toISOString()}`,
      { hint: 'renew it; if it was renewed, compare the clocks of both machines' },
    );
  }
}

function checkRevocation(
  path: readonly Certificate[],
  crls: readonly Crl[],
  roleOf: (index: number) => string,
): void {
  for (const [index, issuer] of path.entries()) {
    const certificate = path[index - 1];
    if (certificate === undefined) continue;
    for (const crl of crls) {
      if (!isCrlOf(crl, issuer)) continue;
      verifyCrl(crl, issuer);
      const entry = crl.entries.get(serialOf(certificate.serialNumber));
      if (entry === undefined) continue;
      throw new KedgeError(
        'svid_revoked',
        `${roleOf(index - 1)} was revoked at ${new Date(entry.revokedAtMs).toISOString()}: ${entry.reason}`,
      );
    }
  }
}

function untrusted(trustDomain: TrustDomain): KedgeError {
  return new KedgeError(
    'svid_untrusted',
    `no trust anchor of ${quote(trustDomain.name)} has signed the chain`,
    { hint: 'refresh the bundle; if the anchor was removed, the SVID must be issued anew' },
  );
}
