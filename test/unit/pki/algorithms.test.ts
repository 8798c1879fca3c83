import assert from 'node:assert/strict';
import { createPublicKey, verify } from 'node:crypto';
import { describe, it } from 'node:test';
import {
  algorithmOfKeyType,
  schemeOf,
  schemeOfIdentifier,
  schemeSpec,
  type SignatureScheme,
  signWith,
  type SvidKeyType,
} from '../../../pki/algorithms.ts';
import { newPrivateKey } from '../../support/certificates.ts';
import { hex } from '../../support/hex.ts';

describe('signature schemes', () => {
  const identifiers: readonly { scheme: SignatureScheme; der: string }[] = [
    { scheme: 'ecdsa-sha256', der: '300a06082a8648ce3d040302' },
    { scheme: 'ecdsa-sha384', der: '300a06082a8648ce3d040303' },
    { scheme: 'ecdsa-sha512', der: '300a06082a8648ce3d040304' },
    { scheme: 'ed25519', der: '300506032b6570' },
    { scheme: 'rsa-pkcs1-sha256', der: '300d06092a864886f70d01010b0500' },
    { scheme: 'rsa-pkcs1-sha384', der: '300d06092a864886f70d01010c0500' },
    { scheme: 'rsa-pkcs1-sha512', der: '300d06092a864886f70d01010d0500' },
  ];
  for (const { scheme, der } of identifiers)
    it(`write and read ${scheme} byte for byte`, () => {
      assert.deepEqual(schemeSpec(scheme).algorithmIdentifier, hex(der));
      assert.equal(schemeOfIdentifier(hex(der)), scheme);
    });

  it('of RSA are read without parameters too (RFC 4055 section 5)', () => {
    assert.equal(schemeOfIdentifier(hex('300b06092a864886f70d01010b')), 'rsa-pkcs1-sha256');
  });

  const refused = [
    { name: 'ECDSA with NULL parameters (RFC 5758 section 3.2)', der: '300c06082a8648ce3d0403020500' },
    { name: 'Ed25519 with NULL parameters (RFC 8410 section 3)', der: '300706032b65700500' },
    { name: 'RSA with parameters that are no NULL', der: '300d06092a864886f70d01010b3000' },
    { name: 'ecdsa-with-SHA1', der: '300906072a8648ce3d0401' },
    { name: 'sha1WithRSAEncryption', der: '300d06092a864886f70d0101050500' },
    { name: 'RSASSA-PSS without parameters', der: '300b06092a864886f70d01010a' },
    { name: 'Ed448', der: '300506032b6571' },
    { name: 'nothing', der: '' },
  ];
  for (const { name, der } of refused)
    it(`are not read from ${name}`, () => assert.equal(schemeOfIdentifier(hex(der)), null));
});

describe('signing', () => {
  const keyTypes: readonly { keyType: SvidKeyType; scheme: SignatureScheme }[] = [
    { keyType: 'ec-p256', scheme: 'ecdsa-sha256' },
    { keyType: 'ec-p384', scheme: 'ecdsa-sha384' },
    { keyType: 'ed25519', scheme: 'ed25519' },
    { keyType: 'rsa-2048', scheme: 'rsa-pkcs1-sha256' },
    { keyType: 'rsa-3072', scheme: 'rsa-pkcs1-sha256' },
    { keyType: 'rsa-4096', scheme: 'rsa-pkcs1-sha256' },
  ];
  for (const { keyType, scheme } of keyTypes)
    it(`with ${keyType} is ${scheme}`, () => {
      assert.equal(schemeOf(algorithmOfKeyType(keyType)), scheme);
    });

  for (const keyType of ['ec-p256', 'ec-p384', 'ed25519', 'rsa-2048'] as const)
    it(`with ${keyType} gives what node:crypto verifies`, () => {
      const key = newPrivateKey(keyType);
      const algorithm = algorithmOfKeyType(keyType);
      const data = Buffer.from('to be signed');
      const signature = signWith(algorithm, key, data);
      assert.ok(verify(schemeSpec(schemeOf(algorithm)).digest, data, createPublicKey(key), signature));
    });
});
