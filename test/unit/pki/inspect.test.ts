import assert from 'node:assert/strict';
import { createHash, generateKeyPairSync } from 'node:crypto';
import { describe, it } from 'node:test';
import {
  derContext,
  derContextPrimitive,
  derOid,
  derSequence,
  derSetOf,
  derUtf8String,
} from '../../../pki/der-writer.ts';
import { describeCertificate } from '../../../pki/inspect.ts';
import { isKedgeError } from '../../../pki/kedge-error.ts';
import { OID } from '../../../pki/oid.ts';
import { x509 } from '../../../pki/x509-library.ts';
import {
  SVID_ID,
  ext,
  makeAnchor,
  makeCertificate,
  makeIssuer,
  makeLeaf,
  newSigner,
} from '../../support/certificates.ts';

describe('describing a certificate', () => {
  it('says what an SVID is', async () => {
    const anchor = await makeAnchor({ subject: 'CN=a' });
    const serialNumber = Uint8Array.from([0x5a, ...Array.from({ length: 15 }, (_, i) => i)]);
    const san = ext.san([
      { type: 'url', value: SVID_ID },
      { type: 'dns', value: 'web.example.org' },
    ]);
    const der = await makeLeaf(anchor, { serialNumber, extensions: { san, more: ext.unknown(true) } });
    const { authorityKeyId, subjectKeyId, ...described } = describeCertificate(der);
    assert.match(subjectKeyId ?? '', /^[0-9a-f]{40}$/);
    assert.match(authorityKeyId ?? '', /^[0-9a-f]{40}$/);
    assert.deepEqual(described, {
      spiffeId: SVID_ID,
      subject: '',
      issuer: 'CN=a',
      serialNumber: '5a000102030405060708090a0b0c0d0e',
      notBefore: '2026-06-01T11:00:00.000Z',
      notAfter: '2026-06-01T13:00:00.000Z',
      publicKey: 'EC P-256',
      signatureAlgorithm: 'ecdsa-sha256',
      isCa: false,
      pathLength: null,
      keyUsage: ['digitalSignature'],
      extendedKeyUsage: ['serverAuth', 'clientAuth'],
      subjectAltNames: [`URI:${SVID_ID}`, 'DNS:web.example.org'],
      nameConstraints: [],
      unknownCriticalExtensions: ['1.3.6.1.4.1.55555.1'],
      fingerprint: createHash('sha256').update(der).digest('hex'),
    });
    const again: unknown = JSON.parse(JSON.stringify(describeCertificate(der)));
    assert.deepEqual(again, describeCertificate(der));
  });

  it('says what a bare certificate is not', async () => {
    const signer = newSigner();
    const der = await makeCertificate({
      signer,
      spki: signer.spki,
      issuer: 'CN=a',
      extensions: [ext.unknown(false)],
    });
    const described = describeCertificate(der);
    assert.equal(described.spiffeId, null);
    assert.equal(described.isCa, false);
    assert.equal(described.subjectKeyId, null);
    assert.deepEqual(
      [described.keyUsage, described.extendedKeyUsage, described.subjectAltNames],
      [[], [], []],
    );
  });

  it('gives purposes without a name as they are', async () => {
    const extensions = { extendedKeyUsage: ext.extendedKeyUsage('1.3.6.1.5.5.7.3.3') };
    const described = describeCertificate(await makeLeaf(await makeAnchor(), { extensions }));
    assert.deepEqual(described.extendedKeyUsage, ['1.3.6.1.5.5.7.3.3']);
  });

  it('gives no SPIFFE ID for two URIs, or one that is none', async () => {
    const anchor = await makeAnchor();
    for (const san of [ext.uris(SVID_ID, 'spiffe://example.org/b'), ext.uris('https://example.org/')])
      assert.equal(describeCertificate(await makeLeaf(anchor, { extensions: { san } })).spiffeId, null);
  });

  it('names the key, also one that Kedge does not take', async () => {
    const anchor = await makeAnchor();
    const { signer, subject } = anchor;
    for (const [kind, want] of [
      ['ec-p384', 'EC P-384'],
      ['ed25519', 'Ed25519'],
      ['rsa-2048', 'RSA 2048'],
    ] as const)
      assert.equal(describeCertificate(await makeLeaf(anchor, { signer: newSigner(kind) })).publicKey, want);
    const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'secp256k1' });
    const spki = publicKey.export({ format: 'der', type: 'spki' });
    const odd = await makeCertificate({ signer, issuer: subject, spki, extensions: [ext.unknown(false)] });
    assert.match(describeCertificate(odd).publicKey, /1\.3\.132\.0\.10/);
  });

  it('writes names of every form', async () => {
    const directory = derSequence(derSetOf(derSequence(derOid(OID.commonName), derUtf8String('x'))));
    const names = derSequence(
      derContextPrimitive(1, Buffer.from('a@example.org')),
      derContextPrimitive(7, Uint8Array.of(10, 0, 0, 1)),
      derContextPrimitive(7, new Uint8Array(16).with(0, 0xfd).with(15, 1)),
      derContext(4, directory),
      derContextPrimitive(8, Uint8Array.of(0x2a, 0x03)),
    );
    const anchor = await makeAnchor({
      extensions: {
        san: new x509.Extension(OID.subjectAltName, false, names),
        constraints: ext.nameConstraints(
          [[6, 'example.org']],
          [
            [7, Uint8Array.of(10, 0, 0, 0, 255, 0, 0, 0)],
            [2, 'test'],
          ],
        ),
      },
    });
    const described = describeCertificate(anchor.der);
    assert.deepEqual(described.subjectAltNames, [
      'email:a@example.org',
      'IP:10.0.0.1',
      'IP:fd00:0000:0000:0000:0000:0000:0000:0001',
      'directory:CN=x',
      'other:88022a03',
    ]);
    assert.deepEqual(described.nameConstraints, [
      'permitted URI:example.org',
      'excluded IP:10.0.0.0/255.0.0.0',
      'excluded DNS:test',
    ]);
    const issuer = await makeIssuer(anchor, {
      extensions: { basicConstraints: ext.basicConstraints(true, 3) },
    });
    assert.equal(describeCertificate(issuer.der).pathLength, 3);
  });

  it('lets no control character through to a terminal', async () => {
    const anchor = await makeAnchor({ subject: 'CN=a\u202eb' });
    const san = ext.san([{ type: 'dns', value: 'a\u001b[31mb' }]);
    const described = describeCertificate(await makeLeaf(anchor, { extensions: { san } }));
    assert.equal(described.issuer, 'CN=a\\u{202e}b');
    assert.deepEqual(described.subjectAltNames, ['DNS:a\\u{1b}[31mb']);
  });

  it('refuses what is no certificate', () =>
    assert.throws(
      () => describeCertificate(Uint8Array.of(1)),
      (error) => isKedgeError(error, 'svid_malformed'),
    ));
});
