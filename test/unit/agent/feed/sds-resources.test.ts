import assert from 'node:assert/strict';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { before, describe, it } from 'node:test';
import type { SdsForm } from '../../../../agent/feed/sds-form.ts';
import { DEFAULT_SDS_NAMES } from '../../../../agent/feed/sds-names.ts';
import type { SdsCatalog } from '../../../../agent/feed/sds-resources.ts';
import type { IdentitySnapshot } from '../../../../agent/snapshot.ts';
import { decodePem } from '../../../../pki/pem.ts';
import type { DataSource } from '../../../../proto/gen/envoy/config/core/v3/base.ts';
import type { CertificateValidationContext } from '../../../../proto/gen/envoy/extensions/transport_sockets/tls/v3/common.ts';
import { Secret } from '../../../../proto/gen/envoy/extensions/transport_sockets/tls/v3/secret.ts';
import { SPIFFECertValidatorConfig } from '../../../../proto/gen/envoy/extensions/transport_sockets/tls/v3/tls_spiffe_validator_config.ts';
import { makeAnchor, SVID_ID } from '../../../support/certificates.ts';
import { expectCode } from '../../../support/expect-code.ts';
import { catalogOf } from '../../../support/sds-catalogs.ts';
import { keyOf, SnapshotFactory } from '../../../support/snapshots.ts';

const TD = 'spiffe://example.org';

function inlined(source: DataSource | undefined): string {
  assert.equal(source?.specifier?.$case, 'inlineBytes');
  return source.specifier.$case === 'inlineBytes'
    ? Buffer.from(source.specifier.value).toString('latin1')
    : '';
}

function secretOf(catalog: SdsCatalog, name: string, form: SdsForm = 'spiffe'): Secret {
  const resource = catalog.get(name, form);
  assert.ok(resource !== null, `there is no ${name}`);
  const secret = Secret.decode(resource.secret);
  assert.equal(resource.name, name);
  assert.equal(secret.name, name);
  return secret;
}

function contextOf(catalog: SdsCatalog, name: string, form: SdsForm): CertificateValidationContext {
  const { type } = secretOf(catalog, name, form);
  assert.ok(type?.$case === 'validationContext');
  return type.value;
}

/** The PEM of each trust domain of the SPIFFE validator. */
function trustDomainsOf(context: CertificateValidationContext): Record<string, string> {
  const config = context.customValidatorConfig;
  assert.equal(config?.name, 'envoy.tls.cert_validator.spiffe');
  assert.equal(
    config.typedConfig?.typeUrl,
    'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig',
  );
  const { trustDomains } = SPIFFECertValidatorConfig.decode(config.typedConfig.value);
  return Object.fromEntries(trustDomains.map(({ name, trustBundle }) => [name, inlined(trustBundle)]));
}

describe('the secrets of a snapshot', () => {
  let factory: SnapshotFactory;
  let snapshot: IdentitySnapshot;
  let catalog: SdsCatalog;

  before(async () => {
    factory = await SnapshotFactory.make(Date.now());
    snapshot = await factory.snapshot(1);
    catalog = catalogOf(snapshot);
  });

  for (const name of ['default', SVID_ID]) {
    it(`has the SVID as ${name}: chain with the leaf first, PKCS#8 key, in either form`, () => {
      for (const form of ['spiffe', 'plain'] as const) {
        const { type } = secretOf(catalog, name, form);
        assert.ok(type?.$case === 'tlsCertificate');
        const chain = inlined(type.value.certificateChain);
        const key = inlined(type.value.privateKey);
        assert.deepEqual(
          decodePem(chain, 'CERTIFICATE').map((der) => Buffer.from(der)),
          snapshot.svid.chain.map((der) => Buffer.from(der)),
        );
        assert.match(key, /^-----BEGIN PRIVATE KEY-----\n/);
        assert.ok(new X509Certificate(chain).checkPrivateKey(createPrivateKey(key)));
        assert.ok(createPrivateKey(key).equals(keyOf(snapshot.svid)));
      }
    });
  }

  for (const name of [TD, 'ROOTCA', 'ALL']) {
    it(`has the bundle as ${name}, for the SPIFFE validator under the name of its trust domain`, () => {
      const context = contextOf(catalog, name, 'spiffe');
      const domains = trustDomainsOf(context);
      assert.deepEqual(Object.keys(domains), ['example.org']);
      assert.deepEqual(
        decodePem(domains['example.org'] ?? '', 'CERTIFICATE').map((der) => Buffer.from(der)),
        snapshot.bundle.x509Authorities.map((der) => Buffer.from(der)),
      );
      assert.equal(context.trustedCa, undefined);
      assert.equal(context.crl, undefined);
    });
  }

  for (const name of [TD, 'ROOTCA']) {
    it(`has the bundle as ${name}, plain, as trusted_ca`, () => {
      const context = contextOf(catalog, name, 'plain');
      assert.deepEqual(
        decodePem(inlined(context.trustedCa), 'CERTIFICATE').map((der) => Buffer.from(der)),
        snapshot.bundle.x509Authorities.map((der) => Buffer.from(der)),
      );
      assert.equal(context.customValidatorConfig, undefined);
      assert.equal(context.crl, undefined);
      assert.equal(context.onlyVerifyLeafCertCrl, false);
    });
  }

  it('has all anchors of a bundle, in its order', async () => {
    const bundle = factory.bundle(2n, await makeAnchor());
    const two = catalogOf({ ...snapshot, bundle });
    const pem = trustDomainsOf(contextOf(two, 'ROOTCA', 'spiffe'))['example.org'] ?? '';
    assert.deepEqual(
      decodePem(pem, 'CERTIFICATE').map((der) => Buffer.from(der)),
      bundle.x509Authorities.map((der) => Buffer.from(der)),
    );
  });

  describe('with CRLs', () => {
    const withCrls = async (...of: readonly ('anchor' | 'issuer')[]): Promise<SdsCatalog> => {
      const crls = await Promise.all(of.map((authority) => factory.crl(authority)));
      return catalogOf({ ...snapshot, bundle: { ...factory.bundle(1n), crls } });
    };

    it('gives them in the crl field of a plain context', async () => {
      const context = contextOf(await withCrls('anchor', 'issuer'), 'ROOTCA', 'plain');
      assert.equal(decodePem(inlined(context.crl), 'X509 CRL').length, 2);
      assert.equal(context.onlyVerifyLeafCertCrl, false);
    });

    it('has Envoy look up the leaf alone where an authority of the chain has none', async () => {
      const context = contextOf(await withCrls('issuer'), 'ROOTCA', 'plain');
      assert.equal(decodePem(inlined(context.crl), 'X509 CRL').length, 1);
      assert.equal(context.onlyVerifyLeafCertCrl, true);
    });

    it('gives them among the anchors of the SPIFFE validator, which reads them there', async () => {
      const context = contextOf(await withCrls('anchor', 'issuer'), 'ALL', 'spiffe');
      const pem = trustDomainsOf(context)['example.org'] ?? '';
      assert.equal(decodePem(pem, 'CERTIFICATE').length, 1);
      assert.equal(decodePem(pem, 'X509 CRL').length, 2);
      assert.equal(context.crl, undefined);
    });

    it('leaves them out of the SPIFFE validator where they are incomplete: it would refuse every peer', async () => {
      const pem =
        trustDomainsOf(contextOf(await withCrls('issuer'), 'ROOTCA', 'spiffe'))['example.org'] ?? '';
      assert.equal(decodePem(pem, 'CERTIFICATE').length, 1);
      assert.ok(!pem.includes('X509 CRL'));
    });

    it('gives the validation contexts another version', async () => {
      const other = await withCrls('issuer');
      assert.notEqual(other.get('ROOTCA', 'plain')?.version, catalog.get('ROOTCA', 'plain')?.version);
      assert.equal(other.get('default', 'plain')?.version, catalog.get('default', 'plain')?.version);
    });
  });

  describe('by name', () => {
    it('has everything once, under its own name', () => {
      assert.deepEqual(catalog.everything, [TD, SVID_ID]);
    });

    it('has nothing else', () => {
      const names = [
        '',
        'DEFAULT',
        'rootca',
        `${TD}/`,
        'spiffe://other.org',
        `${SVID_ID}/x`,
        '__proto__',
        '*',
      ];
      for (const name of names) assert.equal(catalog.get(name, 'spiffe'), null, name);
    });

    it('has what the settings name, and not what they leave out', () => {
      const own = catalogOf(snapshot, { svid: 'mine', bundle: null, allBundles: 'ROOTCA' });
      assert.equal(secretOf(own, 'mine').type?.$case, 'tlsCertificate');
      assert.deepEqual(Object.keys(trustDomainsOf(contextOf(own, 'ROOTCA', 'spiffe'))), ['example.org']);
      assert.equal(own.get('default', 'spiffe'), null);
      assert.equal(own.get('ALL', 'spiffe'), null);
    });

    it('serves any combination in one request', () => {
      const names = ['ALL', 'ROOTCA', TD, 'default', SVID_ID];
      catalog.check(names, 'spiffe');
      for (const name of names) assert.ok(catalog.get(name, 'spiffe') !== null);
    });

    it('refuses unknown names in the words of SPIRE, and says what there is', () => {
      const { message, hint } = expectCode('sds_name_unknown', () =>
        catalog.check(['default', 'b', 'a'], 'spiffe'),
      );
      assert.equal(message, 'workload is not authorized for the requested identities ["a" "b"]');
      assert.equal(hint, `this workload has ${TD}, ${SVID_ID}, default, ROOTCA, ALL`);
    });

    it('bounds the refusal of many long names', () => {
      const names = Array.from({ length: 128 }, (_, i) => `${i}${'x'.repeat(200)}`);
      const { message } = expectCode('sds_name_unknown', () => catalog.check(names, 'spiffe'));
      assert.ok(message.length < 600);
      assert.match(message, / and 124 more$/);
    });

    it('refuses all bundles at once without the SPIFFE validator, which alone keeps them apart', () => {
      assert.equal(catalog.get('ALL', 'plain'), null);
      expectCode('sds_validator_disabled', () => catalog.check(['ROOTCA', 'ALL'], 'plain'));
    });
  });

  describe('in versions', () => {
    it('are the same for the same content, whatever the generation', () => {
      const again = catalogOf({ ...snapshot, generation: 7 });
      for (const name of ['default', 'ROOTCA', 'ALL']) {
        assert.equal(again.get(name, 'spiffe')?.version, catalog.get(name, 'spiffe')?.version);
        assert.match(catalog.get(name, 'spiffe')?.version ?? '', /^[0-9a-f]{32}$/);
      }
    });

    it('differ with the SVID for the certificate alone', async () => {
      const renewed = catalogOf({ ...snapshot, svid: await factory.svid() });
      assert.notEqual(renewed.get('default', 'spiffe')?.version, catalog.get('default', 'spiffe')?.version);
      assert.equal(renewed.get('ROOTCA', 'spiffe')?.version, catalog.get('ROOTCA', 'spiffe')?.version);
    });

    it('differ with the form for validation contexts alone', () => {
      assert.notEqual(catalog.get('ROOTCA', 'plain')?.version, catalog.get('ROOTCA', 'spiffe')?.version);
      assert.equal(catalog.get('default', 'plain')?.version, catalog.get('default', 'spiffe')?.version);
    });
  });

  it('are encoded once and shared', () => {
    assert.equal(catalog.get('default', 'spiffe'), catalog.get('default', 'spiffe'));
  });

  it('need no key once the catalog is made', async () => {
    const own = await factory.snapshot(1);
    const made = catalogOf(own, DEFAULT_SDS_NAMES);
    own.svid.privateKey.destroy();
    assert.equal(secretOf(made, 'default').type?.$case, 'tlsCertificate');
  });
});
