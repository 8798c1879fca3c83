import { attempt } from '../../../pki/attempt.ts';
import { equalBytes } from '../../../pki/bytes.ts';
import { type Certificate, parseCertificate } from '../../../pki/certificate.ts';
import { KedgeError, quote } from '../../../pki/kedge-error.ts';
import { LIMITS } from '../../../pki/limits.ts';
import { pemBlocks, pemBytes } from './pem-blocks.ts';

/**
 * Reads the certificates of a PEM file, in any order, each once; other blocks and text between them are passed over.
 *
 * Throws `disk_files_swapped`, `disk_file_truncated`, `disk_pem_missing`, `disk_certificate_malformed`.
 */
export function parseCertificatesFile(text: string, name: string): readonly Certificate[] {
  const blocks = pemBlocks(text, name);
  const found: Certificate[] = [];
  for (const [index, block] of blocks.filter(({ label }) => label === 'CERTIFICATE').entries()) {
    const der = pemBytes(block);
    if (der === null) throw malformed(name, index, 'is not base64');
    const parsed = attempt(() => parseCertificate(der, 'disk_certificate_malformed'));
    if (!parsed.ok) throw malformed(name, index, `is none that Kedge reads: ${parsed.refusal.message}`);
    if (!found.some((known) => equalBytes(known.der, der))) found.push(parsed.value);
    if (found.length > LIMITS.bundleAuthorities) {
      throw malformed(name, index, `is one too many: at most ${LIMITS.bundleAuthorities} are read`);
    }
  }
  if (found.length > 0) return found;
  if (blocks.some(({ label }) => label.endsWith('PRIVATE KEY'))) {
    throw new KedgeError('disk_files_swapped', `${quote(name, 200)} holds a private key and no certificate`, {
      hint: 'upstream.disk.certificateFile is to name the certificates, upstream.disk.keyFile the private key',
    });
  }
  throw new KedgeError(
    'disk_certificate_malformed',
    `${quote(name, 200)} holds no certificate but ${quote(blocks[0]?.label ?? '')}`,
    { hint: 'give blocks that begin with -----BEGIN CERTIFICATE-----' },
  );
}

function malformed(name: string, index: number, what: string): KedgeError {
  return new KedgeError(
    'disk_certificate_malformed',
    `certificate ${index + 1} of ${quote(name, 200)} ${what}`,
    {
      hint: 'have it issued anew, or take it out of the file if the chain does not need it',
    },
  );
}
