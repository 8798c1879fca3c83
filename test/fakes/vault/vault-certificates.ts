/** Certificates and CSRs as Vault makes them: their profile is held against the recorded ones. */
import { parseCertificate } from '../../../pki/certificate.ts';
import { parseCsr, verifyProofOfPossession } from '../../../pki/csr.ts';
import { decodePem, encodePem } from '../../../pki/pem.ts';
import { verifySignature } from '../../../pki/public-key.ts';
import { equalBytes } from '../../../pki/bytes.ts';
import { x509 } from '../../../pki/x509-library.ts';
import { signerCrypto } from '../../../pki/webcrypto-signer.ts';
import { ext, makeCertificate, type TestSigner } from '../../support/certificates.ts';
import { seconds, textOf, VaultRefusal } from './vault-answer.ts';

type Body = Readonly<Record<string, unknown>>;

/** Vault begins a certificate that much before the request, seconds. */
const NOT_BEFORE_SECONDS = 30;
const { keyCertSign, cRLSign } = x509.KeyUsageFlags;

/** PEM as Vault writes it, without a newline at its end. */
export function pemOf(der: Uint8Array): string {
  return encodePem('CERTIFICATE', der).trimEnd();
}

/** A CSR for a key of the mount's own. */
export async function makeCsr(signer: TestSigner, commonName: string): Promise<string> {
  const { crypto, keys, signingAlgorithm } = await signerCrypto(signer);
  const name = `CN=${commonName}`;
  const csr = await x509.Pkcs10CertificateRequestGenerator.create({ name, keys, signingAlgorithm }, crypto);
  return encodePem('CERTIFICATE REQUEST', new Uint8Array(csr.rawData)).trimEnd();
}

/** Who signs, and what bounds it. */
export interface VaultSigning {
  /** Null = the certificate signs itself. */
  readonly issuer: Uint8Array | null;
  readonly signer: TestSigner;
  readonly maxTtlSeconds: number;
  readonly nowMs: number;
  /** Whether `not_before_duration` is known. */
  readonly takesNotBefore: boolean;
}

/** A root, or what a CSR asks for and the parameters say, as `root/generate` and `sign-intermediate` do. */
export async function makeVaultCertificate(
  body: Body,
  csr: VaultCsr | null,
  { issuer, signer, maxTtlSeconds, nowMs, takesNotBefore }: VaultSigning,
): Promise<{ readonly der: Uint8Array; readonly warnings: readonly string[] }> {
  const warnings: string[] = [];
  const spki = csr?.spki ?? signer.spki;
  const wantedTtl = seconds(body['ttl']) ?? 2_764_800;
  const ttl = Math.min(wantedTtl, maxTtlSeconds);
  // Vault 1.8 cuts it without a word.
  if (wantedTtl > maxTtlSeconds && takesNotBefore) {
    warnings.push(
      `TTL "${goDuration(wantedTtl)}" is longer than permitted maxTTL "${goDuration(maxTtlSeconds)}", so maxTTL is being used`,
    );
  }
  const backdate = takesNotBefore
    ? (seconds(body['not_before_duration']) ?? NOT_BEFORE_SECONDS)
    : NOT_BEFORE_SECONDS;
  const usesCsr = csr !== null && body['use_csr_values'] === true;
  const uris = usesCsr ? csr.uris : textOf(body, 'uri_sans').split(',').filter(Boolean);
  const pathLength = typeof body['max_path_length'] === 'number' ? body['max_path_length'] : -1;
  const parent = issuer === null ? null : new x509.X509Certificate(new Uint8Array(issuer));
  const subject = usesCsr ? csr.subject : subjectOf(body, csr);
  const nowSeconds = Math.floor(nowMs / 1_000) * 1_000;
  const der = await makeCertificate({
    subject,
    issuer: parent?.subject ?? subject,
    spki,
    signer,
    notBeforeMs: nowSeconds - backdate * 1_000,
    notAfterMs: nowSeconds + ttl * 1_000,
    extensions: [
      ext.keyUsage(keyCertSign | cRLSign),
      ext.basicConstraints(true, pathLength < 0 ? undefined : pathLength),
      ext.subjectKeyId(spki),
      ext.authorityKeyId(issuer === null ? spki : parseCertificate(issuer).spki),
      ...(uris.length === 0
        ? []
        : [
            ext.san(
              uris.map((value) => ({ type: 'url' as const, value })),
              subject === '',
            ),
          ]),
    ],
  });
  if (issuer !== null && pathLength === 0) {
    warnings.push(
      'Max path length of the signed certificate is zero. This certificate cannot be used to issue intermediate CA certificates.',
    );
  }
  return { der, warnings };
}

/** What counts of a CSR. */
export interface VaultCsr {
  readonly spki: Uint8Array;
  readonly subject: string;
  readonly uris: readonly string[];
}

/** Reads `csr` as Go does, as far as its refusals are known. */
export function readVaultCsr(body: Body): VaultCsr {
  const text = textOf(body, 'csr');
  if (text === '') throw new VaultRefusal(400, ['"csr" is empty']);
  let der: Uint8Array;
  try {
    [der = new Uint8Array()] = decodePem(text, 'CERTIFICATE REQUEST');
  } catch {
    throw new VaultRefusal(400, ['csr contains no data']);
  }
  try {
    const csr = parseCsr(der);
    verifyProofOfPossession(csr);
    const subject = new x509.Pkcs10CertificateRequest(new Uint8Array(der)).subject;
    return { spki: csr.spki, subject, uris: csr.uriSans };
  } catch (error) {
    if ((error as { code?: string }).code === 'csr_signature_invalid')
      throw new VaultRefusal(400, ['request signature invalid']);
    throw new VaultRefusal(400, [
      "certificate request could not be parsed: asn1: structure error: tags don't match (16 vs {class:0 tag:0 length:0 isCompound:false}) {optional:false explicit:false application:false private:false defaultValue:<nil> tag:<nil> stringType:0 timeType:0 set:false omitEmpty:false} certificateRequest @2",
    ]);
  }
}

/** Whether `issuer` has signed `der`. */
export function hasSigned(issuer: Uint8Array, der: Uint8Array): boolean {
  const [parent, child] = [parseCertificate(issuer), parseCertificate(der)];
  return (
    equalBytes(child.issuer, parent.subject) &&
    verifySignature(child.signatureAlgorithm, parent.spki, child.tbs, child.signature, 'svid_malformed')
  );
}

/** `7d:da:01`, as Vault writes serial numbers. */
export function serialOf(der: Uint8Array): string {
  const { serialNumber } = parseCertificate(der);
  return Buffer.from(serialNumber)
    .toString('hex')
    .replace(/^00/, '')
    .replaceAll(/..(?=.)/g, '$&:');
}

/** Without a common name the CSR's counts: that it were required is not so. */
function subjectOf(body: Body, csr: VaultCsr | null): string {
  const fromCsr = /CN=([^,]*)/.exec(csr?.subject ?? '')?.[1] ?? '';
  const parts = [
    ['O', textOf(body, 'organization')],
    ['CN', textOf(body, 'common_name') || fromCsr],
  ].filter(([, value]) => value !== '');
  return parts.map(([name, value]) => `${name}=${value}`).join(', ');
}

function goDuration(total: number): string {
  return `${Math.floor(total / 3_600)}h${Math.floor((total % 3_600) / 60)}m${total % 60}s`;
}
