import { attempt } from '../../../pki/attempt.ts';
import type { Certificate } from '../../../pki/certificate.ts';
import type { ErrorCode } from '../../../pki/error-table.ts';
import { KedgeError, quote } from '../../../pki/kedge-error.ts';
import type { TrustDomain } from '../../../pki/spiffe-id.ts';
import { checkIssuer, isSelfIssued } from '../../../pki/verify-issuer.ts';
import type { CaPath } from './ca-paths.ts';
import type { DiskMode } from './disk-settings.ts';

/** What the codes of a verifier are called where files are looked at; others are `authority_unusable`. */
const CODES: ReadonlyMap<ErrorCode, ErrorCode> = new Map([
  ['svid_issuer_not_ca', 'disk_certificate_not_ca'],
  ['svid_issuer_cannot_sign', 'disk_certificate_key_usage'],
  ['svid_key_usage_missing', 'disk_certificate_key_usage'],
  ['svid_extended_key_usage_invalid', 'disk_certificate_key_usage'],
  ['svid_issuer_has_path', 'disk_certificate_trust_domain'],
  ['svid_issuer_trust_domain_mismatch', 'disk_certificate_trust_domain'],
  ['svid_spiffe_id_invalid', 'disk_certificate_trust_domain'],
  ['svid_uri_san_multiple', 'disk_certificate_trust_domain'],
]);

const HINTS: ReadonlyMap<ErrorCode, string> = new Map([
  [
    'disk_certificate_not_ca',
    'have it issued as a CA: basic constraints critical, CA:TRUE; the lowest is to be the one of the key',
  ],
  [
    'disk_certificate_key_usage',
    'have it issued with a critical key usage of keyCertSign and cRLSign, and no extended key usage or one with both serverAuth and clientAuth',
  ],
  [
    'disk_certificate_trust_domain',
    "leave the URI SANs out, or give the trust domain's SPIFFE ID, without a path, as the only one",
  ],
]);

/**
 * Checks what does not change with time about a way from the files' CA to its root: that each is a CA that may sign,
 * of no other trust domain, with room below it for what this mode signs, and that the lowest can be told from others.
 *
 * Throws `disk_certificate_not_ca`, `disk_certificate_key_usage`, `disk_certificate_trust_domain`,
 * `disk_certificate_path_length`, `authority_unusable`.
 */
export function checkCaPath(path: CaPath, mode: DiskMode, trustDomain: TrustDomain): void {
  let below = mode === 'intermediate' ? 1 : 0;
  for (const [index, certificate] of path.entries()) {
    const role = roleOf(path, index);
    const checked = attempt(() => checkIssuer(certificate, trustDomain, role));
    if (!checked.ok) throw renamed(checked.refusal);
    const [critical] = certificate.unknownCriticalExtensions;
    if (critical !== undefined) {
      throw new KedgeError('authority_unusable', `${role} has the critical extension ${critical}`, {
        hint: 'have it issued without extensions that Kedge and its peers do not know',
      });
    }
    checkRoom(certificate, below, role);
    if (!isSelfIssued(certificate)) below += 1;
  }
  const [lowest] = path;
  if (mode === 'issuer' && lowest.keyUsage?.usages.includes('cRLSign') !== true) {
    throw renamed(
      new KedgeError('svid_issuer_cannot_sign', `the key usage of ${roleOf(path, 0)} lacks cRLSign`),
    );
  }
  if (mode === 'issuer' && path.length === 1) {
    throw new KedgeError('disk_certificate_path_length', 'the issuer in the files is itself a root', {
      hint: 'SVIDs are signed by an issuer below the root: use upstream.disk.mode intermediate, and Kedge makes one',
    });
  }
  for (const certificate of [lowest, path.at(-1) ?? lowest]) {
    if (certificate.subjectKeyId !== undefined) continue;
    throw new KedgeError('authority_unusable', 'a CA of the files has no subject key identifier', {
      hint: 'have it issued with one: openssl: subjectKeyIdentifier = hash',
    });
  }
}

function checkRoom(certificate: Certificate, below: number, role: string): void {
  const room = certificate.basicConstraints?.pathLength;
  if (room === undefined || room >= below) return;
  throw new KedgeError(
    'disk_certificate_path_length',
    `${role} allows ${room} CA certificates below it, and ${below} are needed`,
    { hint: `have it issued with a path length of ${below} or more, or without one` },
  );
}

/**
 * Checks that every certificate of the way is valid at `nowMs`. Throws `disk_certificate_expired`,
 * `disk_certificate_not_yet_valid`.
 */
export function checkPathValidity(path: CaPath, nowMs: number): void {
  for (const [index, { notBeforeMs, notAfterMs }] of path.entries()) {
    const role = roleOf(path, index);
    if (nowMs >= notAfterMs) {
      throw new KedgeError('disk_certificate_expired', `${role} has expired at ${time(notAfterMs)}`, {
        hint: 'put a new one into the files; they are followed',
      });
    }
    if (nowMs < notBeforeMs) {
      throw new KedgeError(
        'disk_certificate_not_yet_valid',
        `${role} is not valid before ${time(notBeforeMs)}`,
        { hint: 'it is taken once it is valid; check the clocks if it should be' },
      );
    }
  }
}

function roleOf(path: CaPath, index: number): string {
  if (index === path.length - 1) return 'the root of the files';
  return index === 0 ? 'the CA of the key' : `CA certificate ${index} above the one of the key`;
}

function renamed(refusal: KedgeError): KedgeError {
  const code = CODES.get(refusal.code) ?? 'authority_unusable';
  return new KedgeError(code, refusal.message, {
    hint: HINTS.get(code) ?? refusal.hint ?? quote(refusal.code),
    cause: refusal,
  });
}

function time(ms: number): string {
  return new Date(ms).toISOString();
}
