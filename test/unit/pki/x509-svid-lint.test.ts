import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { equalBytes } from '../../../pki/bytes.ts';
import { parseCertificate, parseTbsCertificate } from '../../../pki/certificate.ts';
import {
  derBoolean,
  derContextPrimitive,
  derElement,
  derExtension,
  derInteger,
  derNamedBits,
  derNull,
  derOctetString,
  derOid,
  derSequence,
  derTime,
  derUnsignedInteger,
  ia5Octets,
} from '../../../pki/der-writer.ts';
import { KedgeError } from '../../../pki/kedge-error.ts';
import { OID } from '../../../pki/oid.ts';
import { subjectKeyId } from '../../../pki/public-key.ts';
import { SpiffeId } from '../../../pki/spiffe-id.ts';
import { type ExpectedSvid, isExactSvidTbs } from '../../../pki/x509-svid-exact.ts';
import { lintByReading, lintSvidTbs } from '../../../pki/x509-svid-lint.ts';
import { buildSvidTbs, svidTemplate } from '../../../pki/x509-svid-profile.ts';
import { expectCode } from '../../support/expect-code.ts';
import { GOLDEN_ED25519_SPKI, GOLDEN_ISSUER } from '../../support/golden-svid.ts';
import { hex } from '../../support/hex.ts';
import {
  commonName,
  ECDSA_SHA256,
  P256_SPKI,
  type RawCertificate,
  rawTbs,
} from '../../support/raw-certificate.ts';

const issuerCertificate = parseCertificate(GOLDEN_ISSUER);
const WEB = SpiffeId.parse('spiffe://example.org/ns/default/sa/web');
const EXPECTED: ExpectedSvid = {
  issuerCertificate,
  algorithm: 'ed25519',
  spiffeId: WEB,
  dnsNames: ['web.example'],
  spki: P256_SPKI,
  serialNumber: hex('8000000000000000000000000000abcd'),
  notBeforeMs: Date.UTC(2026, 5, 1, 11, 58, 0, 500),
  notAfterMs: Date.UTC(2026, 5, 2, 12, 0, 0, 700),
};

const uri = (text: string): Uint8Array => derContextPrimitive(6, ia5Octets(text));
const dns = (text: string): Uint8Array => derContextPrimitive(2, ia5Octets(text));
const san = (...names: Uint8Array[]): Uint8Array =>
  derExtension(OID.subjectAltName, true, derSequence(...names));
const email = derContextPrimitive(1, ia5Octets('a@b'));

/** The extensions of the profile by name, in its order. */
const EXTENSIONS = {
  keyUsage: derExtension(OID.keyUsage, true, derNamedBits([0])),
  extKeyUsage: derExtension(
    OID.extKeyUsage,
    false,
    derSequence(derOid(OID.serverAuth), derOid(OID.clientAuth)),
  ),
  basicConstraints: derExtension(OID.basicConstraints, true, derSequence()),
  authorityKeyId: derExtension(
    OID.authorityKeyIdentifier,
    false,
    derSequence(derContextPrimitive(0, issuerCertificate.subjectKeyId ?? new Uint8Array(0))),
  ),
  subjectKeyId: derExtension(OID.subjectKeyIdentifier, false, derOctetString(subjectKeyId(P256_SPKI))),
  subjectAltName: san(uri(WEB.toString()), dns('web.example')),
};

const validity = (notBeforeMs: number, notAfterMs: number): Uint8Array =>
  derSequence(derTime(notBeforeMs), derTime(notAfterMs));

/** The right TBSCertificate, with what is wrong put in its place. */
function tbs(
  parts: RawCertificate = {},
  extensions: Partial<Record<keyof typeof EXTENSIONS, Uint8Array>> = {},
): Uint8Array {
  return rawTbs({
    serialNumber: derUnsignedInteger(EXPECTED.serialNumber),
    algorithm: derSequence(derOid(OID.ed25519)),
    issuer: issuerCertificate.subject,
    validity: validity(EXPECTED.notBeforeMs, EXPECTED.notAfterMs),
    subject: derSequence(),
    spki: P256_SPKI,
    extensions: Object.values({ ...EXTENSIONS, ...extensions }),
    ...parts,
  });
}

describe('the lint before signing', () => {
  it('passes what the profile writes, which is what the raw parts make', () => {
    const template = svidTemplate({ issuerCertificate, algorithm: 'ed25519' });
    const built = buildSvidTbs(template, EXPECTED);
    lintSvidTbs(built, EXPECTED);
    assert.ok(equalBytes(built, tbs()));
  });

  it('passes serial numbers whatever their leading zeros, a drawn zero as one', () => {
    for (const drawn of [
      '000000000000000000000000000000ff',
      '00000000000000000000000000000000',
      '7fffffffffffffffffffffffffffffff',
    ]) {
      const expected = { ...EXPECTED, serialNumber: hex(drawn) };
      lintSvidTbs(
        buildSvidTbs(svidTemplate({ issuerCertificate, algorithm: 'ed25519' }), expected),
        expected,
      );
    }
  });

  it('passes octet by octet what it passes when it reads, and nothing else', () => {
    const right = tbs();
    lintByReading(right, EXPECTED);
    assert.ok(isExactSvidTbs(right, EXPECTED));
    for (const [offset, octet] of right.entries()) {
      for (const other of [octet ^ 0x01, octet ^ 0x80, 0x00, 0xff]) {
        if (other === octet) continue;
        const wrong = right.with(offset, other);
        assert.ok(!isExactSvidTbs(wrong, EXPECTED), `octet ${offset} as ${other}`);
        assert.throws(() => lintByReading(wrong, EXPECTED), KedgeError);
      }
    }
    for (const wrong of [right.subarray(0, -1), Uint8Array.of(...right, 0), new Uint8Array(0)]) {
      assert.ok(!isExactSvidTbs(wrong, EXPECTED));
    }
  });

  it('reads what has another length around an unusually long key identifier', () => {
    const longKeyId = { ...issuerCertificate, subjectKeyId: new Uint8Array(120).fill(7) };
    const template = svidTemplate({ issuerCertificate: longKeyId, algorithm: 'ed25519' });
    const expected = { ...EXPECTED, issuerCertificate: longKeyId };
    const built = buildSvidTbs(template, expected);
    assert.ok(!isExactSvidTbs(built, expected));
    lintSvidTbs(built, expected);
  });

  const broken: readonly {
    name: string;
    tbs: Uint8Array;
    message: RegExp;
    expected?: Partial<ExpectedSvid>;
  }[] = [
    { name: 'bytes that are no DER', tbs: hex('3003 0201'), message: /not valid DER/ },
    {
      name: 'another public key',
      tbs: tbs({ spki: GOLDEN_ED25519_SPKI }),
      message: /public key is not the one of the CSR/,
    },
    {
      name: 'a public key that no SVID may hold',
      tbs: tbs({ spki: derSequence(derSequence(derOid('1.3.101.113')), hex('03020000')) }),
      message: /1\.3\.101\.113/,
    },
    { name: 'another serial number', tbs: tbs({ serialNumber: derInteger(5) }), message: /serial number/ },
    {
      name: 'a serial number of 2 for a drawn zero',
      tbs: tbs({ serialNumber: derInteger(2) }),
      expected: { serialNumber: new Uint8Array(16) },
      message: /serial number/,
    },
    {
      name: 'another signature algorithm',
      tbs: tbs({ algorithm: ECDSA_SHA256 }),
      message: /signature algorithm/,
    },
    { name: 'another issuer', tbs: tbs({ issuer: commonName('other') }), message: /issuer Name/ },
    { name: 'a subject', tbs: tbs({ subject: commonName('web') }), message: /subject is not empty/ },
    {
      name: 'another notBefore',
      tbs: tbs({ validity: validity(EXPECTED.notBeforeMs - 1000, EXPECTED.notAfterMs) }),
      message: /notBefore is not as decided/,
    },
    {
      name: 'another notAfter',
      tbs: tbs({ validity: validity(EXPECTED.notBeforeMs, EXPECTED.notAfterMs + 1000) }),
      message: /notAfter is not as decided/,
    },
    {
      name: 'a notAfter beyond the issuer, though decided so',
      tbs: tbs({ validity: validity(EXPECTED.notBeforeMs, issuerCertificate.notAfterMs + 1000) }),
      expected: { notAfterMs: issuerCertificate.notAfterMs + 1000 },
      message: /beyond the one of the issuer/,
    },
    {
      name: 'an empty validity, though decided so',
      tbs: tbs({ validity: validity(EXPECTED.notBeforeMs, EXPECTED.notBeforeMs) }),
      expected: { notAfterMs: EXPECTED.notBeforeMs },
      message: /notBefore is not before notAfter/,
    },
    {
      name: 'a time in the wrong form',
      tbs: tbs({
        validity: derSequence(derElement(0x18, Buffer.from('20260601115800Z')), derTime(EXPECTED.notAfterMs)),
      }),
      message: /GeneralizedTime before 2050/,
    },
    { name: 'no extensions', tbs: tbs({ extensions: null }), message: /exactly the extensions/ },
    {
      name: 'an extension too few',
      tbs: tbs({ extensions: Object.values(EXTENSIONS).slice(1) }),
      message: /exactly the extensions/,
    },
    {
      name: 'an extension too many',
      tbs: tbs({ extensions: [...Object.values(EXTENSIONS), derExtension('1.2.3', false, derNull())] }),
      message: /exactly the extensions/,
    },
    {
      name: 'another extension in place of one',
      tbs: tbs({}, { extKeyUsage: derExtension('1.2.3', false, derNull()) }),
      message: /extension 2 /,
    },
    {
      name: 'extensions in another order',
      tbs: tbs({ extensions: Object.values(EXTENSIONS).toReversed() }),
      message: /extension 1 /,
    },
    {
      name: 'a key usage that is not critical',
      tbs: tbs({}, { keyUsage: derExtension(OID.keyUsage, false, derNamedBits([0])) }),
      message: /extension 1 .*criticality/,
    },
    {
      name: 'a SAN that is not critical',
      tbs: tbs(
        {},
        {
          subjectAltName: derExtension(
            OID.subjectAltName,
            false,
            derSequence(uri(WEB.toString()), dns('web.example')),
          ),
        },
      ),
      message: /extension 6 .*criticality/,
    },
    {
      name: 'a key usage that signs certificates',
      tbs: tbs({}, { keyUsage: derExtension(OID.keyUsage, true, derNamedBits([0, 5])) }),
      message: /key usage is not digitalSignature alone/,
    },
    {
      name: 'an extended key usage less',
      tbs: tbs(
        {},
        { extKeyUsage: derExtension(OID.extKeyUsage, false, derSequence(derOid(OID.serverAuth))) },
      ),
      message: /extended key usage/,
    },
    {
      name: 'an extended key usage more',
      tbs: tbs(
        {},
        {
          extKeyUsage: derExtension(
            OID.extKeyUsage,
            false,
            derSequence(derOid(OID.serverAuth), derOid(OID.clientAuth), derOid('2.5.29.37.0')),
          ),
        },
      ),
      message: /extended key usage/,
    },
    {
      name: 'a CA',
      tbs: tbs(
        {},
        { basicConstraints: derExtension(OID.basicConstraints, true, derSequence(derBoolean(true))) },
      ),
      message: /basic constraints/,
    },
    {
      name: 'another subject key identifier',
      tbs: tbs(
        {},
        { subjectKeyId: derExtension(OID.subjectKeyIdentifier, false, derOctetString(new Uint8Array(20))) },
      ),
      message: /subject key identifier/,
    },
    {
      name: 'another authority key identifier',
      tbs: tbs(
        {},
        {
          authorityKeyId: derExtension(
            OID.authorityKeyIdentifier,
            false,
            derSequence(derContextPrimitive(0, new Uint8Array(20))),
          ),
        },
      ),
      message: /authority key identifier/,
    },
    {
      name: 'an authority by name and number',
      tbs: tbs(
        {},
        {
          authorityKeyId: derExtension(
            OID.authorityKeyIdentifier,
            false,
            derSequence(derElement(0xa1, dns('a')), derContextPrimitive(2, hex('01'))),
          ),
        },
      ),
      message: /authority key identifier/,
    },
    {
      name: 'another SPIFFE ID',
      tbs: tbs({}, { subjectAltName: san(uri('spiffe://example.org/admin'), dns('web.example')) }),
      message: /one URI SAN is not "spiffe:\/\/example\.org\/ns/,
    },
    {
      name: 'a second URI',
      tbs: tbs(
        {},
        { subjectAltName: san(uri(WEB.toString()), uri('spiffe://example.org/admin'), dns('web.example')) },
      ),
      message: /one URI SAN/,
    },
    { name: 'no URI', tbs: tbs({}, { subjectAltName: san(dns('web.example')) }), message: /one URI SAN/ },
    {
      name: 'a SPIFFE ID without a path, though attested so',
      tbs: tbs({}, { subjectAltName: san(uri('spiffe://example.org'), dns('web.example')) }),
      expected: { spiffeId: SpiffeId.parse('spiffe://example.org') },
      message: /no path/,
    },
    {
      name: 'another DNS name',
      tbs: tbs({}, { subjectAltName: san(uri(WEB.toString()), dns('db.example')) }),
      message: /DNS SANs/,
    },
    {
      name: 'a DNS name less',
      tbs: tbs({}, { subjectAltName: san(uri(WEB.toString())) }),
      message: /DNS SANs/,
    },
    {
      name: 'a DNS name more',
      tbs: tbs({}, { subjectAltName: san(uri(WEB.toString()), dns('web.example'), dns('x')) }),
      message: /DNS SANs/,
    },
    {
      name: 'a name of another form',
      tbs: tbs({}, { subjectAltName: san(uri(WEB.toString()), dns('web.example'), email) }),
      message: /other names, or another order/,
    },
    {
      name: 'the DNS name first',
      tbs: tbs({}, { subjectAltName: san(dns('web.example'), uri(WEB.toString())) }),
      message: /other names, or another order/,
    },
  ];
  for (const { name, tbs: bytes, message, expected } of broken)
    it(`refuses ${name}`, () => {
      const error = expectCode('lint_failed', () => lintSvidTbs(bytes, { ...EXPECTED, ...expected }));
      assert.match(error.message, message);
      assert.equal(error.spec.exposure, 'internal');
    });

  it('refuses an issuer that has no subject key identifier to point to', () => {
    const nameless = { ...issuerCertificate, subjectKeyId: undefined };
    expectCode('lint_failed', () => lintSvidTbs(tbs(), { ...EXPECTED, issuerCertificate: nameless }));
  });

  it('refuses the right bytes with any one of them changed, cut off anywhere, or with one more', () => {
    const right = tbs();
    lintSvidTbs(right, EXPECTED);
    const refuses = (bytes: Uint8Array, what: string): void =>
      assert.throws(
        () => lintSvidTbs(bytes, EXPECTED),
        (error) => error instanceof KedgeError && error.code === 'lint_failed',
        what,
      );
    for (let at = 0; at < right.length; at += 1) {
      refuses(right.subarray(0, at), `cut at ${at}`);
      for (const change of [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff]) {
        const changed = Uint8Array.from(right);
        changed[at] = (changed[at] ?? 0) ^ change;
        refuses(changed, `byte ${at} xor ${change}`);
      }
    }
    refuses(Uint8Array.from([...right, 0]), 'one byte more');
  });

  it('reads the same fields from the bytes as any reader of ours', () => {
    assert.equal(parseTbsCertificate(tbs(), 'lint_failed').notAfterMs, Date.UTC(2026, 5, 2, 12));
  });
});
