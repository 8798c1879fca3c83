import { TAG } from '../pki/der-tag.ts';
import { parseBundleDocument } from '../pki/bundle-document.ts';
import { parseCertificate } from '../pki/certificate.ts';
import { isKedgeError, KedgeError, quote } from '../pki/kedge-error.ts';
import { LIMITS } from '../pki/limits.ts';
import { decodePem } from '../pki/pem.ts';
import { SpiffeId, type TrustDomain } from '../pki/spiffe-id.ts';
import { splitDer } from './der-concatenation.ts';
import { readInputFile } from './input-file.ts';

const OPENING_BRACE = 0x7b;
const CHAIN_FILE_BYTES = 1024 * 1024;

/**
 * The certificates in a file, in their order: PEM (blocks of other kinds are passed over, a private key among
 * them), or DER, one after another. Each is one DER SEQUENCE; whether it is a certificate is for the reader.
 */
export async function readCertificates(path: string): Promise<readonly Uint8Array[]> {
  const bytes = await readInputFile(path, CHAIN_FILE_BYTES);
  try {
    return certificatesOf(bytes, LIMITS.bundleAuthorities);
  } catch (error) {
    throw named(error, path);
  }
}

/** A trust bundle as a file holds it. */
export interface BundleFile {
  /** Undefined where the file does not say: PEM. */
  readonly sequence: bigint | undefined;
  readonly refreshHintSeconds: number | undefined;
  readonly x509Authorities: readonly Uint8Array[];
}

/** The trust bundle in a file: a SPIFFE bundle (JSON), PEM or DER. At least one authority, else `bundle_empty`. */
export async function readBundleFile(path: string): Promise<BundleFile> {
  const bytes = await readInputFile(path, LIMITS.bundleDocumentBytes);
  try {
    const bundle = bundleOf(bytes);
    if (bundle.x509Authorities.length > 0) return bundle;
    throw new KedgeError('bundle_empty', 'there is no X.509 authority in the bundle');
  } catch (error) {
    throw named(error, path);
  }
}

/**
 * The trust domain that the authorities themselves name by their URI SAN; undefined where none does, or two differ.
 * Source: X509-SVID section 3.2.
 */
export function trustDomainOfAuthorities(authorities: readonly Uint8Array[]): TrustDomain | undefined {
  const domains = authorities.flatMap((der) => {
    const { subjectAltName } = parseCertificate(der, 'bundle_malformed');
    const ids = (subjectAltName?.uris ?? []).filter((uri) => uri.startsWith('spiffe://'));
    return ids.map((id) => SpiffeId.parse(id).trustDomain);
  });
  const [first] = domains;
  return first !== undefined && domains.every((domain) => domain.equals(first)) ? first : undefined;
}

function bundleOf(bytes: Uint8Array): BundleFile {
  const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes.subarray(0, 64)).trimStart();
  if (text.charCodeAt(0) === OPENING_BRACE) {
    const { sequence, refreshHintSeconds, x509Authorities } = parseBundleDocument(bytes);
    return { sequence, refreshHintSeconds, x509Authorities };
  }
  const x509Authorities = certificatesOf(bytes, LIMITS.bundleAuthorities);
  for (const der of x509Authorities) parseCertificate(der, 'bundle_malformed');
  return { sequence: undefined, refreshHintSeconds: undefined, x509Authorities };
}

function certificatesOf(bytes: Uint8Array, limit: number): readonly Uint8Array[] {
  if (bytes[0] === TAG.sequence) return splitDer(bytes, limit);
  const certificates = decodePem(new TextDecoder().decode(bytes), 'CERTIFICATE');
  if (certificates.length > limit) {
    throw new KedgeError('message_too_large', `there are more than ${limit} certificates`);
  }
  return certificates;
}

/** The same refusal, with the file that it is about. */
function named(error: unknown, path: string): unknown {
  if (!isKedgeError(error)) return error;
  return new KedgeError(error.code, `${quote(path, 200)}: ${error.message}`, {
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    cause: error,
  });
}
