import { equalBytes, toHex } from '../../pki/bytes.ts';
import { type Certificate, parseCertificate } from '../../pki/certificate.ts';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { TrustDomain } from '../../pki/spiffe-id.ts';
import type { KeyHandle } from '../keys/key-manager.ts';
import type { Authority, TrustState } from './trust-state.ts';

/**
 * Checks what must hold between the parts of a trust state, beyond the shape of each. Throws
 * `trust_state_invalid`; the message names the rule and the authority.
 *
 * What makes an authority fit to sign (profile, chain) is checked when it is adopted: see `pki/authority-check.ts`.
 */
export function checkTrustState(state: TrustState): void {
  checkTrustDomain(state.trustDomain);
  refuseDuplicates([...state.anchors, ...state.issuers], 'authorities');
  refuseDuplicates([...keysOf(state), ...state.discardedKeys], 'keys');
  for (const authority of [...state.anchors, ...state.issuers]) checkCertificate(authority, authority.key);
  refuseTwoActive(state.anchors, 'trust anchors');
  refuseTwoActive(state.issuers, 'issuers');
  checkAnchors(state);
  checkRotations(state);
}

/** The keys of all authorities whose key is ours. */
export function keysOf(state: TrustState): readonly KeyHandle[] {
  return [...state.anchors, ...state.issuers].flatMap(({ key }) => (key === null ? [] : [key]));
}

/** A trust state that cannot be. */
export function invalid(what: string, cause?: unknown): KedgeError {
  return new KedgeError('trust_state_invalid', `the trust state is invalid: ${what}`, {
    cause,
    hint: 'it was altered, or written by a broken Kedge: restore the trust store from a backup',
  });
}

/** A certificate of a trust state, read. */
export function certificateOf(der: Uint8Array): Certificate {
  try {
    return parseCertificate(der, 'trust_state_invalid');
  } catch (cause) {
    throw invalid('a certificate in it cannot be read', cause);
  }
}

function checkTrustDomain(name: string): void {
  try {
    TrustDomain.parse(name);
  } catch (cause) {
    throw invalid(`${quote(name)} is not a trust domain`, cause);
  }
}

function refuseDuplicates(all: readonly { readonly id: string }[], what: string): void {
  const seen = new Set<string>();
  for (const { id } of all) {
    if (seen.has(id)) throw invalid(`two ${what} have the id ${quote(id)}`);
    seen.add(id);
  }
}

function checkCertificate(
  { id, certificate, notBeforeMs, notAfterMs }: Authority,
  key: KeyHandle | null,
): void {
  const parsed = certificateOf(certificate);
  if (parsed.subjectKeyId === undefined || toHex(parsed.subjectKeyId) !== id) {
    throw invalid(`the id ${quote(id)} is not the subject key identifier of the certificate with it`);
  }
  if (parsed.notBeforeMs !== notBeforeMs || parsed.notAfterMs !== notAfterMs) {
    throw invalid(`the validity of the authority ${quote(id)} is not that of its certificate`);
  }
  if (key !== null && !equalBytes(key.spki, parsed.spki)) {
    throw invalid(`the key of the authority ${quote(id)} is not the one in its certificate`);
  }
}

function refuseTwoActive(authorities: readonly Authority[], what: string): void {
  const active = authorities.filter(({ phase, taintedAtMs }) => phase === 'active' && taintedAtMs === null);
  if (active.length > 1) throw invalid(`${active.length} ${what} are active`);
}

function checkAnchors(state: TrustState): void {
  for (const { id, sinceSequence } of state.anchors) {
    if (sinceSequence > state.sequence) {
      throw invalid(
        `the trust anchor ${quote(id)} is in bundles from ${sinceSequence} on, and the bundle is ${state.sequence}`,
      );
    }
  }
  for (const { id, anchorId, phase } of state.issuers) {
    const anchor = state.anchors.find((anchor) => anchor.id === anchorId);
    if (anchor === undefined)
      throw invalid(`the issuer ${quote(id)} hangs under no trust anchor of the state`);
    if (phase !== 'prepared' && anchor.phase === 'prepared') {
      throw invalid(`the issuer ${quote(id)} is ${phase} under a trust anchor that is only prepared`);
    }
  }
}

function checkRotations({ rotation, pastRotations, anchors, sequence }: TrustState): void {
  const all = [...pastRotations, ...(rotation === null ? [] : [rotation])];
  for (const [i, { number }] of all.entries()) {
    const before = all[i - 1]?.number ?? 0;
    if (number <= before) throw invalid(`rotation ${number} comes after rotation ${before}`);
  }
  for (const { number, cutOff, cutOffCount } of all) {
    if (cutOffCount < cutOff.length) throw invalid(`rotation ${number} names more instances than it counts`);
  }
  if (rotation === null) return;
  const { number, goalAnchorId, removedSequence } = rotation;
  if (goalAnchorId !== null && anchors.every(({ id }) => id !== goalAnchorId)) {
    throw invalid(`the goal of rotation ${number} is no trust anchor of the state`);
  }
  if (removedSequence !== null && removedSequence > sequence) {
    throw invalid(`rotation ${number} waits for bundle ${removedSequence}, and the bundle is ${sequence}`);
  }
}
