/** Second opinions: OpenSSL and `@peculiar/x509` read the CSRs of Kedge, and Kedge theirs. */
import assert from 'node:assert/strict';
import { createPrivateKey, createPublicKey } from 'node:crypto';
import { after, describe, it } from 'node:test';
import { equalBytes } from '../../../pki/bytes.ts';
import { parseCsr, verifyProofOfPossession } from '../../../pki/csr.ts';
import { buildCsr } from '../../../pki/csr-builder.ts';
import { OID } from '../../../pki/oid.ts';
import { SpiffeId } from '../../../pki/spiffe-id.ts';
import { signerCrypto } from '../../../pki/webcrypto-signer.ts';
import { x509 } from '../../../pki/x509-library.ts';
import { newPrivateKey, newSigner } from '../../support/certificates.ts';
import { OpenSsl } from '../../support/openssl.ts';

const openssl = new OpenSsl();
after(() => openssl.remove());

const WEB = SpiffeId.parse('spiffe://example.org/ns/default/sa/web');

describe('a CSR of Kedge is read', () => {
  for (const type of ['ec-p256', 'ec-p384', 'ed25519', 'rsa-2048'] as const)
    it(`by OpenSSL with a key of ${type}, its signature verified`, () => {
      openssl.write('kedge.csr', buildCsr({ privateKey: newPrivateKey(type), uriSan: WEB }));
      const text = openssl.run('req -inform der -in kedge.csr -noout -verify -text');
      assert.match(
        text,
        /X509v3 Subject Alternative Name: critical\s+URI:spiffe:\/\/example\.org\/ns\/default\/sa\/web\s/,
      );
    });

  it('by @peculiar/x509', () => {
    const read = new x509.Pkcs10CertificateRequest(buildCsr({ privateKey: newPrivateKey(), uriSan: WEB }));
    assert.equal(read.subject, '');
    const san = read.getExtension(OID.subjectAltName) as x509.SubjectAlternativeNameExtension;
    assert.deepEqual(san.names.toJSON(), [{ type: 'url', value: WEB.toString() }]);
  });
});

describe('a CSR is read that was made', () => {
  const made = [
    { key: 'rsa:2048', want: 'rsa-2048', scheme: 'rsa-pkcs1-sha256' },
    { key: 'rsa:2304 -sha512', want: 'rsa-2048', scheme: 'rsa-pkcs1-sha512' },
    { key: 'ec -pkeyopt ec_paramgen_curve:P-256', want: 'ec-p256', scheme: 'ecdsa-sha256' },
    { key: 'ec -pkeyopt ec_paramgen_curve:P-384', want: 'ec-p384', scheme: 'ecdsa-sha256' },
    { key: 'ec -pkeyopt ec_paramgen_curve:P-384 -sha384', want: 'ec-p384', scheme: 'ecdsa-sha384' },
    { key: 'ed25519', want: 'ed25519', scheme: 'ed25519' },
  ] as const;
  const wanted =
    '-subj /C=DE/O=Example/CN=ignored -addext subjectAltName=DNS:ignored,URI:spiffe://td/a -addext keyUsage=critical,digitalSignature';
  for (const { key, want, scheme } of made)
    it(`by openssl req -newkey ${key}`, () => {
      openssl.run(`req -new -nodes -outform der -keyout key.pem -out made.csr ${wanted} -newkey ${key}`);
      const csr = parseCsr(openssl.read('made.csr'));
      verifyProofOfPossession(csr);
      assert.equal(csr.keyType, want);
      assert.equal(csr.signatureAlgorithm, scheme);
      assert.deepEqual(csr.uriSans, ['spiffe://td/a']);
      const publicKey = createPublicKey(createPrivateKey(Buffer.from(openssl.read('key.pem'))));
      assert.ok(equalBytes(csr.spki, publicKey.export({ format: 'der', type: 'spki' })));
    });

  for (const type of ['ec-p256', 'ec-p384', 'rsa-2048'] as const)
    it(`by @peculiar/x509 with ${type}`, async () => {
      const { crypto, keys, signingAlgorithm } = await signerCrypto(newSigner(type));
      const request = await x509.Pkcs10CertificateRequestGenerator.create(
        {
          name: 'CN=ignored',
          keys,
          signingAlgorithm,
          extensions: [
            new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature),
            new x509.SubjectAlternativeNameExtension([{ type: 'url', value: 'spiffe://td/a' }]),
          ],
          attributes: [new x509.ChallengePasswordAttribute('ignored')],
        },
        crypto,
      );
      const csr = parseCsr(new Uint8Array(request.rawData));
      verifyProofOfPossession(csr);
      assert.equal(csr.keyType, type);
      assert.deepEqual(csr.uriSans, ['spiffe://td/a']);
    });

  const refused = [
    { key: 'rsa:2048 -sha1', code: 'csr_signature_algorithm_unsupported' },
    { key: 'rsa:1024', code: 'csr_key_type_unsupported' },
  ];
  for (const { key, code } of refused)
    it(`but not by openssl req -newkey ${key}`, () => {
      openssl.run(`req -new -nodes -outform der -keyout key.pem -out refused.csr -subj / -newkey ${key}`);
      assert.throws(() => parseCsr(openssl.read('refused.csr')), { code });
    });
});
