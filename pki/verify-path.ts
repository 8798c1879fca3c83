import { attempt } from './attempt.ts';
import { equalBytes } from './bytes.ts';
import type { Certificate } from './certificate.ts';
import { KedgeError } from './kedge-error.ts';
import { verifySignature } from './public-key.ts';

/** What {@link candidatePaths} searches in. */
export interface PathSearch {
  readonly leaf: Certificate;
  /** Certificates that came with the leaf, in any order; some may be anchors, repeated or of no use. */
  readonly others: readonly Certificate[];
  readonly anchors: readonly Certificate[];
  /** Takes note of every link that names and key identifiers suggest and that does not hold. */
  readonly onBadLink: (error: KedgeError) => void;
}

/** A path: each certificate is signed by the next. */
export interface CandidatePath {
  /** From the leaf to the anchor, both included. */
  readonly certificates: readonly Certificate[];
  readonly anchor: Certificate;
}

/**
 * Every path from the leaf to an anchor in which each certificate is signed by the next, the shortest ways first.
 *
 * There may be several: an anchor reissued with the same name and key, an issuer certified by two anchors. Issuers
 * are found by name, by key identifier where both certificates have one, and by signature (RFC 5280 sections
 * 4.2.1.1 and 6.1.3). No name with the same key stands twice in a path (RFC 4158 section 5.2), so there are no
 * loops, and an anchor that came with the chain is not its own intermediate. A certificate has but one issuer
 * name, so the number of paths is bounded by that of the certificates given, which the caller bounds.
 */
export function* candidatePaths(search: PathSearch): Generator<CandidatePath, void> {
  yield* extend(search, [search.leaf], search.leaf, new Map());
}

/** Links already tried: whether the second certificate has signed the first. */
type KnownLinks = Map<Certificate, Map<Certificate, boolean>>;

function* extend(
  search: PathSearch,
  path: readonly Certificate[],
  last: Certificate,
  known: KnownLinks,
): Generator<CandidatePath, void> {
  const mayFollow = (issuer: Certificate): boolean =>
    isNamedIssuer(last, issuer) && !path.some((other) => isSameAuthority(other, issuer));
  for (const anchor of search.anchors) {
    if (mayFollow(anchor) && hasSigned(search, last, anchor, known))
      yield { certificates: [...path, anchor], anchor };
  }
  for (const issuer of search.others) {
    if (mayFollow(issuer) && hasSigned(search, last, issuer, known))
      yield* extend(search, [...path, issuer], issuer, known);
  }
}

function isNamedIssuer(subject: Certificate, issuer: Certificate): boolean {
  if (!equalBytes(subject.issuer, issuer.subject)) return false;
  const [wanted, found] = [subject.authorityKeyId, issuer.subjectKeyId];
  return wanted === undefined || found === undefined || equalBytes(wanted, found);
}

function isSameAuthority(a: Certificate, b: Certificate): boolean {
  return equalBytes(a.spki, b.spki) && equalBytes(a.subject, b.subject);
}

function hasSigned(
  { onBadLink }: PathSearch,
  subject: Certificate,
  issuer: Certificate,
  known: KnownLinks,
): boolean {
  const links = known.get(subject) ?? new Map<Certificate, boolean>();
  known.set(subject, links);
  const answer = links.get(issuer) ?? tryLink(subject, issuer, onBadLink);
  links.set(issuer, answer);
  return answer;
}

function tryLink(subject: Certificate, issuer: Certificate, onBadLink: PathSearch['onBadLink']): boolean {
  const { signatureAlgorithm, tbs, signature } = subject;
  const verified = attempt(() =>
    verifySignature(signatureAlgorithm, issuer.spki, tbs, signature, 'svid_algorithm_unsupported'),
  );
  if (!verified.ok) onBadLink(verified.refusal);
  else if (!verified.value) onBadLink(badSignature());
  return verified.ok && verified.value;
}

function badSignature(): KedgeError {
  return new KedgeError('svid_signature_invalid', 'a certificate is not signed by the issuer that it names', {
    hint: 'the certificate was altered, or its issuer has another key under the same name',
  });
}
