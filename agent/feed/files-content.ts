import { createPrivateKey } from 'node:crypto';
import { formatBundleDocument } from '../../pki/bundle-document.ts';
import { KedgeError } from '../../pki/kedge-error.ts';
import { encodePem } from '../../pki/pem.ts';
import type { Secret } from '../../pki/secret.ts';
import type { BundleSnapshot, IdentitySnapshot } from '../snapshot.ts';
import type { FileContent, KeyFormat } from './files-preset.ts';

const ENVOY_TLS = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3';

/**
 * The bytes of one file; null where there is nothing to write (no CRLs). Throws `feed_failed` for a key that the
 * format cannot hold.
 */
export function fileContent(
  content: FileContent,
  snapshot: IdentitySnapshot,
  keyFormat: KeyFormat,
): Uint8Array | null {
  const { svid, bundle } = snapshot;
  const chain = (): string => pemOf('CERTIFICATE', svid.chain);
  const key = (): string => keyPem(svid.privateKey, keyFormat);
  switch (content) {
    case 'chain':
      return Buffer.from(chain());
    case 'key':
      return Buffer.from(key());
    case 'authorities':
      return Buffer.from(pemOf('CERTIFICATE', bundle.x509Authorities));
    case 'key-and-chain':
      return Buffer.from(key() + chain());
    case 'chain-and-key':
      return Buffer.from(chain() + key());
    case 'crls':
      return bundle.crls.length === 0 ? null : Buffer.from(pemOf('X509 CRL', bundle.crls));
    case 'bundle-document':
      return formatBundleDocument(bundle);
    case 'bundle-map':
      return bundleMap(bundle);
    case 'sds-certificate':
      return discoveryResponse(snapshot, 'default', {
        tls_certificate: {
          certificate_chain: { inline_string: chain() },
          private_key: { inline_string: key() },
        },
      });
    case 'sds-validation-context':
      return discoveryResponse(snapshot, 'ROOTCA', { validation_context: validationContext(bundle) });
  }
  content satisfies never;
  throw new TypeError('no such content');
}

function pemOf(label: 'CERTIFICATE' | 'X509 CRL', ders: readonly Uint8Array[]): string {
  return ders.map((der) => encodePem(label, der)).join('');
}

function keyPem(privateKey: Secret, format: KeyFormat): string {
  const pkcs8 = privateKey.expose();
  if (format === 'pkcs8') return encodePem('PRIVATE KEY', pkcs8);
  const key = createPrivateKey({ key: Buffer.from(pkcs8), format: 'der', type: 'pkcs8' });
  if (key.asymmetricKeyType !== 'ec') {
    throw new KedgeError('feed_failed', `SEC1 holds no key of the type ${key.asymmetricKeyType}`, {
      hint: 'set filesKeyFormat to pkcs8',
    });
  }
  return encodePem('EC PRIVATE KEY', key.export({ format: 'der', type: 'sec1' }));
}

/** `{"trust_domains": {<name>: <SPIFFE bundle document>}}`. */
function bundleMap(bundle: BundleSnapshot): Uint8Array {
  const document = Buffer.from(formatBundleDocument(bundle)).toString('utf8');
  return Buffer.from(`{"trust_domains":{${JSON.stringify(bundle.trustDomain.name)}:${document}}}`);
}

/**
 * A file that Envoy takes for the answer of an SDS server: exactly one resource, under the name that its
 * configuration asks for (Envoy, source/common/secret/sds_api.cc). Everything is inline, so that key and chain come
 * from one read.
 */
function discoveryResponse(
  { generation }: IdentitySnapshot,
  name: string,
  secret: Readonly<Record<string, unknown>>,
): Uint8Array {
  const resource = { '@type': `${ENVOY_TLS}.Secret`, name, ...secret };
  return Buffer.from(
    `${JSON.stringify({ version_info: String(generation), resources: [resource] }, null, 2)}\n`,
  );
}

/** Envoy's SPIFFE validator: anchors count for their own trust domain only. It reads CRLs from the same PEM. */
function validationContext({ trustDomain, x509Authorities, crls }: BundleSnapshot): unknown {
  const trust_bundle = { inline_string: pemOf('CERTIFICATE', x509Authorities) + pemOf('X509 CRL', crls) };
  return {
    custom_validator_config: {
      name: 'envoy.tls.cert_validator.spiffe',
      typed_config: {
        '@type': `${ENVOY_TLS}.SPIFFECertValidatorConfig`,
        trust_domains: [{ name: trustDomain.name, trust_bundle }],
      },
    },
  };
}
