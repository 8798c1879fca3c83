import { parseBundleDocument } from '../pki/bundle-document.ts';
import { parseCertificate } from '../pki/certificate.ts';
import { KedgeError, quote } from '../pki/kedge-error.ts';
import { LIMITS } from '../pki/limits.ts';
import { decodePem } from '../pki/pem.ts';
import { readSmallFile } from '../host/small-file.ts';

/**
 * The trust anchors of the bootstrap bundle file, DER: PEM certificates, or a SPIFFE bundle document.
 *
 * Throws `file_unreadable`, `message_too_large`, `pem_invalid`, `bundle_malformed` or `bundle_empty`.
 */
export async function readBootstrapBundle(path: string): Promise<readonly Uint8Array[]> {
  const bytes = await readSmallFile(path, LIMITS.bundleDocumentBytes, 'bootstrap bundle');
  const authorities = parseBootstrapBundle(bytes);
  if (authorities.length === 0) {
    throw new KedgeError('bundle_empty', `the bootstrap bundle ${quote(path, 200)} holds no trust anchor`, {
      hint: 'give the trust anchors of the CA: kedge bundle show prints them',
    });
  }
  return authorities;
}

/** The same from bytes; empty where there is no anchor. */
export function parseBootstrapBundle(bytes: Uint8Array): readonly Uint8Array[] {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
  if (text.trim() === '') return [];
  if (!text.includes('-----BEGIN')) return parseBundleDocument(bytes).x509Authorities;
  const authorities = decodePem(text, 'CERTIFICATE');
  if (authorities.length > LIMITS.bundleAuthorities) {
    throw new KedgeError(
      'message_too_large',
      `${authorities.length} certificates in the bootstrap bundle, ${LIMITS.bundleAuthorities} are allowed`,
    );
  }
  return authorities.map((der) => parseCertificate(der, 'bundle_malformed').der);
}
