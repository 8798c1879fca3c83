import { attempt } from './attempt.ts';
import type { AuthoritySigner } from './authority-signer.ts';
import { equalBytes } from './bytes.ts';
import { type Certificate, parseCertificate } from './certificate.ts';
import { KedgeError } from './kedge-error.ts';
import { verifySignature } from './public-key.ts';
import { SpiffeId, type TrustDomain } from './spiffe-id.ts';
import { checkIssuer, checkPathLengths, isSelfIssued } from './verify-issuer.ts';
import { checkNameConstraints } from './verify-names.ts';
import { assembleCertificate, buildSvidTbs, svidTemplate } from './x509-svid-profile.ts';
import { verifyX509Svid } from './x509-svid-verify.ts';

/** An authority that is about to be adopted. */
export interface AuthorityCandidate {
  readonly trustDomain: TrustDomain;
  /** The new authority's certificate first, then what leads to the anchor, without the anchor. DER. */
  readonly chain: readonly Uint8Array[];
  /** DER; null when the new authority is itself an anchor. */
  readonly anchor: Uint8Array | null;
  /** SubjectPublicKeyInfo of the key that is to sign, DER; null when the key is not ours. */
  readonly spki: Uint8Array | null;
  /**
   * Whether it must have the trust domain's ID as its URI SAN. Default `required`, as in what Kedge asks for;
   * `optional` for a CA that others made: X509-SVID section 3.2 only recommends it. Another ID is refused either way.
   */
  readonly spiffeId?: 'required' | 'optional';
  readonly nowMs: number;
}

/**
 * Checks an authority before it is adopted, whoever minted it, and gives its certificate: a CA of the trust
 * domain by the X509-SVID profile, valid now, of the key that is to sign, with room below it for SVIDs, under the
 * anchor and never beyond the anchor's end; an anchor must have signed itself.
 *
 * The chain has to be in order. Throws `authority_unusable` with the reason.
 */
export function checkAuthority(candidate: AuthorityCandidate): Certificate {
  const { anchor, chain, nowMs, spki, trustDomain } = candidate;
  return orUnusable(() => {
    const path = [...chain, ...(anchor === null ? [] : [anchor])].map((der) =>
      parseCertificate(der, 'authority_unusable'),
    );
    const [authority] = path;
    const top = path.at(-1);
    if (authority === undefined || top === undefined) throw unusable('there is no certificate');
    if (!isSelfIssued(top)) throw unusable('the anchor does not name itself as its issuer');
    checkOwnFields(authority, trustDomain, candidate.spiffeId ?? 'required');
    if (spki !== null) checkOwnKey(authority, spki);
    for (const [index, certificate] of path.entries()) {
      checkLink(certificate, path[index + 1] ?? top);
      checkIssuer(certificate, trustDomain, roleOf(index));
      checkCritical(certificate, roleOf(index));
      checkValidity(certificate, authority, nowMs, roleOf(index));
    }
    if (anchor === null && authority.basicConstraints?.pathLength === 0)
      throw unusable('its path length leaves no room for an issuer');
    // The first in the list stands for the SVID below; it is no CA and does not count.
    checkPathLengths([authority, ...path], (index) => roleOf(index - 1));
    checkNameConstraints(path, roleOf);
    return authority;
  });
}

/** What a throwaway SVID needs. */
export interface ThrowawaySvid {
  readonly trustDomain: TrustDomain;
  /** The issuer's certificate first, then what leads to the anchor, as SVIDs will carry it. DER. */
  readonly chain: readonly Uint8Array[];
  /** Holds the issuer's key. */
  readonly signer: AuthoritySigner;
  /** The anchors of the bundle that verifiers will have, DER. */
  readonly anchors: readonly Uint8Array[];
  /** SubjectPublicKeyInfo of a key made for this and thrown away, DER. */
  readonly spki: Uint8Array;
  /** 16 random octets. */
  readonly serialNumber: Uint8Array;
  readonly nowMs: number;
}

/** Whom throwaway SVIDs name; no template yields it, `/kedge/` being reserved. */
const THROWAWAY_PATH = '/kedge/throwaway';
const THROWAWAY_LIFETIME_MS = 1000;

/**
 * Signs an SVID with a new issuer just as real ones will be, and verifies it as every peer will: what is wrong
 * with key, certificate, chain or bundle shows before the first workload depends on it.
 *
 * The SVID lives for a second at most, and never leaves this function. Throws `authority_unusable`.
 */
export async function tryThrowawaySvid(request: ThrowawaySvid): Promise<void> {
  const { anchors, chain, nowMs, signer, spki, serialNumber, trustDomain } = request;
  const [issuer] = chain;
  if (issuer === undefined) throw unusable('there is no certificate');
  const { algorithm } = signer;
  const notBeforeMs = Math.floor(nowMs / 1000) * 1000;
  const tbs = orUnusable(() => {
    const template = svidTemplate({
      issuerCertificate: parseCertificate(issuer, 'authority_unusable'),
      algorithm,
    });
    return buildSvidTbs(template, {
      spiffeId: SpiffeId.of(trustDomain, THROWAWAY_PATH),
      dnsNames: [],
      spki,
      serialNumber,
      notBeforeMs,
      notAfterMs: notBeforeMs + THROWAWAY_LIFETIME_MS,
    });
  });
  const svid = assembleCertificate(tbs, algorithm, await signer.sign(tbs));
  orUnusable(() =>
    verifyX509Svid({
      chain: [svid, ...chain],
      bundles: () => anchors,
      nowMs,
    }),
  );
}

function roleOf(index: number): string {
  return index === 0 ? 'the authority' : `certificate ${index} above the authority`;
}

function checkOwnFields(
  authority: Certificate,
  trustDomain: TrustDomain,
  spiffeId: 'required' | 'optional',
): void {
  const [uri, ...more] = authority.subjectAltName?.uris ?? [];
  const isOurs = uri === trustDomain.id && more.length === 0;
  if (!isOurs && (spiffeId === 'required' || uri !== undefined)) {
    throw unusable(`its URI SAN is not ${trustDomain.id} alone`);
  }
  if (authority.subject.length <= 2) throw unusable('its subject is empty');
  if (authority.subjectKeyId === undefined) throw unusable('it has no subject key identifier');
}

function checkOwnKey(authority: Certificate, spki: Uint8Array): void {
  if (!equalBytes(authority.spki, spki)) throw unusable('it is of another key than the one that is to sign');
  // Without it no SVID below could ever be revoked.
  if (authority.keyUsage?.usages.includes('cRLSign') !== true) throw unusable('its key usage lacks cRLSign');
}

function checkLink(certificate: Certificate, issuer: Certificate): void {
  const { signatureAlgorithm, signature, tbs } = certificate;
  if (!equalBytes(certificate.issuer, issuer.subject))
    throw unusable('a certificate of its chain does not follow from the next');
  if (!verifySignature(signatureAlgorithm, issuer.spki, tbs, signature, 'authority_unusable'))
    throw unusable('a certificate of its chain is not signed by the next');
}

function checkCritical(certificate: Certificate, role: string): void {
  const [unknown] = certificate.unknownCriticalExtensions;
  if (unknown !== undefined) throw unusable(`${role} has the critical extension ${unknown}`);
}

function checkValidity(certificate: Certificate, authority: Certificate, nowMs: number, role: string): void {
  if (nowMs < certificate.notBeforeMs) throw unusable(`${role} is not valid yet`);
  if (nowMs >= certificate.notAfterMs) throw unusable(`${role} has expired`);
  if (authority.notAfterMs > certificate.notAfterMs) throw unusable(`it outlives ${role}`);
}

/** Runs a check whose errors have codes of their own, and gives them the one that the lifecycle knows. */
function orUnusable<T>(check: () => T): T {
  const result = attempt(check);
  if (result.ok) return result.value;
  const { refusal } = result;
  throw refusal.code === 'authority_unusable' ? refusal : unusable(refusal.message, refusal);
}

function unusable(reason: string, cause?: unknown): KedgeError {
  return new KedgeError('authority_unusable', `the new authority is not adopted: ${reason}`, {
    hint: 'look at the upstream authority and its settings',
    cause,
  });
}
