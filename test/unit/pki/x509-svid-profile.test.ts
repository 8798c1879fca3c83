import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type SignatureAlgorithm, signWith } from '../../../pki/algorithms.ts';
import { parseCertificate, parseTbsCertificate } from '../../../pki/certificate.ts';
import { SpiffeId } from '../../../pki/spiffe-id.ts';
import { x509 } from '../../../pki/x509-library.ts';
import {
  assembleCertificate,
  buildSvidTbs,
  type SvidRequest,
  svidSerialNumber,
  svidTemplate,
} from '../../../pki/x509-svid-profile.ts';
import { ext, makeAnchor, makeLeaf, newSigner } from '../../support/certificates.ts';
import { expectCode } from '../../support/expect-code.ts';
import {
  GOLDEN_ED25519_SPKI,
  GOLDEN_ISSUER,
  GOLDEN_ISSUER_KEY,
  GOLDEN_SVID,
  GOLDEN_SVID_WITH_DNS_NAMES,
} from '../../support/golden-svid.ts';
import { hex } from '../../support/hex.ts';
import { P256_SPKI, rawCertificate } from '../../support/raw-certificate.ts';

const issuerCertificate = parseCertificate(GOLDEN_ISSUER);
const template = svidTemplate({ issuerCertificate, algorithm: 'ed25519' });
const REQUEST: SvidRequest = {
  spiffeId: SpiffeId.parse('spiffe://example.org/ns/default/sa/web'),
  dnsNames: [],
  spki: P256_SPKI,
  serialNumber: hex('8000000000000000000000000000abcd'),
  notBeforeMs: Date.UTC(2026, 5, 1, 11, 58),
  notAfterMs: Date.UTC(2026, 5, 2, 12),
};

function issue(request: SvidRequest): Uint8Array {
  const tbs = buildSvidTbs(template, request);
  return assembleCertificate(tbs, 'ed25519', signWith('ed25519', GOLDEN_ISSUER_KEY, tbs));
}

describe('an X.509-SVID, byte for byte', () => {
  it('with one URI and UTCTime', () => assert.deepEqual(issue(REQUEST), GOLDEN_SVID));

  it('with DNS names, a small serial number and GeneralizedTime', () => {
    const request = {
      ...REQUEST,
      spki: GOLDEN_ED25519_SPKI,
      serialNumber: hex('0000000000000000000000000000007f'),
      notBeforeMs: Date.UTC(2049, 11, 31, 23, 59, 59, 999),
      notAfterMs: Date.UTC(2050, 0, 1),
      dnsNames: ['web.default.svc', 'a'],
    };
    assert.deepEqual(issue(request), GOLDEN_SVID_WITH_DNS_NAMES);
  });

  it('is of exactly its own length: nothing is left in or behind the buffer', () => {
    const long = SpiffeId.of(REQUEST.spiffeId.trustDomain, `/${'x'.repeat(2000)}`);
    const labels = `${'a'.repeat(63)}.${'b'.repeat(63)}.${'c'.repeat(63)}.${'d'.repeat(61)}`;
    for (const spiffeId of [REQUEST.spiffeId, long])
      for (const dnsNames of [[], ['a'], [labels, labels.slice(64), 'x']]) {
        const tbs = buildSvidTbs(template, { ...REQUEST, spiffeId, dnsNames });
        const found = parseTbsCertificate(tbs, 'lint_failed').subjectAltName;
        assert.deepEqual(found?.uris, [spiffeId.toString()]);
        assert.deepEqual(found.dnsNames, dnsNames);
      }
  });
});

describe('the serial number of an SVID', () => {
  const numbers = [
    { random: '7fffffffffffffffffffffffffffffff', want: '7fffffffffffffffffffffffffffffff' },
    { random: 'ffffffffffffffffffffffffffffffff', want: '00ffffffffffffffffffffffffffffffff' },
    { random: '00800000000000000000000000000000', want: '00800000000000000000000000000000' },
    { random: '00000000000000000000000000000001', want: '01' },
    { random: '00000000000000000000000000000000', want: '01' },
  ];
  for (const { random, want } of numbers)
    it(`is ${want} for the random octets ${random}`, () => {
      assert.deepEqual(svidSerialNumber(hex(random)), hex(want));
      const tbs = buildSvidTbs(template, { ...REQUEST, serialNumber: hex(random) });
      assert.deepEqual(parseTbsCertificate(tbs, 'lint_failed').serialNumber, hex(want));
    });
});

describe('an SVID is not written', () => {
  const refused: readonly { name: string; change: Partial<SvidRequest>; message: RegExp }[] = [
    {
      name: 'for a SPIFFE ID without a path',
      change: { spiffeId: SpiffeId.parse('spiffe://example.org') },
      message: /has no path/,
    },
    {
      name: 'beyond the issuer',
      change: { notAfterMs: issuerCertificate.notAfterMs + 1000 },
      message: /beyond the one of the issuer/,
    },
    {
      name: 'for no time',
      change: { notAfterMs: REQUEST.notBeforeMs },
      message: /notBefore is not an instant before notAfter/,
    },
    {
      name: 'for less than no time',
      change: { notAfterMs: REQUEST.notBeforeMs - 1000 },
      message: /before notAfter/,
    },
    { name: 'from before 1950', change: { notBeforeMs: Date.UTC(1949, 0, 1) }, message: /not an instant/ },
    { name: 'from no time', change: { notBeforeMs: Number.NaN }, message: /not an instant/ },
    { name: 'until no time', change: { notAfterMs: Number.NaN }, message: /not an instant/ },
    {
      name: 'with 15 octets of serial number',
      change: { serialNumber: new Uint8Array(15) },
      message: /not 16 octets/,
    },
    {
      name: 'with a wildcard',
      change: { dnsNames: ['*.example.org'] },
      message: /"\*\.example\.org" is not a DNS name/,
    },
    {
      name: 'with a DNS name beyond ASCII',
      change: { dnsNames: ['a', 'ä'] },
      message: /"\\u00e4" is not a DNS name/,
    },
  ];
  for (const { name, change, message } of refused)
    it(name, () => {
      const error = expectCode('lint_failed', () => buildSvidTbs(template, { ...REQUEST, ...change }));
      assert.match(error.message, message);
      assert.equal(error.spec.exposure, 'internal');
    });

  it('except up to the very notAfter of the issuer', () => {
    const { notAfterMs } = issuerCertificate;
    const tbs = buildSvidTbs(template, { ...REQUEST, notAfterMs });
    assert.equal(parseTbsCertificate(tbs, 'lint_failed').notAfterMs, notAfterMs);
  });
});

describe('an issuer is not usable for SVIDs', () => {
  const unusable = (
    der: Uint8Array,
    message: RegExp,
    algorithm: SignatureAlgorithm = 'ecdsa-p256-sha256',
  ): void => {
    const error = expectCode('authority_unusable', () =>
      svidTemplate({ issuerCertificate: parseCertificate(der), algorithm }),
    );
    assert.match(error.message, message);
  };

  it('when it is a leaf', async () => unusable(await makeLeaf(await makeAnchor()), /not a CA certificate/));
  it('when it has no basic constraints', async () =>
    unusable((await makeAnchor({ extensions: { basicConstraints: null } })).der, /not a CA certificate/));
  it('when it may not sign certificates', async () =>
    unusable(
      (await makeAnchor({ extensions: { keyUsage: ext.keyUsage(x509.KeyUsageFlags.digitalSignature) } })).der,
      /lacks keyCertSign/,
    ));
  it('when it has no key usage', async () =>
    unusable((await makeAnchor({ extensions: { keyUsage: null } })).der, /lacks keyCertSign/));
  it('when it has no name', async () =>
    unusable((await makeAnchor({ subject: '' })).der, /its subject is empty/));
  it('when it has no subject key identifier', async () =>
    unusable((await makeAnchor({ extensions: { subjectKeyId: null } })).der, /no subject key identifier/));
  it('when its key does not sign by the algorithm', () =>
    unusable(GOLDEN_ISSUER, /its key does not sign with ecdsa-p256-sha256/));
  it('when its key is none that Kedge knows', () => {
    const { tbs } = parseCertificate(GOLDEN_ISSUER);
    const x448 = parseCertificate(rawCertificate());
    expectCode('authority_unusable', () =>
      svidTemplate({
        issuerCertificate: { ...parseCertificate(GOLDEN_ISSUER), spki: tbs, extensions: x448.extensions },
        algorithm: 'ed25519',
      }),
    );
  });

  for (const keyType of ['ec-p256', 'ec-p384', 'rsa-2048'] as const)
    it(`except that it is with a key of ${keyType}`, async () => {
      const signer = newSigner(keyType);
      const anchor = parseCertificate((await makeAnchor({ signer })).der);
      const made = svidTemplate({ issuerCertificate: anchor, algorithm: signer.algorithm });
      assert.equal(made.algorithm, signer.algorithm);
    });
});
