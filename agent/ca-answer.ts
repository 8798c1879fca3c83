import { createPublicKey, type KeyObject } from 'node:crypto';
import { equalBytes } from '../pki/bytes.ts';
import { type Certificate, parseCertificate } from '../pki/certificate.ts';
import { parseCrl } from '../pki/crl.ts';
import { isKedgeError, KedgeError, quote } from '../pki/kedge-error.ts';
import { LIMITS } from '../pki/limits.ts';
import { Secret } from '../pki/secret.ts';
import type { SpiffeId, TrustDomain } from '../pki/spiffe-id.ts';
import { verifyX509Svid } from '../pki/x509-svid-verify.ts';
import type { TrustBundle } from '../proto/gen/kedge/v1/identity.ts';
import type { BundleSnapshot, SvidSnapshot } from './snapshot.ts';

/**
 * Checks a bundle that came from the CA, and copies it. Equal to `held`, it is `held` itself.
 *
 * Throws `bundle_sequence_regressed`, or `ca_answer_invalid` for another trust domain, no anchor, too many, one that
 * is no certificate, malformed CRLs or too many, or other anchors under the sequence of the bundle held.
 */
export function checkBundle(
  message: TrustBundle | undefined,
  trustDomain: TrustDomain,
  held: BundleSnapshot | null,
): BundleSnapshot {
  if (message === undefined) throw invalid('it holds no bundle');
  if (message.trustDomain !== trustDomain.name) {
    throw invalid(`its bundle is of the trust domain ${quote(message.trustDomain)}`);
  }
  const { x509Authorities, crls, sequence } = message;
  if (held !== null && sequence < held.sequence) {
    throw new KedgeError(
      'bundle_sequence_regressed',
      `the CA gave a bundle of sequence ${sequence} after one of ${held.sequence}`,
      { hint: 'the trust store of the CA may have been restored from an old copy' },
    );
  }
  if (x509Authorities.length === 0) throw invalid('its bundle holds no trust anchor');
  if (x509Authorities.length > LIMITS.bundleAuthorities) {
    throw invalid(`its bundle holds ${x509Authorities.length} trust anchors`);
  }
  if (crls.reduce((sum, crl) => sum + crl.length, 0) > LIMITS.crlBytes)
    throw invalid('its CRLs are too large');
  const isSame = held !== null && equalLists(x509Authorities, held.x509Authorities);
  if (held !== null && sequence === held.sequence) {
    if (!isSame) throw invalid(`it has other trust anchors under the same sequence ${sequence}`);
    if (equalLists(crls, held.crls)) return held;
  }
  return {
    trustDomain,
    sequence,
    refreshHintSeconds: message.refreshHintSeconds,
    x509Authorities: isSame ? held.x509Authorities : x509Authorities.map(checkedAuthority),
    crls: crls.map(checkedCrl),
  };
}

/** What {@link checkSvid} decides on. */
export interface SvidCheck {
  /** DER, leaf first. */
  readonly chain: readonly Uint8Array[];
  readonly bundle: BundleSnapshot;
  readonly privateKey: KeyObject;
  readonly trustDomain: TrustDomain;
  /** As configured; undefined = whatever the CA attested. */
  readonly expectedId: SpiffeId | undefined;
  /** Wall clock, milliseconds since the Unix epoch. */
  readonly nowMs: number;
}

/**
 * Checks an SVID before anyone gets to see it, and copies it: the chain verifies with `bundle` now, the leaf holds
 * our key, and it names the SPIFFE ID that is expected, or any of our trust domain.
 *
 * Throws `svid_unexpected_id`, or `ca_answer_invalid` with the rule that was broken as cause.
 */
export function checkSvid(check: SvidCheck): SvidSnapshot {
  const { bundle, privateKey, trustDomain, expectedId, nowMs } = check;
  const chain = check.chain.map(copy);
  const { leaf, spiffeId } = verified(chain, bundle, nowMs);
  if (!spiffeId.trustDomain.equals(trustDomain)) {
    throw invalid(`the SVID is of the trust domain ${quote(spiffeId.trustDomain.name)}`);
  }
  if (expectedId !== undefined && !spiffeId.equals(expectedId)) {
    throw new KedgeError(
      'svid_unexpected_id',
      `the CA issued ${quote(spiffeId.toString())} where ${quote(expectedId.toString())} is expected`,
      { hint: 'the token is of another workload, or expectedSpiffeId is wrong' },
    );
  }
  const spki = createPublicKey(privateKey).export({ type: 'spki', format: 'der' });
  if (!equalBytes(leaf.spki, spki)) throw invalid('the SVID holds another public key than the CSR');
  if (leaf.authorityKeyId === undefined) throw invalid('the SVID has no authority key identifier');
  return {
    spiffeId,
    chain,
    privateKey: new Secret(Uint8Array.from(privateKey.export({ type: 'pkcs8', format: 'der' }))),
    serialNumber: copy(leaf.serialNumber),
    authorityKeyId: copy(leaf.authorityKeyId),
    notBeforeMs: leaf.notBeforeMs,
    notAfterMs: leaf.notAfterMs,
  };
}

/** True when the chain of an SVID verifies with a bundle at a time. */
export function isTrusted(svid: SvidSnapshot, bundle: BundleSnapshot, nowMs: number): boolean {
  try {
    verified(svid.chain, bundle, nowMs);
    return true;
  } catch {
    return false;
  }
}

function verified(
  chain: readonly Uint8Array[],
  bundle: BundleSnapshot,
  nowMs: number,
): { leaf: Certificate; spiffeId: SpiffeId } {
  try {
    return verifyX509Svid({
      chain: [...chain],
      bundles: (domain) => (domain.equals(bundle.trustDomain) ? bundle.x509Authorities : undefined),
      nowMs,
      crls: bundle.crls.map(parseCrl),
    });
  } catch (cause) {
    const hint = isKedgeError(cause, 'svid_not_yet_valid', 'svid_expired')
      ? 'compare the clocks of this machine and of the CA'
      : undefined;
    throw invalid(
      `the SVID does not verify: ${cause instanceof Error ? cause.message : 'unknown'}`,
      cause,
      hint,
    );
  }
}

function checkedAuthority(der: Uint8Array): Uint8Array {
  try {
    return copy(parseCertificate(der, 'bundle_malformed').der);
  } catch (cause) {
    throw invalid('a trust anchor of its bundle is no certificate', cause);
  }
}

function checkedCrl(der: Uint8Array): Uint8Array {
  try {
    return copy(parseCrl(der).der);
  } catch (cause) {
    throw invalid('a CRL of its bundle is none', cause);
  }
}

/** Away from the message that it came in, which may be larger than all that is kept. */
function copy(bytes: Uint8Array): Uint8Array {
  return Uint8Array.from(bytes);
}

function equalLists(a: readonly Uint8Array[], b: readonly Uint8Array[]): boolean {
  return a.length === b.length && a.every((bytes, i) => equalBytes(bytes, b[i] ?? new Uint8Array(0)));
}

function invalid(what: string, cause?: unknown, hint?: string): KedgeError {
  return new KedgeError('ca_answer_invalid', `the answer of the CA is refused: ${what}`, {
    ...(hint === undefined ? {} : { hint }),
    ...(cause === undefined ? {} : { cause }),
  });
}
