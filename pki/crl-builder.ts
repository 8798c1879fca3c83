import { schemeOf, schemeSpec } from './algorithms.ts';
import type { AuthoritySigner } from './authority-signer.ts';
import { equalBytes, toHex } from './bytes.ts';
import type { Certificate } from './certificate.ts';
import { CRL_REASONS, type CrlReason } from './crl.ts';
import { TAG } from './der-tag.ts';
import {
  derBitString,
  derContext,
  derContextPrimitive,
  derElement,
  derExtension,
  derInteger,
  derSequence,
  derTime,
  derUnsignedInteger,
} from './der-writer.ts';
import { KedgeError } from './kedge-error.ts';
import { LIMITS } from './limits.ts';
import { OID } from './oid.ts';

/** A CRL to sign. */
export interface CrlRequest {
  /** Whose certificates are revoked. */
  readonly issuer: Certificate;
  /** Holds the issuer's key. */
  readonly signer: AuthoritySigner;
  /** CRLNumber: more than that of the last CRL of this issuer. */
  readonly number: number;
  readonly thisUpdateMs: number;
  readonly nextUpdateMs: number;
  readonly entries: readonly RevokedCertificate[];
}

/** A certificate to revoke. */
export interface RevokedCertificate {
  /** The octets of the serial number's INTEGER. */
  readonly serialNumber: Uint8Array;
  readonly revokedAtMs: number;
  readonly reason: CrlReason;
}

const VERSION_2 = 1;
/** More than any signature takes, with its algorithm and the headers around. */
const SIGNATURE_OCTETS = 2048;

/**
 * A full v2 CRL, DER (RFC 5280 section 5): CRLNumber, authority key identifier, and a reason for each entry but
 * the unspecified ones (section 5.3.1). A certificate that occurs twice is listed once, as it was first revoked.
 * Times are cut to the second.
 *
 * Written with our own DER, since the generator of `@peculiar/x509` gives an entry without reason an empty list
 * of extensions, which RFC 5280 does not have and strict readers refuse.
 *
 * Throws `authority_unusable` when the issuer cannot sign it, `message_too_large` when no reader would take it.
 */
export async function createCrl(request: CrlRequest): Promise<Uint8Array> {
  const { issuer, signer, thisUpdateMs, nextUpdateMs } = request;
  if (!equalBytes(issuer.spki, signer.spki)) throw unusable('the signer does not hold the key of the issuer');
  if (issuer.keyUsage?.usages.includes('cRLSign') !== true) throw unusable('the issuer may not sign CRLs');
  const keyId = issuer.subjectKeyId;
  if (keyId === undefined) throw unusable('the issuer has no subject key identifier');
  const { algorithmIdentifier } = schemeSpec(schemeOf(signer.algorithm));
  const entries = firstOfEach(request.entries).map(encodeEntry);
  const tbs = derSequence(
    derInteger(VERSION_2),
    algorithmIdentifier,
    issuer.subject,
    derTime(thisUpdateMs),
    derTime(nextUpdateMs),
    // An empty list is absent (section 5.1.2.6).
    ...(entries.length === 0 ? [] : [derSequence(Buffer.concat(entries))]),
    derContext(
      0,
      derSequence(
        derExtension(OID.authorityKeyIdentifier, false, derSequence(derContextPrimitive(0, keyId))),
        derExtension(OID.cRLNumber, false, derInteger(request.number)),
      ),
    ),
  );
  if (tbs.length > LIMITS.crlBytes - SIGNATURE_OCTETS) {
    throw new KedgeError(
      'message_too_large',
      `a CRL of ${entries.length} certificates is over the limit of ${LIMITS.crlBytes} bytes`,
      { hint: 'leave out certificates that have expired, or replace the issuer' },
    );
  }
  return derSequence(tbs, algorithmIdentifier, derBitString(await signer.sign(tbs)));
}

function encodeEntry({ serialNumber, revokedAtMs, reason }: RevokedCertificate): Uint8Array {
  const code = derElement(TAG.enumerated, Uint8Array.of(CRL_REASONS[reason]));
  return derSequence(
    derUnsignedInteger(serialNumber),
    derTime(revokedAtMs),
    ...(reason === 'unspecified' ? [] : [derSequence(derExtension(OID.reasonCode, false, code))]),
  );
}

function firstOfEach(entries: readonly RevokedCertificate[]): readonly RevokedCertificate[] {
  // A later entry of a Map replaces an earlier one, so the first revocation comes last.
  const latestFirst = entries.toSorted((a, b) => b.revokedAtMs - a.revokedAtMs);
  return [...new Map(latestFirst.map((entry) => [toHex(entry.serialNumber), entry] as const)).values()];
}

function unusable(reason: string): KedgeError {
  return new KedgeError('authority_unusable', `no CRL can be signed: ${reason}`);
}
