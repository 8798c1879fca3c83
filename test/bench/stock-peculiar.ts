import { Crypto } from '@peculiar/webcrypto';
import * as x509 from '@peculiar/x509';

const EC = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

/**
 * What one would write with `@peculiar/x509` as its documentation shows it: read the CSR, verify it, sign an SVID of
 * Kedge's profile. Gives a function from CSR to chain.
 */
export async function stockIssuer(): Promise<(csr: Uint8Array) => Promise<Uint8Array[]>> {
  const crypto = new Crypto();
  const keys = await crypto.subtle.generateKey(EC, true, ['sign', 'verify']);
  const issuer = await x509.X509CertificateGenerator.createSelfSigned(
    { serialNumber: '01', name: 'CN=Stock issuer', signingAlgorithm: EC, keys },
    crypto,
  );
  const issuerDer = new Uint8Array(issuer.rawData);
  const authorityKeyId = await x509.AuthorityKeyIdentifierExtension.create(issuer.publicKey, false, crypto);
  return async (der) => {
    const csr = new x509.Pkcs10CertificateRequest(Uint8Array.from(der).buffer);
    if (!(await csr.verify(crypto))) throw new Error('a CSR of the benchmark does not verify');
    const now = Date.now();
    const svid = await x509.X509CertificateGenerator.create(
      {
        serialNumber: Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString('hex'),
        issuer: issuer.subjectName,
        notBefore: new Date(now - 120_000),
        notAfter: new Date(now + 86_400_000),
        signingAlgorithm: EC,
        publicKey: csr.publicKey,
        signingKey: keys.privateKey,
        extensions: [
          new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
          new x509.ExtendedKeyUsageExtension([
            x509.ExtendedKeyUsage.serverAuth,
            x509.ExtendedKeyUsage.clientAuth,
          ]),
          new x509.BasicConstraintsExtension(false, undefined, true),
          authorityKeyId,
          await x509.SubjectKeyIdentifierExtension.create(csr.publicKey, false, crypto),
          new x509.SubjectAlternativeNameExtension(
            [{ type: 'url', value: 'spiffe://example.org/ns/demo/sa/web' }],
            true,
          ),
        ],
      },
      crypto,
    );
    return [new Uint8Array(svid.rawData), issuerDer];
  };
}
