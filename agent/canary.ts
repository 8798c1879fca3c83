import { parseCertificate } from '../pki/certificate.ts';
import { equalBytes } from '../pki/bytes.ts';
import { parseCrl } from '../pki/crl.ts';
import type { ErrorCode } from '../pki/error-table.ts';
import { isKedgeError } from '../pki/kedge-error.ts';
import { type VerifiedSvid, verifyX509Svid } from '../pki/x509-svid-verify.ts';
import { CANARY_ANSWERS, type CanaryAnswer } from './canary-answer.ts';
import { type HeldSnapshot, heldSnapshot, type IdentitySnapshot } from './snapshot.ts';

/** What the agent saw when it dialed its own proxy as a client. */
export interface CanaryObservation {
  /** The chain that the proxy presented, DER, leaf first; empty = the handshake did not come that far. */
  readonly presented: readonly Uint8Array[];
  /** The proxy asked for a client certificate. */
  readonly asked: boolean;
  /** Names (DER) of the authorities that the proxy says it accepts; null = it did not say, or TLS 1.3 hides it. */
  readonly authorities: readonly Uint8Array[] | null;
  readonly answer: CanaryAnswer;
  /** The answer in the server's words, as `unknown_ca` or `HTTP 200`: printable ASCII, at most 64 characters. */
  readonly detail: string;
}

/**
 * What follows from an observation.
 *
 * - `proven`: the proxy presents the newest SVID, that verifies under the newest bundle, and it accepted ours.
 * - `refused`: it presents the newest SVID and does not accept it from a client.
 * - `outdated`: it presents another SVID of this identity, or does not name an anchor of the newest bundle.
 * - `untrusted`: what it presents does not verify as an SVID of this identity.
 * - `unknown`: nothing can be said.
 */
export const CANARY_VERDICTS = ['proven', 'refused', 'outdated', 'untrusted', 'unknown'] as const;
export type CanaryVerdict = (typeof CANARY_VERDICTS)[number];

/**
 * The authorities that the proxy names, held against the anchors of the newest bundle: just those (`current`), one of
 * ours lacks (`missing`), one is named that is not ours (`extra`), or it does not say (`unknown`).
 */
export type AuthoritiesNamed = 'current' | 'missing' | 'extra' | 'unknown';

/** One finished try of the canary. Holds no key. */
export interface CanaryResult {
  /** Milliseconds since the Unix epoch. */
  readonly atMs: number;
  readonly verdict: CanaryVerdict;
  readonly answer: CanaryAnswer;
  readonly detail: string;
  /** Why what the proxy presents does not verify; null unless `untrusted`. */
  readonly errorCode: ErrorCode | null;
  /** Of the leaf that the proxy presented; null = none, or not to be read. */
  readonly serialNumber: Uint8Array | null;
  /** Subject key identifier of the anchor that it verifies under; null = none. */
  readonly anchorKeyId: Uint8Array | null;
  readonly authorities: AuthoritiesNamed;
  /** What the proxy was held against. */
  readonly tested: HeldSnapshot;
  /**
   * What is proven; null unless the verdict is `proven`. Its bundle sequence is 0 where the proxy did not name just
   * the anchors of the bundle: an SVID that is accepted shows its own anchor, and no other.
   */
  readonly proven: HeldSnapshot | null;
}

/** Judges one observation against the snapshot that every consumer should have. Pure; never throws. */
export function judgeCanary(
  observation: CanaryObservation,
  snapshot: IdentitySnapshot,
  nowMs: number,
): CanaryResult {
  const tested = heldSnapshot(snapshot);
  const served = verifyPresented(observation.presented, snapshot, nowMs);
  const authorities = compareAuthorities(observation.authorities, snapshot.bundle.x509Authorities);
  const answer = answerOf(observation);
  const verdict = verdictOf(served, authorities, answer, snapshot);
  const isBundleShown = authorities === 'current';
  return {
    atMs: nowMs,
    verdict,
    answer,
    detail: observation.detail,
    errorCode: served.refusal,
    serialNumber: served.serialNumber,
    anchorKeyId: served.verified?.anchor.subjectKeyId ?? null,
    authorities,
    tested,
    proven:
      verdict === 'proven' ? { ...tested, bundleSequence: isBundleShown ? tested.bundleSequence : 0n } : null,
  };
}

/** Why the proxy does not follow, as an error code; null = it does, or nothing can be said. */
export function canaryErrorCode({ verdict, errorCode }: CanaryResult): ErrorCode | null {
  switch (verdict) {
    case 'proven':
    case 'unknown':
      return null;
    case 'untrusted':
      return errorCode;
    case 'refused':
      return 'canary_refused';
    case 'outdated':
      return 'canary_outdated';
  }
  verdict satisfies never;
  return null;
}

interface Served {
  readonly serialNumber: Uint8Array | null;
  readonly verified: VerifiedSvid | null;
  readonly refusal: ErrorCode | null;
}

function verifyPresented(
  chain: readonly Uint8Array[],
  { svid, bundle }: IdentitySnapshot,
  nowMs: number,
): Served {
  const [leaf] = chain;
  if (leaf === undefined) return { serialNumber: null, verified: null, refusal: null };
  let serialNumber: Uint8Array | null = null;
  try {
    serialNumber = Uint8Array.from(parseCertificate(leaf).serialNumber);
    const verified = verifyX509Svid({
      chain,
      bundles: (domain) => (domain.equals(bundle.trustDomain) ? bundle.x509Authorities : undefined),
      nowMs,
      crls: bundle.crls.map(parseCrl),
      expectedId: svid.spiffeId,
    });
    return { serialNumber, verified, refusal: null };
  } catch (error) {
    if (!isKedgeError(error)) throw error;
    return { serialNumber, verified: null, refusal: error.code };
  }
}

/** A server that asks for no certificate accepts everyone: that says nothing of ours. */
function answerOf({ answer, asked, presented }: CanaryObservation): CanaryAnswer {
  const isAccepted = CANARY_ANSWERS[answer].acceptance === 'accepted';
  return isAccepted && !asked && presented.length > 0 ? 'not_asked' : answer;
}

/** The order is that of what an operator must hear first. */
function verdictOf(
  { serialNumber, verified, refusal }: Served,
  authorities: AuthoritiesNamed,
  answer: CanaryAnswer,
  { svid }: IdentitySnapshot,
): CanaryVerdict {
  if (refusal !== null) return 'untrusted';
  if (serialNumber === null || verified === null) return 'unknown';
  if (!equalBytes(serialNumber, svid.serialNumber)) return 'outdated';
  const { acceptance } = CANARY_ANSWERS[answer];
  if (acceptance === 'refused') return 'refused';
  if (authorities === 'missing') return 'outdated';
  return acceptance === 'accepted' ? 'proven' : 'unknown';
}

/**
 * Compares names byte by byte. Two anchors of one name cannot be told apart by it, so that nothing is said then; an
 * empty list means that the server leaves the choice to the client (RFC 5246 section 7.4.4).
 */
function compareAuthorities(
  named: readonly Uint8Array[] | null,
  anchors: readonly Uint8Array[],
): AuthoritiesNamed {
  if (named === null || named.length === 0) return 'unknown';
  const accepted = new Set(named.map(textOf));
  const subjects = new Set(anchors.map((der) => textOf(parseCertificate(der).subject)));
  if (subjects.size !== anchors.length) return 'unknown';
  if ([...subjects].some((subject) => !accepted.has(subject))) return 'missing';
  return accepted.size > subjects.size ? 'extra' : 'current';
}

function textOf(der: Uint8Array): string {
  return Buffer.from(der).toString('base64');
}
