import assert from 'node:assert/strict';
import { createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { describe, it } from 'node:test';
import type { SignatureScheme } from '../../../pki/algorithms.ts';
import { derBitString, derNull, derOid, derSequence, derUnsignedInteger } from '../../../pki/der-writer.ts';
import { OID } from '../../../pki/oid.ts';
import { keyTypeOfSpki, publicKeyShape, subjectKeyId, verifySignature } from '../../../pki/public-key.ts';
import { newPrivateKey, spkiOf } from '../../support/certificates.ts';
import { expectCode } from '../../support/expect-code.ts';
import { hex } from '../../support/hex.ts';
import { P256_SPKI } from '../../support/raw-certificate.ts';

const publicSpki = (pair: { publicKey: KeyObject }): Uint8Array =>
  new Uint8Array(pair.publicKey.export({ format: 'der', type: 'spki' }));

/** An RSA key of any modulus and exponent: nobody has its private key. */
function rsaSpki(modulus: Uint8Array, exponent = '010001'): Uint8Array {
  return rsaSpkiOf(derSequence(derUnsignedInteger(modulus), derUnsignedInteger(hex(exponent))));
}

function rsaSpkiOf(
  key: Uint8Array,
  algorithm = derSequence(derOid(OID.rsaEncryption), derNull()),
): Uint8Array {
  return derSequence(algorithm, derBitString(key));
}

/** An odd number of exactly so many bits. */
function oddModulus(bits: number): Uint8Array {
  const modulus = new Uint8Array(Math.ceil(bits / 8)).fill(0x55);
  modulus[0] = 1 << ((bits - 1) % 8);
  return modulus;
}

describe('the type of a public key', () => {
  const known = [
    { name: 'P-256', spki: publicSpki(generateKeyPairSync('ec', { namedCurve: 'P-256' })), want: 'ec-p256' },
    { name: 'P-384', spki: publicSpki(generateKeyPairSync('ec', { namedCurve: 'P-384' })), want: 'ec-p384' },
    { name: 'Ed25519', spki: publicSpki(generateKeyPairSync('ed25519')), want: 'ed25519' },
    { name: 'RSA 2048 as OpenSSL writes it', spki: spkiOf(newPrivateKey('rsa-2048')), want: 'rsa-2048' },
    { name: 'RSA 2048', spki: rsaSpki(oddModulus(2048)), want: 'rsa-2048' },
    { name: 'RSA 2049', spki: rsaSpki(oddModulus(2049)), want: 'rsa-2048' },
    { name: 'RSA 3071', spki: rsaSpki(oddModulus(3071)), want: 'rsa-2048' },
    { name: 'RSA 3072', spki: rsaSpki(oddModulus(3072)), want: 'rsa-3072' },
    { name: 'RSA 4095', spki: rsaSpki(oddModulus(4095)), want: 'rsa-3072' },
    { name: 'RSA 4096', spki: rsaSpki(oddModulus(4096)), want: 'rsa-4096' },
    { name: 'the largest exponent', spki: rsaSpki(oddModulus(2048), '7fffffff'), want: 'rsa-2048' },
  ];
  for (const { name, spki, want } of known)
    it(`of ${name} is ${want}`, () => assert.equal(keyTypeOfSpki(spki), want));

  const compressed = (prefix: string, octets: number): Uint8Array =>
    derSequence(
      derSequence(derOid(OID.ecPublicKey), derOid(OID.secp256r1)),
      derBitString(hex(prefix + '11'.repeat(octets))),
    );
  const refused = [
    { name: 'P-521', spki: publicSpki(generateKeyPairSync('ec', { namedCurve: 'P-521' })), message: /P-521/ },
    {
      name: 'secp256k1',
      spki: publicSpki(generateKeyPairSync('ec', { namedCurve: 'secp256k1' })),
      message: /the curve 1\.3\.132\.0\.10/,
    },
    {
      name: 'Ed448',
      spki: publicSpki(generateKeyPairSync('ed448')),
      message: /the algorithm 1\.3\.101\.113/,
    },
    {
      name: 'X25519',
      spki: publicSpki(generateKeyPairSync('x25519')),
      message: /the algorithm 1\.3\.101\.110/,
    },
    {
      name: 'RSA-PSS',
      spki: publicSpki(generateKeyPairSync('rsa-pss', { modulusLength: 2048 })),
      message: /1\.2\.840\.113549\.1\.1\.10/,
    },
    {
      name: 'curve parameters written out',
      spki: publicSpki(generateKeyPairSync('ec', { namedCurve: 'P-256', paramEncoding: 'explicit' })),
      message: /1\.2\.840\.10045\.2\.1 with unusual parameters/,
    },
    { name: 'a compressed point', spki: compressed('02', 32), message: /compressed or of the wrong length/ },
    { name: 'a hybrid point', spki: compressed('06', 64), message: /not an uncompressed curve point/ },
    { name: 'a point of an odd length', spki: compressed('04', 63), message: /wrong length/ },
    { name: 'the point at infinity', spki: compressed('00', 0), message: /wrong length/ },
    {
      name: 'Ed25519 of 31 octets',
      spki: derSequence(derSequence(derOid(OID.ed25519)), derBitString(new Uint8Array(31))),
      message: /unusual parameters or length/,
    },
    {
      name: 'RSA without its NULL',
      spki: rsaSpkiOf(derSequence(), derSequence(derOid(OID.rsaEncryption))),
      message: /unusual parameters/,
    },
    { name: 'RSA 2047', spki: rsaSpki(oddModulus(2047)), message: /modulus of 2047 bits/ },
    { name: 'RSA 4097', spki: rsaSpki(oddModulus(4097)), message: /modulus of 4097 bits/ },
    { name: 'RSA 8193', spki: rsaSpki(oddModulus(8193)), message: /modulus of 8193 bits/ },
    { name: 'an even modulus', spki: rsaSpki(oddModulus(2048).with(255, 2)), message: /negative or even/ },
    {
      name: 'a negative modulus',
      spki: rsaSpkiOf(hex(`3082010a 02820101 80${'11'.repeat(256)} 0203010001`).subarray(0)),
      message: /negative or even/,
    },
    { name: 'modulus 0', spki: rsaSpki(hex('00')), message: /negative or even/ },
    { name: 'exponent 1', spki: rsaSpki(oddModulus(2048), '01'), message: /exponent/ },
    { name: 'exponent 3', spki: rsaSpki(oddModulus(2048), '03'), message: /exponent/ },
    { name: 'an even exponent', spki: rsaSpki(oddModulus(2048), '010002'), message: /exponent/ },
    { name: 'an exponent beyond 2^31', spki: rsaSpki(oddModulus(2048), '80000001'), message: /exponent/ },
    {
      name: 'a negative exponent',
      spki: rsaSpkiOf(derSequence(derUnsignedInteger(oddModulus(2048)), hex('0204ff010001'))),
      message: /exponent/,
    },
    {
      name: 'a third number in the RSA key',
      spki: rsaSpkiOf(derSequence(derUnsignedInteger(oddModulus(2048)), hex('0203010001'), hex('020101'))),
      message: /trailing bytes/,
    },
    {
      name: 'bytes behind the RSA key',
      spki: rsaSpkiOf(hex('3000 00')),
      message: /the RSA public key is not valid DER/,
    },
    {
      name: 'something behind the key',
      spki: derSequence(
        derSequence(derOid(OID.rsaEncryption), derNull()),
        derBitString(hex('3000')),
        derNull(),
      ),
      message: /trailing bytes/,
    },
    { name: 'bytes behind it all', spki: Buffer.concat([P256_SPKI, hex('00')]), message: /trailing bytes/ },
    { name: 'nothing', spki: hex(''), message: /the public key is not valid DER/ },
  ];
  for (const { name, spki, message } of refused)
    it(`refuses ${name}`, () => {
      assert.match(expectCode('csr_key_type_unsupported', () => keyTypeOfSpki(spki)).message, message);
      expectCode('svid_malformed', () => keyTypeOfSpki(spki, 'svid_malformed'));
    });

  it('of an authority may be P-521 or RSA up to 8192 bits too', () => {
    const p521 = publicSpki(generateKeyPairSync('ec', { namedCurve: 'P-521' }));
    assert.deepEqual(publicKeyShape(p521, 'svid_malformed'), { family: 'ec', bits: 521 });
    assert.deepEqual(publicKeyShape(rsaSpki(oddModulus(8192)), 'svid_malformed'), {
      family: 'rsa',
      bits: 8192,
    });
    assert.deepEqual(publicKeyShape(P256_SPKI, 'svid_malformed'), { family: 'ec', bits: 256 });
  });
});

describe('the subject key identifier', () => {
  it('is the leftmost 160 bits of the SHA-256 of the key bits (RFC 7093 section 2, method 1)', () => {
    const bits = P256_SPKI.subarray(26);
    const want = createHash('sha256').update(bits).digest().subarray(0, 20);
    assert.deepEqual(Buffer.from(subjectKeyId(P256_SPKI)), want);
  });
});

describe('a signature', () => {
  const data = Buffer.from('signed');
  const digests = {
    'ecdsa-sha256': 'sha256',
    'ecdsa-sha384': 'sha384',
    'ecdsa-sha512': 'sha512',
    ed25519: null,
    'rsa-pkcs1-sha256': 'sha256',
    'rsa-pkcs1-sha384': 'sha384',
    'rsa-pkcs1-sha512': 'sha512',
  } as const;
  const keys = {
    ec: [
      newPrivateKey('ec-p256'),
      newPrivateKey('ec-p384'),
      generateKeyPairSync('ec', { namedCurve: 'P-521' }).privateKey,
    ],
    ed: [newPrivateKey('ed25519')],
    rsa: [newPrivateKey('rsa-2048')],
  };
  const pairs: readonly { scheme: SignatureScheme; of: KeyObject[]; others: KeyObject[] }[] = [
    { scheme: 'ecdsa-sha256', of: keys.ec, others: [...keys.ed, ...keys.rsa] },
    { scheme: 'ecdsa-sha384', of: keys.ec, others: [...keys.ed, ...keys.rsa] },
    { scheme: 'ecdsa-sha512', of: keys.ec, others: [...keys.ed, ...keys.rsa] },
    { scheme: 'ed25519', of: keys.ed, others: [...keys.ec, ...keys.rsa] },
    { scheme: 'rsa-pkcs1-sha256', of: keys.rsa, others: [...keys.ec, ...keys.ed] },
    { scheme: 'rsa-pkcs1-sha384', of: keys.rsa, others: [...keys.ec, ...keys.ed] },
    { scheme: 'rsa-pkcs1-sha512', of: keys.rsa, others: [...keys.ec, ...keys.ed] },
  ];
  for (const { scheme, of, others } of pairs) {
    it(`by ${scheme} verifies with its key, and not over other bytes, by another scheme or by another key`, () => {
      for (const key of of) {
        const signature = sign(digests[scheme], data, key);
        assert.ok(verifySignature(scheme, spkiOf(key), data, signature, 'svid_malformed'));
        assert.ok(!verifySignature(scheme, spkiOf(key), Buffer.from('other'), signature, 'svid_malformed'));
        assert.ok(!verifySignature(scheme, P256_SPKI, data, signature, 'svid_malformed'));
        assert.ok(!verifySignature(scheme, spkiOf(key), data, signature.subarray(1), 'svid_malformed'));
        assert.ok(!verifySignature(scheme, spkiOf(key), data, new Uint8Array(0), 'svid_malformed'));
      }
    });
    it(`by ${scheme} is not one of a key of another family, whatever node:crypto would make of it`, () => {
      for (const key of others) {
        const digest = key.asymmetricKeyType === 'ed25519' ? null : (digests[scheme] ?? 'sha256');
        const signature = sign(digest, data, key);
        assert.ok(!verifySignature(scheme, spkiOf(key), data, signature, 'svid_malformed'));
      }
    });
  }

  const unusable = [
    { name: 'a point that is not on its curve', spki: Uint8Array.from(P256_SPKI).with(90, 0xf4) },
    {
      name: 'coordinates beyond the field',
      spki: Uint8Array.from([...P256_SPKI.subarray(0, 27), ...new Uint8Array(64).fill(0xff)]),
    },
    { name: 'the point 0, 0', spki: Uint8Array.from([...P256_SPKI.subarray(0, 27), ...new Uint8Array(64)]) },
    { name: 'a key of no known type', spki: hex('300a 3005 06032b6571 030100') },
  ];
  for (const { name, spki } of unusable)
    it(`with ${name} is a typed refusal`, () => {
      expectCode('csr_malformed', () =>
        verifySignature('ecdsa-sha256', spki, data, hex('3006020101020101'), 'csr_malformed'),
      );
    });
});
