/**
 * Second opinions: an SVID that Kedge writes is read back, field by field, by OpenSSL, node:crypto, `@peculiar/x509`
 * and `pkijs`.
 */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { Certificate as PkijsCertificate } from 'pkijs';
import { signWith } from '../../../pki/algorithms.ts';
import { equalBytes, toHex } from '../../../pki/bytes.ts';
import { type Certificate, parseCertificate } from '../../../pki/certificate.ts';
import { parseCsr } from '../../../pki/csr.ts';
import { buildCsr } from '../../../pki/csr-builder.ts';
import { OID } from '../../../pki/oid.ts';
import { encodePem } from '../../../pki/pem.ts';
import { subjectKeyId } from '../../../pki/public-key.ts';
import { SpiffeId } from '../../../pki/spiffe-id.ts';
import { signerCrypto } from '../../../pki/webcrypto-signer.ts';
import { x509 } from '../../../pki/x509-library.ts';
import { isExactSvidTbs } from '../../../pki/x509-svid-exact.ts';
import { lintByReading } from '../../../pki/x509-svid-lint.ts';
import {
  assembleCertificate,
  buildSvidTbs,
  type SvidRequest,
  type SvidTemplate,
  svidSerialNumber,
  svidTemplate,
} from '../../../pki/x509-svid-profile.ts';
import { makeAnchor, newPrivateKey, newSigner, type TestSigner } from '../../support/certificates.ts';
import { OpenSsl } from '../../support/openssl.ts';
import { checkAsyncProperty, checkProperty } from '../../support/property.ts';

const KEY_TYPES = ['ec-p256', 'ec-p384', 'ed25519', 'rsa-2048'] as const;
/** Of the key types that our key managers make. */
const ISSUER_KEY_TYPES = ['ec-p256', 'ec-p384', 'rsa-2048'] as const;
const EPOCH_MS = Date.UTC(1970, 0, 1);
const ISSUER_NOT_AFTER_MS = Date.UTC(2120, 0, 1);

interface Issuer {
  readonly signer: TestSigner;
  readonly certificate: Certificate;
  readonly template: SvidTemplate;
}

interface Sample {
  readonly issuer: Issuer;
  readonly request: SvidRequest;
  readonly der: Uint8Array;
}

const issuers: Issuer[] = [];
const leafKeys = KEY_TYPES.map((type) => newPrivateKey(type));
const leafSpkis = leafKeys.map((key) => parseCsr(buildCsr({ privateKey: key })).spki);
const openssl = new OpenSsl();
after(() => openssl.remove());

before(async () => {
  for (const type of ISSUER_KEY_TYPES) {
    const signer = newSigner(type);
    const made = await makeAnchor({ signer, notBeforeMs: EPOCH_MS, notAfterMs: ISSUER_NOT_AFTER_MS });
    const certificate = parseCertificate(made.der);
    issuers.push({
      signer,
      certificate,
      template: svidTemplate({ issuerCertificate: certificate, algorithm: signer.algorithm }),
    });
  }
});

const segment = fc
  .string({ unit: fc.constantFrom(...'abcXYZ019.-_'.split('')), minLength: 1, maxLength: 30 })
  .filter((s) => s !== '.' && s !== '..');
const spiffeId = fc
  .array(segment, { minLength: 1, maxLength: 12 })
  .map((segments) => SpiffeId.parse(`spiffe://example.org/${segments.join('/')}`));
const dnsName = fc
  .array(fc.string({ unit: fc.constantFrom(...'abcxyz'.split('')), minLength: 1, maxLength: 63 }), {
    minLength: 1,
    maxLength: 4,
  })
  .map((labels) => labels.join('.').slice(0, 253).replace(/\.$/, ''));
const serialNumber = fc.oneof(
  fc.uint8Array({ minLength: 16, maxLength: 16 }),
  fc.nat(15).chain((zeros) =>
    fc.uint8Array({ minLength: 16 - zeros, maxLength: 16 - zeros }).map((rest) => {
      const all = new Uint8Array(16);
      all.set(rest, zeros);
      return all;
    }),
  ),
);
const validity = fc
  .tuple(
    fc.oneof(
      fc.integer({ min: EPOCH_MS, max: ISSUER_NOT_AFTER_MS - 2000 }),
      fc.constant(Date.UTC(2049, 11, 31, 23, 59, 59)),
      fc.constant(Date.UTC(2050, 0, 1)),
    ),
    fc.integer({ min: 1000, max: 40 * 365 * 86_400_000 }),
  )
  .map(([notBeforeMs, durationMs]) => ({
    notBeforeMs,
    notAfterMs: Math.min(notBeforeMs + durationMs, ISSUER_NOT_AFTER_MS),
  }));

/** What a counterexample shows: the choices alone, not the certificates made of them. */
const choices = fc.record({
  issuer: fc.nat(ISSUER_KEY_TYPES.length - 1),
  leaf: fc.nat(KEY_TYPES.length - 1),
  spiffeId,
  dnsNames: fc.array(dnsName, { maxLength: 3 }),
  serialNumber,
  validity,
});
type Choices = typeof choices extends fc.Arbitrary<infer T> ? T : never;

function issue({ issuer: index, leaf, validity: times, ...rest }: Choices): Sample {
  const issuer = issuers[index]!;
  const request: SvidRequest = { ...rest, ...times, spki: leafSpkis[leaf]! };
  const tbs = buildSvidTbs(issuer.template, request);
  const { algorithm, privateKey } = issuer.signer;
  const expected = { ...request, issuerCertificate: issuer.certificate, algorithm };
  lintByReading(tbs, expected);
  assert.ok(isExactSvidTbs(tbs, expected), 'the lint need not read what is right');
  return { issuer, request, der: assembleCertificate(tbs, algorithm, signWith(algorithm, privateKey, tbs)) };
}

const seconds = (ms: number): number => Math.floor(ms / 1000) * 1000;
const serialHex = (request: SvidRequest): string =>
  BigInt(`0x${toHex(svidSerialNumber(request.serialNumber))}`).toString(16);

describe('an SVID of Kedge is read back with every field', () => {
  it('by node:crypto', () => {
    checkProperty(
      fc.property(choices, (chosen) => {
        const { issuer, request, der } = issue(chosen);
        const read = new X509Certificate(der);
        const ca = new X509Certificate(issuer.certificate.der);
        assert.equal(BigInt(`0x${read.serialNumber}`).toString(16), serialHex(request));
        assert.equal(read.subject ?? '', '');
        assert.equal(read.issuer, ca.subject);
        assert.equal(read.validFromDate.getTime(), seconds(request.notBeforeMs));
        assert.equal(read.validToDate.getTime(), seconds(request.notAfterMs));
        const names = [
          `URI:${request.spiffeId.toString()}`,
          ...request.dnsNames.map((name) => `DNS:${name}`),
        ];
        assert.equal(read.subjectAltName, names.join(', '));
        assert.deepEqual(read.keyUsage, [OID.serverAuth, OID.clientAuth]);
        assert.equal(read.ca, false);
        assert.ok(equalBytes(read.publicKey.export({ format: 'der', type: 'spki' }), request.spki));
        assert.ok(read.checkIssued(ca));
        assert.ok(read.verify(ca.publicKey));
      }),
    );
  });

  it('by @peculiar/x509', async () => {
    await checkAsyncProperty(
      fc.asyncProperty(choices, async (chosen) => {
        const { issuer, request, der } = issue(chosen);
        const read = new x509.X509Certificate(der);
        assert.equal(BigInt(`0x${read.serialNumber}`).toString(16), serialHex(request));
        assert.equal(read.subject, '');
        assert.equal(read.issuer, new x509.X509Certificate(issuer.certificate.der).subject);
        assert.equal(read.notBefore.getTime(), seconds(request.notBeforeMs));
        assert.equal(read.notAfter.getTime(), seconds(request.notAfterMs));
        assert.ok(equalBytes(new Uint8Array(read.publicKey.rawData), request.spki));
        const known = {
          san: read.getExtension(x509.SubjectAlternativeNameExtension),
          usage: read.getExtension(x509.KeyUsagesExtension),
          purposes: read.getExtension(x509.ExtendedKeyUsageExtension),
          basic: read.getExtension(x509.BasicConstraintsExtension),
          subjectKey: read.getExtension(x509.SubjectKeyIdentifierExtension),
          authorityKey: read.getExtension(x509.AuthorityKeyIdentifierExtension),
        };
        assert.deepEqual(known.san?.names.toJSON(), [
          { type: 'url', value: request.spiffeId.toString() },
          ...request.dnsNames.map((value) => ({ type: 'dns', value })),
        ]);
        assert.equal(known.san?.critical, true);
        assert.equal(known.usage?.usages, x509.KeyUsageFlags.digitalSignature);
        assert.equal(known.usage?.critical, true);
        assert.deepEqual([...(known.purposes?.usages ?? [])], [OID.serverAuth, OID.clientAuth]);
        assert.deepEqual(
          [known.basic?.ca, known.basic?.critical, known.basic?.pathLength],
          [false, true, undefined],
        );
        assert.equal(known.subjectKey?.keyId, toHex(subjectKeyId(request.spki)));
        assert.equal(known.authorityKey?.keyId, toHex(issuer.certificate.subjectKeyId!));
        assert.equal(read.extensions.length, 6);
        const { crypto } = await signerCrypto(issuer.signer);
        const publicKey = new x509.PublicKey(issuer.certificate.spki);
        assert.ok(await read.verify({ publicKey, signatureOnly: true }, crypto));
      }),
      60,
    );
  });

  it('by pkijs', () => {
    checkProperty(
      fc.property(choices, (chosen) => {
        const { issuer, request, der } = issue(chosen);
        const read = PkijsCertificate.fromBER(der);
        assert.equal(
          BigInt(`0x${toHex(read.serialNumber.valueBlock.valueHexView)}`).toString(16),
          serialHex(request),
        );
        assert.equal(read.version, 2);
        assert.equal(read.subject.typesAndValues.length, 0);
        assert.ok(read.issuer.isEqual(PkijsCertificate.fromBER(issuer.certificate.der).subject));
        assert.equal(read.notBefore.value.getTime(), seconds(request.notBeforeMs));
        assert.equal(read.notAfter.value.getTime(), seconds(request.notAfterMs));
        assert.equal(read.notAfter.type, request.notAfterMs >= Date.UTC(2050, 0, 1) ? 1 : 0);
        assert.ok(equalBytes(new Uint8Array(read.subjectPublicKeyInfo.toSchema().toBER()), request.spki));
        assert.deepEqual(
          read.extensions?.map(({ extnID, critical }) => [extnID, critical]),
          [
            [OID.keyUsage, true],
            [OID.extKeyUsage, false],
            [OID.basicConstraints, true],
            [OID.authorityKeyIdentifier, false],
            [OID.subjectKeyIdentifier, false],
            [OID.subjectAltName, true],
          ],
        );
        const san = read.extensions?.at(-1)?.parsedValue as { altNames: { type: number; value: string }[] };
        assert.deepEqual(
          san.altNames.map(({ type, value }) => [type, value]),
          [[6, request.spiffeId.toString()], ...request.dnsNames.map((name) => [2, name])],
        );
      }),
    );
  });

  it('by OpenSSL, which verifies it too', () => {
    checkProperty(
      fc.property(choices, (chosen) => {
        const { issuer, request, der } = issue(chosen);
        openssl.write('leaf.pem', encodePem('CERTIFICATE', der));
        openssl.write('ca.pem', encodePem('CERTIFICATE', issuer.certificate.der));
        const shown = 'x509 -in leaf.pem -noout -serial -dates -dateopt iso_8601 -subject';
        const lines = openssl
          .run(`${shown} -ext ${OPENSSL_EXTENSIONS.join(',')}`)
          .trim()
          .split('\n');
        const names = [
          `URI:${request.spiffeId.toString()}`,
          ...request.dnsNames.map((name) => `DNS:${name}`),
        ];
        const digits = serialHex(request).toUpperCase();
        assert.deepEqual(
          lines.map((line) => line.trim()),
          [
            `serial=${digits.length % 2 === 0 ? digits : `0${digits}`}`,
            `notBefore=${isoText(request.notBeforeMs)}`,
            `notAfter=${isoText(request.notAfterMs)}`,
            'subject=',
            'X509v3 Key Usage: critical',
            'Digital Signature',
            'X509v3 Extended Key Usage:',
            'TLS Web Server Authentication, TLS Web Client Authentication',
            'X509v3 Basic Constraints: critical',
            'CA:FALSE',
            'X509v3 Authority Key Identifier:',
            withColons(issuer.certificate.subjectKeyId!),
            'X509v3 Subject Key Identifier:',
            withColons(subjectKeyId(request.spki)),
            'X509v3 Subject Alternative Name: critical',
            names.join(', '),
          ],
        );
        // OpenSSL takes notAfter itself for too late, and notBefore itself for in time.
        const time = seconds(request.notBeforeMs) / 1000;
        const verified = `verify -x509_strict -CAfile ca.pem -attime ${time} -purpose sslserver leaf.pem`;
        assert.equal(openssl.run(verified), 'leaf.pem: OK\n');
      }),
      10,
    );
  });
});

const OPENSSL_EXTENSIONS = [
  'keyUsage',
  'extendedKeyUsage',
  'basicConstraints',
  'authorityKeyIdentifier',
  'subjectKeyIdentifier',
  'subjectAltName',
];

function withColons(bytes: Uint8Array): string {
  return toHex(bytes)
    .toUpperCase()
    .replace(/..(?=.)/g, '$&:');
}

function isoText(ms: number): string {
  return new Date(seconds(ms)).toISOString().replace('T', ' ').replace('.000', '');
}
