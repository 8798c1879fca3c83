import assert from 'node:assert/strict';
import { createPrivateKey, createPublicKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { before, describe, it } from 'node:test';
import { fileContent } from '../../../../agent/feed/files-content.ts';
import {
  type FileContent,
  isSecret,
  KEY_FORMATS,
  type KeyFormat,
} from '../../../../agent/feed/files-preset.ts';
import type { IdentitySnapshot } from '../../../../agent/snapshot.ts';
import { parseBundleDocument } from '../../../../pki/bundle-document.ts';
import { decodePem } from '../../../../pki/pem.ts';
import { Secret } from '../../../../pki/secret.ts';
import { expectCode } from '../../../support/expect-code.ts';
import { OpenSsl } from '../../../support/openssl.ts';
import { SnapshotFactory } from '../../../support/snapshots.ts';

const CRL = Uint8Array.of(0x30, 0x00);
const TYPES = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3';

describe('the content of a file', () => {
  let snapshot: IdentitySnapshot;
  let withCrl: IdentitySnapshot;
  before(async () => {
    const factory = await SnapshotFactory.make(Date.now());
    snapshot = await factory.snapshot(7);
    withCrl = { ...snapshot, bundle: { ...snapshot.bundle, crls: [CRL] } };
  });
  const text = (
    content: FileContent,
    of: IdentitySnapshot = snapshot,
    format: KeyFormat = 'pkcs8',
  ): string => {
    const bytes = fileContent(content, of, format);
    assert.ok(bytes !== null);
    return Buffer.from(bytes).toString('utf8');
  };
  const labels = (pem: string): string[] =>
    [...pem.matchAll(/-----BEGIN ([A-Z0-9 ]+)-----/g)].map((m) => m[1] ?? '');

  const shapes: readonly { content: FileContent; labels: readonly string[] }[] = [
    { content: 'chain', labels: ['CERTIFICATE', 'CERTIFICATE'] },
    { content: 'key', labels: ['PRIVATE KEY'] },
    { content: 'authorities', labels: ['CERTIFICATE'] },
    { content: 'key-and-chain', labels: ['PRIVATE KEY', 'CERTIFICATE', 'CERTIFICATE'] },
    { content: 'chain-and-key', labels: ['CERTIFICATE', 'CERTIFICATE', 'PRIVATE KEY'] },
    { content: 'crls', labels: ['X509 CRL'] },
  ];
  for (const { content, labels: want } of shapes) {
    it(`${content} is ${want.join(', ')}`, () => {
      assert.deepEqual(labels(text(content, withCrl)), want);
    });
  }

  it('chain has the leaf first and no anchor; authorities has the anchors', () => {
    assert.deepEqual(decodePem(text('chain'), 'CERTIFICATE'), snapshot.svid.chain);
    assert.deepEqual(decodePem(text('authorities'), 'CERTIFICATE'), snapshot.bundle.x509Authorities);
  });

  it('crls is not written while there are none', () => {
    assert.equal(fileContent('crls', snapshot, 'pkcs8'), null);
  });

  for (const format of KEY_FORMATS) {
    it(`a key in ${format} is the key of the leaf, for Node and for OpenSSL`, (t) => {
      const pem = text('key', snapshot, format);
      assert.deepEqual(labels(pem), [format === 'sec1' ? 'EC PRIVATE KEY' : 'PRIVATE KEY']);
      const leaf = new X509Certificate(text('chain'));
      assert.ok(leaf.checkPrivateKey(createPrivateKey(pem)));
      const openssl = new OpenSsl();
      t.after(() => openssl.remove());
      openssl.write('key.pem', pem);
      const publicKey = createPublicKey(openssl.run('pkey -in key.pem -pubout'));
      assert.ok(publicKey.equals(leaf.publicKey));
    });
  }

  it('a key that is none of an elliptic curve is refused as SEC1, and says nothing of the key', () => {
    const { privateKey } = generateKeyPairSync('ed25519');
    const der = privateKey.export({ format: 'der', type: 'pkcs8' });
    const other = { ...snapshot, svid: { ...snapshot.svid, privateKey: new Secret(Uint8Array.from(der)) } };
    const error = expectCode('feed_failed', () => fileContent('key', other, 'sec1'));
    assert.match(error.message, /ed25519/);
    assert.ok(!error.message.includes(der.toString('base64')));
    assert.deepEqual(labels(text('key', other, 'pkcs8')), ['PRIVATE KEY']);
  });

  it('bundle-map holds the bundle document under the name of the trust domain', () => {
    const map = JSON.parse(text('bundle-map')) as { trust_domains: Record<string, unknown> };
    assert.deepEqual(Object.keys(map), ['trust_domains']);
    assert.deepEqual(Object.keys(map.trust_domains), ['example.org']);
    const document = parseBundleDocument(Buffer.from(JSON.stringify(map.trust_domains['example.org'])));
    assert.deepEqual(document.x509Authorities, snapshot.bundle.x509Authorities);
    assert.equal(document.sequence, snapshot.bundle.sequence);
    assert.equal(text('bundle-document'), JSON.stringify(map.trust_domains['example.org']));
  });

  it('sds-certificate is one Secret named default, with chain and key inline', () => {
    assert.deepEqual(JSON.parse(text('sds-certificate')), {
      version_info: '7',
      resources: [
        {
          '@type': `${TYPES}.Secret`,
          name: 'default',
          tls_certificate: {
            certificate_chain: { inline_string: text('chain') },
            private_key: { inline_string: text('key') },
          },
        },
      ],
    });
  });

  it('sds-validation-context is one Secret named ROOTCA, for the SPIFFE validator, with the CRLs', () => {
    const resource = (bundle: string): unknown => ({
      version_info: '7',
      resources: [
        {
          '@type': `${TYPES}.Secret`,
          name: 'ROOTCA',
          validation_context: {
            custom_validator_config: {
              name: 'envoy.tls.cert_validator.spiffe',
              typed_config: {
                '@type': `${TYPES}.SPIFFECertValidatorConfig`,
                trust_domains: [{ name: 'example.org', trust_bundle: { inline_string: bundle } }],
              },
            },
          },
        },
      ],
    });
    assert.deepEqual(JSON.parse(text('sds-validation-context')), resource(text('authorities')));
    const both = text('authorities') + text('crls', withCrl);
    assert.deepEqual(JSON.parse(text('sds-validation-context', withCrl)), resource(both));
  });

  it('is secret where, and only where, the key is in it', () => {
    const contents = [
      ...shapes.map(({ content }) => content),
      ...(['bundle-document', 'bundle-map', 'sds-certificate', 'sds-validation-context'] as const),
    ];
    for (const content of contents) {
      assert.equal(/PRIVATE KEY/.test(text(content, withCrl)), isSecret(content), content);
    }
  });
});
