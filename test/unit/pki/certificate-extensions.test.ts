import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type KnownExtensions, readKnownExtensions } from '../../../pki/certificate-extensions.ts';
import {
  derBoolean,
  derContext,
  derContextPrimitive,
  derElement,
  derInteger,
  derNamedBits,
  derNull,
  derOctetString,
  derOid,
  derSequence,
  ia5Octets,
} from '../../../pki/der-writer.ts';
import { encodeOid, OID } from '../../../pki/oid.ts';
import { expectCode } from '../../support/expect-code.ts';
import { hex } from '../../support/hex.ts';
import { commonName } from '../../support/raw-certificate.ts';

const SUBJECT = { code: 'svid_malformed', what: 'the certificate' } as const;

function read(oid: string, value: Uint8Array, critical = true): KnownExtensions {
  return readKnownExtensions([{ oidContent: encodeOid(oid), critical, value }], SUBJECT);
}

const uri = (text: string): Uint8Array => derContextPrimitive(6, ia5Octets(text));
const dns = (text: string): Uint8Array => derContextPrimitive(2, ia5Octets(text));
const email = (text: string): Uint8Array => derContextPrimitive(1, ia5Octets(text));
const ip = (octets: string): Uint8Array => derContextPrimitive(7, hex(octets));

interface Case {
  readonly name: string;
  readonly oid: string;
  readonly value: Uint8Array;
}

describe('extensions that are right', () => {
  it('read no basic constraints as none, the empty ones as no CA', () => {
    assert.equal(readKnownExtensions([], SUBJECT).basicConstraints, undefined);
    const { basicConstraints } = read(OID.basicConstraints, derSequence(), false);
    assert.deepEqual(basicConstraints, { critical: false, ca: false, pathLength: undefined });
  });

  it('read the path length of a CA', () => {
    const value = derSequence(derBoolean(true), derInteger(3));
    assert.deepEqual(read(OID.basicConstraints, value).basicConstraints, {
      critical: true,
      ca: true,
      pathLength: 3,
    });
    const without = read(OID.basicConstraints, derSequence(derBoolean(true))).basicConstraints;
    assert.deepEqual(without, { critical: true, ca: true, pathLength: undefined });
  });

  it('read every key usage by its name', () => {
    const all = read(OID.keyUsage, derNamedBits([0, 1, 2, 3, 4, 5, 6, 7, 8])).keyUsage;
    assert.deepEqual(all?.usages, [
      'digitalSignature',
      'nonRepudiation',
      'keyEncipherment',
      'dataEncipherment',
      'keyAgreement',
      'keyCertSign',
      'cRLSign',
      'encipherOnly',
      'decipherOnly',
    ]);
    const some = read(OID.keyUsage, derNamedBits([5, 6]), false).keyUsage;
    assert.deepEqual(some, { critical: false, usages: ['keyCertSign', 'cRLSign'] });
  });

  it('read extended key usages as object identifiers', () => {
    const value = derSequence(derOid(OID.serverAuth), derOid('2.5.29.37.0'));
    assert.deepEqual(read(OID.extKeyUsage, value, false).extendedKeyUsage, {
      critical: false,
      purposes: ['1.3.6.1.5.5.7.3.1', '2.5.29.37.0'],
    });
  });

  it('read names of every form in their order', () => {
    const other = derContext(0, derOid('1.2.3'), derContext(0, derNull()));
    const registered = derContextPrimitive(8, encodeOid('1.2.3'));
    const value = derSequence(
      email('a@b'),
      uri('spiffe://td/a'),
      dns('a.b'),
      ip('7f000001'),
      ip('00'.repeat(16)),
      derContext(4, commonName('x')),
      other,
      registered,
      uri('urn:x'),
    );
    assert.deepEqual(read(OID.subjectAltName, value).subjectAltName, {
      critical: true,
      names: [
        { kind: 'email', value: 'a@b' },
        { kind: 'uri', value: 'spiffe://td/a' },
        { kind: 'dns', value: 'a.b' },
        { kind: 'ip', octets: hex('7f000001') },
        { kind: 'ip', octets: new Uint8Array(16) },
        { kind: 'directory', der: commonName('x') },
        { kind: 'other', der: other },
        { kind: 'other', der: registered },
        { kind: 'uri', value: 'urn:x' },
      ],
      uris: ['spiffe://td/a', 'urn:x'],
      dnsNames: ['a.b'],
    });
  });

  it('read a NUL in a name as a character of it', () => {
    const { subjectAltName } = read(OID.subjectAltName, derSequence(uri('spiffe://td/a\u0000b')));
    assert.deepEqual(subjectAltName?.uris, ['spiffe://td/a\u0000b']);
  });

  it('read name constraints of both kinds', () => {
    const permitted = derContext(0, derSequence(uri('td')), derSequence(ip('0a000000ff000000')));
    const excluded = derContext(1, derSequence(dns('bad.example')));
    assert.deepEqual(read(OID.nameConstraints, derSequence(permitted, excluded)).nameConstraints, {
      critical: true,
      permitted: [
        { kind: 'uri', value: 'td' },
        { kind: 'ip', octets: hex('0a000000ff000000') },
      ],
      excluded: [{ kind: 'dns', value: 'bad.example' }],
    });
    assert.deepEqual(read(OID.nameConstraints, derSequence(permitted)).nameConstraints?.excluded, []);
    assert.deepEqual(read(OID.nameConstraints, derSequence(excluded)).nameConstraints?.permitted, []);
  });

  it('read key identifiers', () => {
    assert.deepEqual(read(OID.subjectKeyIdentifier, derOctetString(hex('0102'))).subjectKeyId, hex('0102'));
    const keyId = derContextPrimitive(0, hex('0304'));
    const issuer = derContext(1, derContext(4, commonName('x')));
    const serialNumber = derContextPrimitive(2, hex('05'));
    assert.deepEqual(read(OID.authorityKeyIdentifier, derSequence(keyId)).authorityKeyId, hex('0304'));
    const full = derSequence(keyId, issuer, serialNumber);
    assert.deepEqual(read(OID.authorityKeyIdentifier, full).authorityKeyId, hex('0304'));
    const byName = derSequence(issuer, serialNumber);
    assert.equal(read(OID.authorityKeyIdentifier, byName).authorityKeyId, undefined);
  });

  it('pass over what is unknown and not critical, whatever is in it', () => {
    assert.deepEqual(read('1.2.3.4.5', hex('ff'), false).unknownCriticalExtensions, []);
    assert.deepEqual(read('1.2.3.4.5', hex('ff')).unknownCriticalExtensions, ['1.2.3.4.5']);
    assert.deepEqual(read('2.5.30.19', hex('ff')).unknownCriticalExtensions, ['2.5.30.19']);
  });
});

describe('extensions that are wrong', () => {
  const refused: readonly Case[] = [
    { name: 'basic constraints with bytes behind', oid: OID.basicConstraints, value: hex('300000') },
    {
      name: 'basic constraints that write cA FALSE',
      oid: OID.basicConstraints,
      value: derSequence(derBoolean(false)),
    },
    { name: 'a path length without cA', oid: OID.basicConstraints, value: derSequence(derInteger(0)) },
    {
      name: 'a negative path length',
      oid: OID.basicConstraints,
      value: derSequence(derBoolean(true), hex('0201ff')),
    },
    {
      name: 'basic constraints of three',
      oid: OID.basicConstraints,
      value: derSequence(derBoolean(true), derInteger(0), derNull()),
    },
    { name: 'an empty extension value', oid: OID.basicConstraints, value: hex('') },
    { name: 'a key usage without usages', oid: OID.keyUsage, value: derNamedBits([]) },
    { name: 'a key usage of a tenth bit', oid: OID.keyUsage, value: derNamedBits([0, 9]) },
    { name: 'a key usage with trailing zero bits', oid: OID.keyUsage, value: hex('03020080') },
    { name: 'a key usage with bytes behind', oid: OID.keyUsage, value: hex('0302078000') },
    { name: 'an extended key usage without purposes', oid: OID.extKeyUsage, value: derSequence() },
    { name: 'an extended key usage with bytes behind', oid: OID.extKeyUsage, value: hex('300000') },
    {
      name: 'an extended key usage that is no identifier',
      oid: OID.extKeyUsage,
      value: derSequence(derNull()),
    },
    { name: 'a SAN without names', oid: OID.subjectAltName, value: derSequence() },
    { name: 'a SAN with bytes behind', oid: OID.subjectAltName, value: hex('3003 820161 00') },
    {
      name: 'a URI beyond ASCII',
      oid: OID.subjectAltName,
      value: derSequence(derContextPrimitive(6, hex('e4'))),
    },
    {
      name: 'a DNS name beyond ASCII',
      oid: OID.subjectAltName,
      value: derSequence(derContextPrimitive(2, hex('80'))),
    },
    {
      name: 'a URI under a constructed tag',
      oid: OID.subjectAltName,
      value: derSequence(derContext(6, derNull())),
    },
    { name: 'an IP address of 5 octets', oid: OID.subjectAltName, value: derSequence(ip('0102030405')) },
    {
      name: 'an IP address with a mask',
      oid: OID.subjectAltName,
      value: derSequence(ip('0a000000ff000000')),
    },
    {
      name: 'a directory name that is none',
      oid: OID.subjectAltName,
      value: derSequence(derContext(4, derNull())),
    },
    {
      name: 'a directory name with more behind',
      oid: OID.subjectAltName,
      value: derSequence(derContext(4, commonName('x'), derNull())),
    },
    {
      name: 'a primitive directory name',
      oid: OID.subjectAltName,
      value: derSequence(derContextPrimitive(4, hex(''))),
    },
    {
      name: 'a name of form 9',
      oid: OID.subjectAltName,
      value: derSequence(derContextPrimitive(9, hex(''))),
    },
    {
      name: 'a name that is a UTF8String',
      oid: OID.subjectAltName,
      value: derSequence(derElement(0x0c, hex('61'))),
    },
    {
      name: 'an otherName that is not DER inside',
      oid: OID.subjectAltName,
      value: derSequence(derContext(0, hex('06'))),
    },
    { name: 'name constraints without any', oid: OID.nameConstraints, value: derSequence() },
    {
      name: 'name constraints with an empty list',
      oid: OID.nameConstraints,
      value: derSequence(derContext(0)),
    },
    {
      name: 'name constraints in the wrong order',
      oid: OID.nameConstraints,
      value: derSequence(derContext(1, derSequence(dns('a'))), derContext(0, derSequence(dns('a')))),
    },
    {
      name: 'name constraints with bytes behind',
      oid: OID.nameConstraints,
      value: hex('3007 a005 3003 820161 00'),
    },
    {
      name: 'a subtree with its default minimum',
      oid: OID.nameConstraints,
      value: derSequence(derContext(0, derSequence(dns('a'), derContextPrimitive(0, hex('00'))))),
    },
    {
      name: 'a subtree with a maximum',
      oid: OID.nameConstraints,
      value: derSequence(derContext(0, derSequence(dns('a'), derContextPrimitive(1, hex('01'))))),
    },
    {
      name: 'an IP constraint without a mask',
      oid: OID.nameConstraints,
      value: derSequence(derContext(0, derSequence(ip('0a000000')))),
    },
    { name: 'an empty subject key identifier', oid: OID.subjectKeyIdentifier, value: derOctetString() },
    {
      name: 'a subject key identifier with bytes behind',
      oid: OID.subjectKeyIdentifier,
      value: hex('04010000'),
    },
    {
      name: 'an empty authority key identifier',
      oid: OID.authorityKeyIdentifier,
      value: derSequence(derContextPrimitive(0, hex(''))),
    },
    {
      name: 'an authority issuer without serial number',
      oid: OID.authorityKeyIdentifier,
      value: derSequence(derContext(1, dns('a'))),
    },
    {
      name: 'an authority serial number without issuer',
      oid: OID.authorityKeyIdentifier,
      value: derSequence(derContextPrimitive(2, hex('01'))),
    },
    {
      name: 'an authority issuer without names',
      oid: OID.authorityKeyIdentifier,
      value: derSequence(derContext(1), derContextPrimitive(2, hex('01'))),
    },
    {
      name: 'an authority serial number that is not minimal',
      oid: OID.authorityKeyIdentifier,
      value: derSequence(derContext(1, dns('a')), derContextPrimitive(2, hex('0001'))),
    },
    {
      name: 'an authority key identifier with an unknown field',
      oid: OID.authorityKeyIdentifier,
      value: derSequence(derContextPrimitive(3, hex('01'))),
    },
    {
      name: 'an authority key identifier with bytes behind',
      oid: OID.authorityKeyIdentifier,
      value: hex('300000'),
    },
  ];
  for (const { name, oid, value } of refused)
    it(`are refused: ${name}`, () => void expectCode('svid_malformed', () => read(oid, value)));
});
