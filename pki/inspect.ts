import { createHash } from 'node:crypto';
import { attempt } from './attempt.ts';
import { toHex } from './bytes.ts';
import { type Certificate, parseCertificate } from './certificate.ts';
import type { GeneralName } from './general-name.ts';
import { publicKeyShape } from './public-key.ts';
import { SpiffeId } from './spiffe-id.ts';
import { x509 } from './x509-library.ts';

/** A certificate as a person reads it. Plain data that turns into JSON as it is. */
export interface CertificateDescription {
  /** The SPIFFE ID, or null when there is none, or more than one URI. */
  readonly spiffeId: string | null;
  /** RFC 4514, empty for a certificate without subject. */
  readonly subject: string;
  readonly issuer: string;
  /** Lower-case hex. */
  readonly serialNumber: string;
  /** ISO 8601. */
  readonly notBefore: string;
  /** ISO 8601. */
  readonly notAfter: string;
  /** Such as `EC P-256` or `RSA 3072`. */
  readonly publicKey: string;
  readonly signatureAlgorithm: string;
  readonly isCa: boolean;
  /** Null when there is no limit, or no CA. */
  readonly pathLength: number | null;
  readonly keyUsage: readonly string[];
  /** Dotted OIDs, and names for the two of an SVID. */
  readonly extendedKeyUsage: readonly string[];
  /** Such as `URI:spiffe://example.org/web`. */
  readonly subjectAltNames: readonly string[];
  /** Such as `permitted URI:example.org`. */
  readonly nameConstraints: readonly string[];
  /** Lower-case hex, or null. */
  readonly subjectKeyId: string | null;
  /** Lower-case hex, or null. */
  readonly authorityKeyId: string | null;
  /** Dotted OIDs. */
  readonly unknownCriticalExtensions: readonly string[];
  /** SHA-256 of the DER, lower-case hex. */
  readonly fingerprint: string;
}

const FORM_NAMES = { uri: 'URI', dns: 'DNS', email: 'email' } as const;
const PURPOSE_NAMES: ReadonlyMap<string, string> = new Map([
  ['1.3.6.1.5.5.7.3.1', 'serverAuth'],
  ['1.3.6.1.5.5.7.3.2', 'clientAuth'],
]);

/**
 * Describes a certificate without judging it; for people and scripts, not for decisions.
 *
 * Throws `svid_malformed` for what is not strict DER X.509.
 */
export function describeCertificate(der: Uint8Array): CertificateDescription {
  const certificate = parseCertificate(der, 'svid_malformed');
  const { basicConstraints, extendedKeyUsage, keyUsage, nameConstraints, subjectAltName } = certificate;
  return {
    spiffeId: spiffeIdOf(certificate),
    subject: nameText(certificate.subject),
    issuer: nameText(certificate.issuer),
    serialNumber: toHex(certificate.serialNumber),
    notBefore: new Date(certificate.notBeforeMs).toISOString(),
    notAfter: new Date(certificate.notAfterMs).toISOString(),
    publicKey: publicKeyText(certificate.spki),
    signatureAlgorithm: certificate.signatureAlgorithm,
    isCa: basicConstraints?.ca ?? false,
    pathLength: basicConstraints?.pathLength ?? null,
    keyUsage: keyUsage?.usages ?? [],
    extendedKeyUsage: (extendedKeyUsage?.purposes ?? []).map((oid) => PURPOSE_NAMES.get(oid) ?? oid),
    subjectAltNames: (subjectAltName?.names ?? []).map(generalNameText),
    nameConstraints: [
      ...(nameConstraints?.permitted ?? []).map((name) => `permitted ${generalNameText(name)}`),
      ...(nameConstraints?.excluded ?? []).map((name) => `excluded ${generalNameText(name)}`),
    ],
    subjectKeyId: optionalHex(certificate.subjectKeyId),
    authorityKeyId: optionalHex(certificate.authorityKeyId),
    unknownCriticalExtensions: certificate.unknownCriticalExtensions,
    fingerprint: createHash('sha256').update(der).digest('hex'),
  };
}

function spiffeIdOf({ subjectAltName }: Certificate): string | null {
  const [uri, ...more] = subjectAltName?.uris ?? [];
  if (uri === undefined || more.length > 0) return null;
  const parsed = attempt(() => SpiffeId.parse(uri));
  return parsed.ok ? parsed.value.toString() : null;
}

function nameText(name: Uint8Array): string {
  return printable(new x509.Name(name).toString());
}

/** Text of a stranger, as a terminal may have it: control, format and private characters escaped. */
function printable(text: string): string {
  return text.replace(/\p{C}/gu, (c) => `\\u{${c.codePointAt(0)?.toString(16)}}`);
}

/** The key as it is called, or what is odd about it: a certificate is described whatever its key. */
function publicKeyText(spki: Uint8Array): string {
  const shape = attempt(() => publicKeyShape(spki, 'svid_algorithm_unsupported'));
  if (!shape.ok) return shape.refusal.message;
  const { family, bits } = shape.value;
  if (family === 'ed25519') return 'Ed25519';
  return family === 'ec' ? `EC P-${bits}` : `RSA ${bits}`;
}

function generalNameText(name: GeneralName): string {
  if (name.kind === 'ip') return `IP:${addressText(name.octets)}`;
  if (name.kind === 'directory') return `directory:${nameText(name.der)}`;
  if (name.kind === 'other') return `other:${toHex(name.der)}`;
  return `${FORM_NAMES[name.kind]}:${printable(name.value)}`;
}

/** An address, or in a constraint an address and its mask. */
function addressText(octets: Uint8Array): string {
  if (octets.length === 4) return octets.join('.');
  if (octets.length === 16) return toHex(octets).replace(/(....)(?=.)/g, '$1:');
  const middle = octets.length / 2;
  return `${addressText(octets.subarray(0, middle))}/${addressText(octets.subarray(middle))}`;
}

function optionalHex(octets: Uint8Array | undefined): string | null {
  return octets === undefined ? null : toHex(octets);
}
