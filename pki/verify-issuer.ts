import { equalBytes } from './bytes.ts';
import type { Certificate } from './certificate.ts';
import type { ErrorCode } from './error-table.ts';
import { KedgeError, quote } from './kedge-error.ts';
import type { TrustDomain } from './spiffe-id.ts';
import { checkExtendedKeyUsage, checkKeyUsagePresent, spiffeIdOf } from './verify-leaf.ts';

/**
 * Checks what a CA certificate in the path of an SVID of `trustDomain` must be: cA, a critical key usage with
 * keyCertSign, and no SPIFFE ID but that of the trust domain (X509-SVID sections 3.2 and 4; RFC 5280 section
 * 6.1.4 steps k and n). `role` names it in messages.
 *
 * X509-SVID section 3.2 only recommends that a CA be of the same trust domain as its SVIDs; Kedge insists.
 */
export function checkIssuer(issuer: Certificate, trustDomain: TrustDomain, role: string): void {
  if (issuer.basicConstraints?.ca !== true)
    throw wrong('svid_issuer_not_ca', `${role} is not a CA certificate`);
  checkKeyUsagePresent(issuer, role);
  if (issuer.keyUsage?.usages.includes('keyCertSign') !== true)
    throw wrong('svid_issuer_cannot_sign', `the key usage of ${role} lacks keyCertSign`);
  checkExtendedKeyUsage(issuer, role);
  const id = hasSpiffeUri(issuer) ? spiffeIdOf(issuer, role) : null;
  if (id === null) return;
  if (id.path !== '')
    throw wrong('svid_issuer_has_path', `the SPIFFE ID ${quote(id.toString())} of ${role} has a path`);
  if (!id.trustDomain.equals(trustDomain)) {
    throw wrong(
      'svid_issuer_trust_domain_mismatch',
      `${role} is of ${quote(id.toString())}, the leaf of ${quote(trustDomain.id)}`,
    );
  }
}

/**
 * Checks the path length of each CA in `path`, which runs from the leaf to the anchor: how many CA certificates
 * that are not self-issued may stand below it (RFC 5280 section 4.2.1.9). The anchor's counts too.
 */
export function checkPathLengths(path: readonly Certificate[], roleOf: (index: number) => string): void {
  let below = 0;
  for (const [index, issuer] of path.entries()) {
    if (index === 0) continue;
    const allowed = issuer.basicConstraints?.pathLength ?? below;
    if (below > allowed) {
      throw wrong(
        'svid_path_length_exceeded',
        `${roleOf(index)} allows ${allowed} CA certificates below it and has ${below}`,
      );
    }
    if (!isSelfIssued(issuer)) below += 1;
  }
}

/** True when subject and issuer are the same name (RFC 5280 section 3.2). */
export function isSelfIssued(certificate: Certificate): boolean {
  return equalBytes(certificate.subject, certificate.issuer);
}

/** A CA of someone else may have URI SANs of its own; it is an SVID only when one is a SPIFFE ID, or wants to be. */
function hasSpiffeUri(issuer: Certificate): boolean {
  return issuer.subjectAltName?.uris.some((uri) => /^spiffe:/i.test(uri)) === true;
}

function wrong(code: ErrorCode, message: string): KedgeError {
  return new KedgeError(code, message, {
    hint: 'have the CA certificate issued anew by the X509-SVID profile',
  });
}
