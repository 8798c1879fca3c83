import { webcrypto } from 'node:crypto';
import { x509 } from '../../pki/x509-library.ts';

/** A server's certificate that is its own CA, for 127.0.0.1 and `localhost`, and its key: PEM. */
export interface TlsCertificate {
  readonly certificate: string;
  readonly key: string;
}

/** Valid from an hour ago until an hour from now by the machine's clock, since TLS looks at no other. */
export async function selfSignedTlsCertificate(name = 'localhost'): Promise<TlsCertificate> {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256' };
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const nowMs = Date.now();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned(
    {
      name: `CN=${name}`,
      notBefore: new Date(nowMs - 3_600_000),
      notAfter: new Date(nowMs + 3_600_000),
      signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
      keys: keys as never,
      extensions: [
        new x509.BasicConstraintsExtension(true, undefined, true),
        new x509.SubjectAlternativeNameExtension([
          { type: 'dns', value: name },
          { type: 'ip', value: '127.0.0.1' },
        ]),
      ],
    },
    webcrypto,
  );
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64');
  return {
    certificate: certificate.toString('pem'),
    key: `-----BEGIN PRIVATE KEY-----\n${pkcs8}\n-----END PRIVATE KEY-----\n`,
  };
}
