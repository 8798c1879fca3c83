import type { Certificate } from './certificate.ts';
import type { NameConstraints } from './certificate-extensions.ts';
import type { GeneralName } from './general-name.ts';
import { KedgeError } from './kedge-error.ts';
import { type Judgement, dnsNameInSubtree, ipAddressInSubtree, uriInSubtree } from './name-constraints.ts';
import { isSelfIssued } from './verify-issuer.ts';

/**
 * Checks the names of every certificate in `path`, which runs from the leaf to the anchor, against the name
 * constraints of every CA above it, the anchor's included (RFC 5280 sections 4.2.1.10 and 6.1.4). Names of
 * self-issued CA certificates are not constrained.
 *
 * URI, DNS and IP constraints are judged. A constraint of another form (directory, email, ...) refuses every
 * certificate that has, or in its subject may have, a name of that form: RFC 5280 leaves only that to who cannot
 * process it. Throws `svid_name_constraint_violated`.
 */
export function checkNameConstraints(path: readonly Certificate[], roleOf: (index: number) => string): void {
  for (const [index, certificate] of path.entries()) {
    if (index > 0 && isSelfIssued(certificate)) continue;
    const names = namesOf(certificate);
    for (const [distance, issuer] of path.slice(index + 1).entries()) {
      const fault = issuer.nameConstraints === undefined ? null : faultOf(names, issuer.nameConstraints);
      if (fault === null) continue;
      throw new KedgeError(
        'svid_name_constraint_violated',
        `${roleOf(index)} has ${fault} by the name constraints of ${roleOf(index + 1 + distance)}`,
        { hint: 'use an issuer whose name constraints permit every name of the certificates below it' },
      );
    }
  }
}

/** The SANs, and the subject as the directory name that it is. */
function namesOf(certificate: Certificate): readonly GeneralName[] {
  const names = certificate.subjectAltName?.names ?? [];
  const hasSubject = certificate.subject.length > 2;
  return hasSubject ? [...names, { kind: 'directory', der: certificate.subject }] : names;
}

function faultOf(names: readonly GeneralName[], constraints: NameConstraints): string | null {
  for (const name of names) {
    const permitted = constraints.permitted.map((subtree) => judge(name, subtree, 'all'));
    const excluded = constraints.excluded.map((subtree) => judge(name, subtree, 'any'));
    if (permitted.includes(null) || excluded.includes(null))
      return `a name of the form ${name.kind} that cannot be judged`;
    const applicable = permitted.filter((inside) => inside !== 'other form');
    if (applicable.length > 0 && !applicable.includes(true))
      return `a name of the form ${name.kind} that is not permitted`;
    if (excluded.includes(true)) return `a name of the form ${name.kind} that is excluded`;
  }
  return null;
}

function judge(name: GeneralName, subtree: GeneralName, wildcard: 'all' | 'any'): Judgement | 'other form' {
  if (name.kind === 'uri' && subtree.kind === 'uri') return uriInSubtree(name.value, subtree.value);
  if (name.kind === 'dns' && subtree.kind === 'dns')
    return dnsNameInSubtree(name.value, subtree.value, wildcard);
  if (name.kind === 'ip' && subtree.kind === 'ip') return ipAddressInSubtree(name.octets, subtree.octets);
  // An emailAddress may stand in the subject (RFC 5280 section 4.1.2.6), which is not taken apart here.
  const isEmailInSubject = name.kind === 'directory' && subtree.kind === 'email';
  return name.kind === subtree.kind || isEmailInSubject ? null : 'other form';
}
