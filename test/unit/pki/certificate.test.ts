import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { describe, it } from 'node:test';
import { parseCertificate, parseTbsCertificate } from '../../../pki/certificate.ts';
import { concatBytes } from '../../../pki/bytes.ts';
import {
  derBitString,
  derBoolean,
  derContext,
  derElement,
  derExtension,
  derInteger,
  derNull,
  derOctetString,
  derOid,
  derSequence,
  derSetOf,
  derTime,
  derUtf8String,
} from '../../../pki/der-writer.ts';
import { KedgeError } from '../../../pki/kedge-error.ts';
import { OID } from '../../../pki/oid.ts';
import { makeAnchor, makeIssuer, makeLeaf, newSigner, SVID_ID } from '../../support/certificates.ts';
import { expectCode } from '../../support/expect-code.ts';
import { hex } from '../../support/hex.ts';
import {
  commonName,
  ECDSA_SHA256,
  integerOf,
  P256_SPKI,
  type RawCertificate,
  rawCertificate,
  rawTbs,
} from '../../support/raw-certificate.ts';

const BASIC = derExtension(OID.basicConstraints, true, derSequence());
const SKI = derExtension(OID.subjectKeyIdentifier, false, derOctetString(hex('0102')));
const RSA_SHA1 = derSequence(derOid('1.2.840.113549.1.1.5'), derNull());
const RSA_SHA256 = derSequence(derOid(OID.sha256WithRsaEncryption), derNull());

describe('a certificate', () => {
  it('is read field by field', () => {
    const der = rawCertificate({ extensions: [SKI, BASIC], serialNumber: integerOf('0080') });
    const certificate = parseCertificate(der);
    assert.deepEqual(certificate.serialNumber, hex('0080'));
    assert.equal(certificate.signatureAlgorithm, 'ecdsa-sha256');
    assert.deepEqual(certificate.issuer, commonName('issuer'));
    assert.deepEqual(certificate.subject, commonName('subject'));
    assert.equal(certificate.notBeforeMs, Date.UTC(2026, 0, 1));
    assert.equal(certificate.notAfterMs, Date.UTC(2027, 0, 1));
    assert.deepEqual(certificate.spki, P256_SPKI);
    assert.deepEqual(certificate.signature, hex('3006020101020101'));
    assert.deepEqual(certificate.tbs, rawTbs({ extensions: [SKI, BASIC], serialNumber: integerOf('0080') }));
    assert.equal(certificate.der, der);
    assert.deepEqual(certificate.subjectKeyId, hex('0102'));
    assert.equal(certificate.extensions.length, 2);
    assert.deepEqual(certificate.unknownCriticalExtensions, []);
  });

  const accepted: readonly { name: string; parts: RawCertificate }[] = [
    { name: 'without extensions', parts: { extensions: null } },
    { name: 'with the smallest serial number', parts: { serialNumber: integerOf('01') } },
    { name: 'with a serial number of 20 octets', parts: { serialNumber: integerOf(`7f${'00'.repeat(19)}`) } },
    { name: 'with empty names', parts: { issuer: derSequence(), subject: derSequence() } },
    { name: 'with RSA', parts: { algorithm: RSA_SHA256 } },
    {
      name: 'with RSA and absent parameters',
      parts: { algorithm: derSequence(derOid(OID.sha256WithRsaEncryption)) },
    },
    {
      name: 'with GeneralizedTime before 2050, as some CAs write it',
      parts: {
        validity: derSequence(derTime(0), derElement(0x18, Buffer.from('20270101000000Z'))),
      },
    },
    {
      name: 'with two attributes in one relative name',
      parts: {
        subject: derSequence(
          derSetOf(
            derSequence(derOid(OID.commonName), derElement(0x13, hex('41'))),
            derSequence(derOid(OID.organizationName), derElement(0x0c, hex('41'))),
          ),
        ),
      },
    },
  ];
  for (const { name, parts } of accepted)
    it(`is read ${name}`, () => void parseCertificate(rawCertificate(parts)));

  const refused: readonly { name: string; parts: RawCertificate; message: RegExp }[] = [
    { name: 'version 1', parts: { version: null }, message: /not X\.509 version 3/ },
    {
      name: 'version 1 written out',
      parts: { version: derContext(0, derInteger(0)) },
      message: /not X\.509 version 3/,
    },
    { name: 'version 2', parts: { version: derContext(0, derInteger(1)) }, message: /not X\.509 version 3/ },
    { name: 'version 4', parts: { version: derContext(0, derInteger(3)) }, message: /not X\.509 version 3/ },
    {
      name: 'two versions',
      parts: { version: derContext(0, derInteger(2), derInteger(2)) },
      message: /trailing/,
    },
    { name: 'serial number 0', parts: { serialNumber: integerOf('00') }, message: /not positive/ },
    { name: 'a negative serial number', parts: { serialNumber: integerOf('80') }, message: /not positive/ },
    {
      name: 'a serial number that is not minimal',
      parts: { serialNumber: integerOf('0001') },
      message: /fewest/,
    },
    {
      name: 'a serial number of 21 octets',
      parts: { serialNumber: integerOf(`00ff${'00'.repeat(19)}`) },
      message: /more than 20 octets/,
    },
    {
      name: 'SHA-1',
      parts: { algorithm: RSA_SHA1 },
      message: /1\.2\.840\.113549\.1\.1\.5, or its parameters/,
    },
    {
      name: 'RSASSA-PSS',
      parts: { algorithm: derSequence(derOid('1.2.840.113549.1.1.10'), derSequence()) },
      message: /1\.2\.840\.113549\.1\.1\.10/,
    },
    {
      name: 'ECDSA with NULL parameters',
      parts: { algorithm: derSequence(derOid(OID.ecdsaWithSha256), derNull()) },
      message: /1\.2\.840\.10045\.4\.3\.2, or its parameters/,
    },
    {
      name: 'an algorithm without OID',
      parts: { algorithm: derSequence() },
      message: /no OBJECT IDENTIFIER/,
    },
    {
      name: 'another algorithm outside',
      parts: { outerAlgorithm: RSA_SHA256 },
      message: /inside and outside of the signed part differ/,
    },
    {
      name: 'the same algorithm outside in other parameters',
      parts: { algorithm: RSA_SHA256, outerAlgorithm: derSequence(derOid(OID.sha256WithRsaEncryption)) },
      message: /differ/,
    },
    { name: 'a name that is a SET', parts: { issuer: derSetOf() }, message: /SET where SEQUENCE is due/ },
    {
      name: 'an empty relative name',
      parts: { subject: derSequence(derSetOf()) },
      message: /empty relative name/,
    },
    {
      name: 'an attribute of three',
      parts: {
        subject: derSequence(derSetOf(derSequence(derOid(OID.commonName), derUtf8String('a'), derNull()))),
      },
      message: /trailing/,
    },
    {
      name: 'an attribute without a value',
      parts: { subject: derSequence(derSetOf(derSequence(derOid(OID.commonName)))) },
      message: /no string/,
    },
    {
      name: 'an attribute whose value is not UTF-8',
      parts: {
        subject: derSequence(derSetOf(derSequence(derOid(OID.commonName), derElement(0x0c, hex('ff'))))),
      },
      message: /UTF-8/,
    },
    {
      name: 'attributes out of order',
      parts: {
        subject: derSequence(
          derElement(
            0x31,
            derSequence(derOid(OID.organizationName), derNull()),
            derSequence(derOid(OID.commonName), derNull()),
          ),
        ),
      },
      message: /out of order/,
    },
    { name: 'one time', parts: { validity: derSequence(derTime(0)) }, message: /no UTCTime/ },
    {
      name: 'three times',
      parts: { validity: derSequence(derTime(0), derTime(0), derTime(0)) },
      message: /trailing/,
    },
    {
      name: 'a time that is none',
      parts: { validity: derSequence(derTime(0), derElement(0x17, Buffer.from('261301000000Z'))) },
      message: /a time that is not/,
    },
    {
      name: 'a key without bits',
      parts: { spki: derSequence(derSequence(derOid(OID.ed25519))) },
      message: /no BIT STRING/,
    },
    {
      name: 'a key without algorithm',
      parts: { spki: derSequence(derSequence(), derBitString(hex('00'))) },
      message: /no OBJECT IDENTIFIER/,
    },
    {
      name: 'a key with two parameters',
      parts: {
        spki: derSequence(
          derSequence(derOid(OID.rsaEncryption), derNull(), derNull()),
          derBitString(hex('00')),
        ),
      },
      message: /trailing/,
    },
    {
      name: 'a key with more behind it',
      parts: { spki: derSequence(derSequence(derOid(OID.ed25519)), derBitString(hex('00')), derNull()) },
      message: /trailing/,
    },
    {
      name: 'an issuer unique identifier',
      parts: { uniqueIds: hex('81020000') },
      message: /unique identifiers/,
    },
    {
      name: 'a subject unique identifier',
      parts: { uniqueIds: hex('82020000') },
      message: /unique identifiers/,
    },
    {
      name: 'something unknown before the extensions',
      parts: { uniqueIds: hex('8300') },
      message: /trailing/,
    },
    { name: 'an empty list of extensions', parts: { extensions: [] }, message: /empty list of extensions/ },
    {
      name: 'the same extension twice',
      parts: { extensions: [BASIC, SKI, BASIC] },
      message: /extension 2\.5\.29\.19 comes twice/,
    },
    {
      name: 'an extension that writes critical FALSE',
      parts: { extensions: [derSequence(derOid('1.2.3'), derBoolean(false), derOctetString())] },
      message: /default and should be absent/,
    },
    {
      name: 'an extension without a value',
      parts: { extensions: [derSequence(derOid('1.2.3'))] },
      message: /no OCTET STRING/,
    },
    {
      name: 'an extension that is critical and without a value',
      parts: { extensions: [derSequence(derOid('1.2.3'), derBoolean(true))] },
      message: /no OCTET STRING/,
    },
    {
      name: 'an extension with more behind its value',
      parts: { extensions: [derSequence(derOid('1.2.3'), derOctetString(), derNull())] },
      message: /trailing/,
    },
    {
      name: 'a signature that is no BIT STRING',
      parts: { signature: derOctetString(hex('00')) },
      message: /BIT STRING is due/,
    },
    {
      name: 'a signature that is not whole octets',
      parts: { signature: hex('03020180') },
      message: /not whole octets/,
    },
    { name: 'a fourth element', parts: { extra: derNull() }, message: /trailing/ },
  ];
  for (const { name, parts, message } of refused)
    it(`is refused with ${name}`, () => {
      assert.match(
        expectCode('svid_malformed', () => parseCertificate(rawCertificate(parts))).message,
        message,
      );
    });

  it('is refused with something behind the list of extensions', () => {
    const tbs = rawTbs({ extensions: null });
    const wrapper = derContext(3, derSequence(BASIC), derNull());
    const body = concatBytes(tbs.subarray(3), wrapper);
    const der = derSequence(derElement(0x30, body), ECDSA_SHA256, derBitString(hex('00')));
    assert.match(expectCode('svid_malformed', () => parseCertificate(der)).message, /trailing bytes/);
  });

  it('reports critical extensions that it does not know, in their order', () => {
    const unknown = (oid: string, critical: boolean): Uint8Array => derExtension(oid, critical, hex('0500'));
    const extensions = [unknown('1.2.3', true), BASIC, unknown('2.5.29.32', true), unknown('1.2.4', false)];
    const { unknownCriticalExtensions } = parseCertificate(rawCertificate({ extensions }));
    assert.deepEqual(unknownCriticalExtensions, ['1.2.3', '2.5.29.32']);
  });

  it('is refused with the code that the caller gives', () => {
    expectCode('bundle_malformed', () => parseCertificate(hex('00'), 'bundle_malformed'));
  });

  it('has at most 32 KiB', () => {
    const filler = derExtension('1.2.3', false, derOctetString(new Uint8Array(33_000)));
    const { message } = expectCode('svid_malformed', () =>
      parseCertificate(rawCertificate({ extensions: [filler] })),
    );
    assert.match(message, /longer than 32768 bytes/);
  });

  it('that is not signed yet is read the same, without its wrapping', () => {
    const tbs = rawTbs();
    assert.deepEqual(parseTbsCertificate(tbs, 'lint_failed').issuer, commonName('issuer'));
    expectCode('lint_failed', () => parseTbsCertificate(concatBytes(tbs, hex('00')), 'lint_failed'));
    expectCode('lint_failed', () => parseTbsCertificate(rawCertificate(), 'lint_failed'));
  });
});

describe('a certificate of another maker', () => {
  const anchor = makeAnchor();
  const rsaAnchor = makeAnchor({ signer: newSigner('rsa-2048') });

  it('is read as node:crypto reads it', async () => {
    const ca = await anchor;
    const all = [
      ca.der,
      (await makeIssuer(ca)).der,
      await makeLeaf(ca),
      (await rsaAnchor).der,
      await makeLeaf(await rsaAnchor),
    ];
    for (const der of all) {
      const ours = parseCertificate(der);
      const theirs = new X509Certificate(der);
      assert.equal(
        BigInt(`0x${theirs.serialNumber}`),
        BigInt(`0x${Buffer.from(ours.serialNumber).toString('hex')}`),
      );
      assert.equal(ours.notBeforeMs, theirs.validFromDate.getTime());
      assert.equal(ours.notAfterMs, theirs.validToDate.getTime());
      assert.equal(ours.basicConstraints?.ca, theirs.ca);
      assert.deepEqual(Buffer.from(ours.spki), theirs.publicKey.export({ format: 'der', type: 'spki' }));
      assert.equal(ours.subjectAltName?.uris.map((uri) => `URI:${uri}`).join(', '), theirs.subjectAltName);
    }
    assert.deepEqual(parseCertificate(all[2]!).subjectAltName?.uris, [SVID_ID]);
  });

  it('is refused when it is cut off anywhere, or has a byte more', async () => {
    const der = await makeLeaf(await anchor);
    for (let length = 0; length < der.length; length += 1)
      expectCode('svid_malformed', () => parseCertificate(der.subarray(0, length)));
    expectCode('svid_malformed', () => parseCertificate(concatBytes(der, hex('00'))));
    expectCode('svid_malformed', () => parseCertificate(concatBytes(der, der)));
  });

  it('with any one byte changed is refused with a KedgeError, or taken where OpenSSL takes it too', async () => {
    const der = await makeLeaf(await anchor);
    let taken = 0;
    for (let at = 0; at < der.length; at += 1)
      for (const change of [0x01, 0x02, 0x20, 0x40, 0x80, 0xff]) {
        const changed = Uint8Array.from(der);
        changed[at] = (changed[at] ?? 0) ^ change;
        try {
          parseCertificate(changed);
        } catch (error) {
          assert.ok(error instanceof KedgeError && error.code === 'svid_malformed', String(error));
          continue;
        }
        taken += 1;
        assert.doesNotThrow(() => new X509Certificate(changed), `byte ${at} xor ${change}`);
      }
    assert.ok(taken > 0, 'some changes, such as those of key bits, are not malformed');
  });
});
