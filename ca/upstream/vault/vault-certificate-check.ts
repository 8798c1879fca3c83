import { attempt } from '../../../pki/attempt.ts';
import { equalBytes } from '../../../pki/bytes.ts';
import { type Certificate, parseCertificate } from '../../../pki/certificate.ts';
import type { ErrorCode } from '../../../pki/error-table.ts';
import { KedgeError, quote } from '../../../pki/kedge-error.ts';
import { publicKeyShape } from '../../../pki/public-key.ts';
import type { TrustDomain } from '../../../pki/spiffe-id.ts';
import { checkIssuer, checkPathLengths } from '../../../pki/verify-issuer.ts';

/** What Vault has signed, on its way up. */
export interface VaultPath {
  readonly trustDomain: TrustDomain;
  /** The issuer first, then what leads to the anchor, the anchor last. DER. */
  readonly path: readonly Uint8Array[];
  /** Of the key that the CSR was of; null where the first is not ours, but a root of Vault. */
  readonly spki: Uint8Array | null;
  readonly nowMs: number;
}

/** What the codes of a verifier are called where it is Vault that has signed. */
const CODES: ReadonlyMap<ErrorCode, ErrorCode> = new Map([
  ['svid_issuer_not_ca', 'vault_certificate_not_ca'],
  ['svid_issuer_cannot_sign', 'vault_certificate_key_usage'],
  ['svid_key_usage_missing', 'vault_certificate_key_usage'],
  ['svid_extended_key_usage_invalid', 'vault_certificate_key_usage'],
  ['svid_issuer_has_path', 'vault_certificate_trust_domain'],
  ['svid_issuer_trust_domain_mismatch', 'vault_certificate_trust_domain'],
  ['svid_spiffe_id_invalid', 'vault_certificate_trust_domain'],
  ['svid_uri_san_multiple', 'vault_certificate_trust_domain'],
  ['svid_path_length_exceeded', 'vault_certificate_path_length'],
]);

const HINTS: ReadonlyMap<ErrorCode, string> = new Map([
  [
    'vault_certificate_key_mismatch',
    'what answers in the place of Vault signs something else than it is asked: see its audit log',
  ],
  ['vault_certificate_not_ca', 'sign at sign-intermediate, not by a role: upstream.vault.signPath'],
  [
    'vault_certificate_key_usage',
    'CAs need a critical key usage of keyCertSign and cRLSign, and no extended key usage or one with serverAuth and clientAuth',
  ],
  [
    'vault_certificate_trust_domain',
    'the URI SAN must be the trust domain alone: let the policy, and a CA plugin, pass uri_sans on as Kedge gives it',
  ],
  [
    'vault_certificate_path_length',
    'a CA of the mount leaves no room below it: have it issued with a max_path_length of 1 or more',
  ],
  [
    'vault_certificate_key_unsupported',
    'make the CA with key_type=ec key_bits=256 or 384, or key_type=rsa key_bits=2048 or more',
  ],
  ['vault_certificate_expired', 'replace the CA of the mount, or check the clocks'],
  ['vault_certificate_not_yet_valid', 'check the clocks of Vault and of this machine'],
]);

/**
 * Checks what Vault has signed, and what it hangs under, before anybody is told of it: each fault has its code, with
 * what to do in Vault. What is adopted is checked once more, and in full, by whoever adopts it.
 *
 * Throws the vault_certificate_ codes.
 */
export function checkVaultPath({ trustDomain, path, spki, nowMs }: VaultPath): void {
  const certificates = path.map((der) => parseCertificate(der, 'vault_answer_invalid'));
  const roleOf = (index: number): string =>
    index === 0 && spki !== null
      ? 'the issuer that Vault signed'
      : index === certificates.length - 1
        ? 'the root in Vault'
        : `CA certificate ${index} above the issuer`;
  for (const [index, certificate] of certificates.entries()) {
    const role = roleOf(index);
    const key = attempt(() => publicKeyShape(certificate.spki, 'vault_certificate_key_unsupported'));
    if (!key.ok) throw refusal(key.refusal.code, `${role}: ${key.refusal.message}`, key.refusal);
    const checked = attempt(() => checkIssuer(certificate, trustDomain, role));
    if (!checked.ok) throw renamed(checked.refusal);
    checkValidity(certificate, role, nowMs);
  }
  const [first] = certificates;
  if (first === undefined || spki === null) return;
  checkOwn(first, spki, trustDomain);
  // The first stands for the SVID below, which is no CA.
  const lengths = attempt(() => checkPathLengths([first, ...certificates], (index) => roleOf(index - 1)));
  if (!lengths.ok) throw renamed(lengths.refusal);
}

function checkOwn(issuer: Certificate, spki: Uint8Array, { id }: TrustDomain): void {
  if (!equalBytes(issuer.spki, spki))
    throw refusal('vault_certificate_key_mismatch', 'Vault signed another key than the one of the CSR');
  const [uri, ...more] = issuer.subjectAltName?.uris ?? [];
  if (uri !== id || more.length > 0)
    throw refusal(
      'vault_certificate_trust_domain',
      `the URI SAN that Vault signed is not ${quote(id)} alone`,
    );
  if (issuer.keyUsage?.usages.includes('cRLSign') !== true)
    throw refusal('vault_certificate_key_usage', 'the key usage that Vault signed lacks cRLSign');
}

function checkValidity({ notBeforeMs, notAfterMs }: Certificate, role: string, nowMs: number): void {
  const time = (ms: number): string => new Date(ms).toISOString();
  if (nowMs >= notAfterMs)
    throw refusal('vault_certificate_expired', `${role} has expired at ${time(notAfterMs)}`);
  if (nowMs < notBeforeMs)
    throw refusal('vault_certificate_not_yet_valid', `${role} is not valid before ${time(notBeforeMs)}`);
}

function renamed(cause: KedgeError): KedgeError {
  return refusal(CODES.get(cause.code) ?? 'authority_unusable', cause.message, cause);
}

function refusal(code: ErrorCode, message: string, cause?: KedgeError): KedgeError {
  const hint = HINTS.get(code) ?? cause?.hint ?? 'look at the CA of the mount';
  return new KedgeError(code, message, { hint, cause });
}
