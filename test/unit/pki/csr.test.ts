import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import { describe, it } from 'node:test';
import { concatBytes } from '../../../pki/bytes.ts';
import { checkRequestedId, parseCsr, verifyProofOfPossession } from '../../../pki/csr.ts';
import { buildCsr } from '../../../pki/csr-builder.ts';
import {
  derBitString,
  derBoolean,
  derContextPrimitive,
  derElement,
  derExtension,
  derInteger,
  derNull,
  derOctetString,
  derOid,
  derSequence,
  derSetOf,
  derUtf8String,
  ia5Octets,
} from '../../../pki/der-writer.ts';
import { KedgeError } from '../../../pki/kedge-error.ts';
import { OID } from '../../../pki/oid.ts';
import { SpiffeId } from '../../../pki/spiffe-id.ts';
import { newPrivateKey, spkiOf } from '../../support/certificates.ts';
import { expectCode } from '../../support/expect-code.ts';
import { hex } from '../../support/hex.ts';
import {
  commonName,
  ECDSA_SHA256,
  extensionRequest,
  P256_SPKI,
  type RawCsr,
  rawCsr,
  rawCsrInfo,
} from '../../support/raw-certificate.ts';

const WEB = SpiffeId.parse('spiffe://example.org/ns/default/sa/web');
const uri = (text: string): Uint8Array => derContextPrimitive(6, ia5Octets(text));
const dns = (text: string): Uint8Array => derContextPrimitive(2, ia5Octets(text));
const san = (...names: Uint8Array[]): Uint8Array =>
  derExtension(OID.subjectAltName, false, derSequence(...names));
const challengePassword = derSequence(derOid('1.2.840.113549.1.9.7'), derSetOf(derUtf8String('secret')));

describe('a CSR', () => {
  it('gives its key, its signed part, its signature and the URIs that it asks for', () => {
    const parts = { attributes: [extensionRequest(san(dns('a.b'), uri(WEB.toString()), uri('urn:x')))] };
    const der = rawCsr(parts);
    const csr = parseCsr(der);
    assert.equal(csr.der, der);
    assert.deepEqual(csr.info, rawCsrInfo(parts));
    assert.deepEqual(csr.spki, P256_SPKI);
    assert.equal(csr.keyType, 'ec-p256');
    assert.equal(csr.signatureAlgorithm, 'ecdsa-sha256');
    assert.deepEqual(csr.signature, hex('3006020101020101'));
    assert.deepEqual(csr.uriSans, [WEB.toString(), 'urn:x']);
  });

  const ignored: readonly { name: string; parts: RawCsr }[] = [
    { name: 'no attributes', parts: {} },
    { name: 'a subject', parts: { subject: commonName('anything') } },
    { name: 'other attributes', parts: { attributes: [challengePassword] } },
    {
      name: 'other extensions',
      parts: { attributes: [extensionRequest(derExtension('1.2.3', true, hex('ff')))] },
    },
    {
      name: 'a request to be a CA',
      parts: {
        attributes: [
          extensionRequest(derExtension(OID.basicConstraints, true, derSequence(derBoolean(true)))),
        ],
      },
    },
    { name: 'DNS names', parts: { attributes: [extensionRequest(san(dns('a.b')))] } },
  ];
  for (const { name, parts } of ignored)
    it(`asks for no URI with ${name}, which is ignored`, () => {
      assert.deepEqual(parseCsr(rawCsr(parts)).uriSans, []);
    });

  it('finds its extension request among other attributes', () => {
    const attributes = [challengePassword, extensionRequest(san(uri('urn:x')))].toSorted((a, b) =>
      Buffer.compare(a, b),
    );
    assert.deepEqual(parseCsr(rawCsr({ attributes })).uriSans, ['urn:x']);
  });

  const malformed: readonly { name: string; parts: RawCsr; message: RegExp }[] = [
    { name: 'version 1', parts: { version: derInteger(1) }, message: /version that is not 0/ },
    { name: 'a version that is not minimal', parts: { version: hex('02020000') }, message: /fewest/ },
    { name: 'a subject that is no Name', parts: { subject: derSequence(derNull()) }, message: /SET/ },
    { name: 'no attributes field', parts: { attributes: null }, message: /\[0\]/ },
    {
      name: 'attributes out of order',
      parts: {
        attributes: [challengePassword, extensionRequest(san(uri('urn:x')))].toSorted((a, b) =>
          Buffer.compare(b, a),
        ),
      },
      message: /SET OF out of order/,
    },
    {
      name: 'an attribute without values',
      parts: { attributes: [derSequence(derOid('1.2.3'), derSetOf())] },
      message: /without a value/,
    },
    {
      name: 'an attribute that has no set',
      parts: { attributes: [derSequence(derOid('1.2.3'))] },
      message: /no SET/,
    },
    {
      name: 'an attribute with more behind its values',
      parts: { attributes: [derSequence(derOid('1.2.3'), derSetOf(derNull()), derNull())] },
      message: /trailing/,
    },
    {
      name: 'an ignored attribute that is not DER',
      parts: { attributes: [derSequence(derOid('1.2.3'), derElement(0x31, hex('0500 05')))] },
      message: /cut off/,
    },
    {
      name: 'an ignored attribute whose set is out of order',
      parts: { attributes: [derSequence(derOid('1.2.3'), derElement(0x31, derInteger(2), derInteger(1)))] },
      message: /out of order/,
    },
    {
      name: 'two extension requests',
      parts: { attributes: [extensionRequest(san(uri('urn:x'))), extensionRequest(san(uri('urn:y')))] },
      message: /more than one extension request/,
    },
    {
      name: 'the same extension request twice',
      parts: { attributes: [extensionRequest(san(uri('urn:x'))), extensionRequest(san(uri('urn:x')))] },
      message: /more than one extension request/,
    },
    {
      name: 'an extension request of two values',
      parts: {
        attributes: [
          derSequence(
            derOid(OID.extensionRequest),
            derSetOf(derSequence(san(uri('urn:x'))), derSequence(san(uri('urn:y')))),
          ),
        ],
      },
      message: /more than one value/,
    },
    {
      name: 'an empty extension request',
      parts: { attributes: [extensionRequest()] },
      message: /empty list of extensions/,
    },
    {
      name: 'the same extension twice',
      parts: { attributes: [extensionRequest(san(uri('urn:x')), san(uri('urn:y')))] },
      message: /2\.5\.29\.17 comes twice/,
    },
    {
      name: 'more extensions than any request needs',
      parts: {
        attributes: [
          extensionRequest(
            ...Array.from({ length: 33 }, (_, arc) => derExtension(`1.2.3.${arc}`, false, derNull())),
          ),
        ],
      },
      message: /more than 32 extensions/,
    },
    {
      name: 'a SAN without names',
      parts: { attributes: [extensionRequest(san())] },
      message: /without a name/,
    },
    {
      name: 'a SAN with bytes behind',
      parts: {
        attributes: [
          extensionRequest(
            derExtension(OID.subjectAltName, false, concatBytes(derSequence(uri('a')), hex('00'))),
          ),
        ],
      },
      message: /trailing/,
    },
    {
      name: 'a URI beyond ASCII',
      parts: { attributes: [extensionRequest(san(derContextPrimitive(6, hex('c3a4'))))] },
      message: /IA5String/,
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
    {
      name: 'an algorithm without OID',
      parts: { algorithm: derSequence() },
      message: /no OBJECT IDENTIFIER/,
    },
    { name: 'a key that is no SEQUENCE', parts: { spki: derNull() }, message: /NULL where SEQUENCE/ },
  ];
  for (const { name, parts, message } of malformed)
    it(`is malformed with ${name}`, () => {
      assert.match(expectCode('csr_malformed', () => parseCsr(rawCsr(parts))).message, message);
    });

  it('is malformed with a fifth element in its signed part', () => {
    const { length } = rawCsrInfo();
    const info = derSequence(rawCsrInfo().subarray(2, length), derNull());
    const der = derSequence(info, ECDSA_SHA256, derBitString(hex('00')));
    expectCode('csr_malformed', () => parseCsr(der));
  });

  const algorithms = [
    { name: 'SHA-1', algorithm: derSequence(derOid('1.2.840.10045.4.1')), message: /1\.2\.840\.10045\.4\.1/ },
    {
      name: 'MD5',
      algorithm: derSequence(derOid('1.2.840.113549.1.1.4'), derNull()),
      message: /1\.2\.840\.113549\.1\.1\.4/,
    },
    {
      name: 'unusual parameters',
      algorithm: derSequence(derOid(OID.ecdsaWithSha256), derNull()),
      message: /unusual parameters/,
    },
  ];
  for (const { name, algorithm, message } of algorithms)
    it(`is refused when it is signed with ${name}, naming the algorithm`, () => {
      const error = expectCode('csr_signature_algorithm_unsupported', () => parseCsr(rawCsr({ algorithm })));
      assert.match(error.message, message);
      assert.match(error.hint ?? '', /SHA-256/);
    });

  it('is refused with a key of another type', () => {
    const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-521' });
    const spki = publicKey.export({ format: 'der', type: 'spki' });
    const error = expectCode('csr_key_type_unsupported', () => parseCsr(rawCsr({ spki })));
    assert.match(error.message, /P-521/);
    assert.match(error.hint ?? '', /P-256/);
  });

  it('has at most 16 KiB, whatever is in it', () => {
    const { message } = expectCode('csr_too_large', () => parseCsr(new Uint8Array(16 * 1024 + 1)));
    assert.match(message, /has 16385 bytes, and may have 16384/);
    expectCode('csr_malformed', () => parseCsr(new Uint8Array(16 * 1024)));
    const big = rawCsr({ subject: commonName('x'.repeat(15_000)) });
    assert.equal(parseCsr(big).keyType, 'ec-p256');
  });

  it('is refused when it is cut off anywhere, or has a byte more', () => {
    const der = buildCsr({ privateKey: newPrivateKey(), uriSan: WEB });
    for (let length = 0; length < der.length; length += 1)
      expectCode('csr_malformed', () => parseCsr(der.subarray(0, length)));
    expectCode('csr_malformed', () => parseCsr(concatBytes(der, hex('00'))));
  });

  it('with any one byte changed never verifies, and fails in no other way than a KedgeError', () => {
    const der = buildCsr({ privateKey: newPrivateKey(), uriSan: WEB });
    for (let at = 0; at < der.length; at += 1)
      for (const change of [0x01, 0x80, 0x20, 0xff]) {
        const changed = Uint8Array.from(der);
        changed[at] = (changed[at] ?? 0) ^ change;
        assert.throws(
          () => verifyProofOfPossession(parseCsr(changed)),
          (error) => error instanceof KedgeError && error.spec.status === 'INVALID_ARGUMENT',
          `byte ${at} xor ${change}`,
        );
      }
  });

  it('nested without end is refused', () => {
    let value: Uint8Array = derNull();
    for (let i = 0; i < 2000; i += 1) value = derSequence(value);
    const der = rawCsr({ attributes: [derSequence(derOid('1.2.3'), derSetOf(value))] });
    assert.match(expectCode('csr_malformed', () => parseCsr(der)).message, /nested deeper/);
  });
});

describe('proof of possession', () => {
  for (const keyType of ['ec-p256', 'ec-p384', 'ed25519', 'rsa-2048', 'rsa-3072'] as const)
    it(`holds for a CSR signed with its own ${keyType} key, and not with another of the same type`, () => {
      const privateKey = newPrivateKey(keyType);
      const csr = parseCsr(buildCsr({ privateKey }));
      assert.equal(csr.keyType, keyType);
      verifyProofOfPossession(csr);
      const { message, hint } = expectCode('csr_signature_invalid', () =>
        verifyProofOfPossession({ ...csr, info: rawCsrInfo() }),
      );
      assert.match(message, new RegExp(`not by its own key \\(${keyType}\\)`));
      assert.match(hint ?? '', /private key/);
    });

  it('holds for the other hashes of the family', () => {
    const hashes = [
      { keyType: 'ec-p384', digest: 'sha256', oid: OID.ecdsaWithSha256 },
      { keyType: 'ec-p256', digest: 'sha512', oid: OID.ecdsaWithSha512 },
      { keyType: 'rsa-2048', digest: 'sha384', oid: OID.sha384WithRsaEncryption },
      { keyType: 'rsa-2048', digest: 'sha512', oid: OID.sha512WithRsaEncryption },
    ] as const;
    for (const { keyType, digest, oid } of hashes) {
      const key = newPrivateKey(keyType);
      const parts = {
        spki: spkiOf(key),
        algorithm: keyType === 'rsa-2048' ? derSequence(derOid(oid), derNull()) : derSequence(derOid(oid)),
      };
      const signature = derBitString(sign(digest, rawCsrInfo(parts), key));
      verifyProofOfPossession(parseCsr(rawCsr({ ...parts, signature })));
    }
  });

  it('fails for a scheme of another family than the key', () => {
    const key = newPrivateKey('rsa-2048');
    const parts = { spki: spkiOf(key), algorithm: ECDSA_SHA256 };
    const signature = derBitString(sign('sha256', rawCsrInfo(parts), key));
    expectCode('csr_signature_invalid', () =>
      verifyProofOfPossession(parseCsr(rawCsr({ ...parts, signature }))),
    );
  });

  it('fails for a point that is not on its curve', () => {
    const spki = Uint8Array.from(P256_SPKI).with(90, 0x00);
    const { message } = expectCode('csr_malformed', () =>
      verifyProofOfPossession(parseCsr(rawCsr({ spki }))),
    );
    assert.match(message, /not a point on its curve/);
  });

  it('fails for a signature in another encoding than DER', () => {
    const privateKey = newPrivateKey();
    const spki = spkiOf(privateKey);
    const raw = sign('sha256', rawCsrInfo({ spki }), { key: privateKey, dsaEncoding: 'ieee-p1363' });
    expectCode('csr_signature_invalid', () =>
      verifyProofOfPossession(parseCsr(rawCsr({ spki, signature: derBitString(raw) }))),
    );
  });
});

describe('the SPIFFE ID that a CSR asks for', () => {
  const accepted = [
    { name: 'no URI', uriSans: [] },
    { name: 'the attested ID', uriSans: [WEB.toString()] },
    {
      name: 'the attested ID with its scheme in capitals',
      uriSans: ['SPIFFE://example.org/ns/default/sa/web'],
    },
    { name: 'the attested ID twice', uriSans: [WEB.toString(), WEB.toString()] },
  ];
  for (const { name, uriSans } of accepted) it(`may be ${name}`, () => checkRequestedId({ uriSans }, WEB));

  const refused = [
    { name: 'another workload', uriSans: ['spiffe://example.org/ns/default/sa/db'] },
    { name: 'another trust domain', uriSans: ['spiffe://example.com/ns/default/sa/web'] },
    { name: 'another case', uriSans: ['spiffe://example.org/ns/default/sa/Web'] },
    { name: 'another besides the attested one', uriSans: [WEB.toString(), 'spiffe://example.org/admin'] },
    { name: 'no SPIFFE ID', uriSans: ['https://example.org/'] },
    { name: 'an empty URI', uriSans: [''] },
    { name: 'a NUL behind it', uriSans: [`${WEB.toString()}\u0000`] },
  ];
  for (const { name, uriSans } of refused)
    it(`may not be ${name}; the refusal names both`, () => {
      const { message, spec } = expectCode('csr_spiffe_id_mismatch', () =>
        checkRequestedId({ uriSans }, WEB),
      );
      assert.ok(message.includes(JSON.stringify(uriSans.at(-1))), message);
      assert.ok(message.includes(JSON.stringify(WEB.toString())), message);
      assert.equal(spec.status, 'PERMISSION_DENIED');
    });
});

describe('a CSR of our own', () => {
  it('has an empty subject and no attributes unless an ID is asked for', () => {
    const privateKey = newPrivateKey();
    const spki = createPublicKey(privateKey).export({ format: 'der', type: 'spki' });
    assert.deepEqual(parseCsr(buildCsr({ privateKey })).info, rawCsrInfo({ spki }));
    const asking = parseCsr(buildCsr({ privateKey, uriSan: WEB }));
    const critical = derExtension(OID.subjectAltName, true, derSequence(uri(WEB.toString())));
    assert.deepEqual(asking.info, rawCsrInfo({ spki, attributes: [extensionRequest(critical)] }));
    assert.deepEqual(asking.uriSans, [WEB.toString()]);
  });

  it('is not made for a key that Kedge does not sign', () => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-521' });
    expectCode('key_algorithm_unsupported', () => buildCsr({ privateKey }));
  });
});
