import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { decodeOid, encodeOid, isOidContent, OID } from '../../../pki/oid.ts';
import { checkProperty } from '../../support/property.ts';

describe('object identifiers', () => {
  const known = [
    { dotted: '2.5.29.17', hex: '551d11' },
    { dotted: '1.2.840.10045.4.3.2', hex: '2a8648ce3d040302' },
    { dotted: '1.3.101.112', hex: '2b6570' },
    { dotted: '0.0', hex: '00' },
    { dotted: '0.39', hex: '27' },
    { dotted: '1.0', hex: '28' },
    { dotted: '1.39', hex: '4f' },
    { dotted: '2.0', hex: '50' },
    { dotted: '2.999.3', hex: '883703' },
    {
      dotted: '2.25.329800735698586629295641978511506172918',
      hex: '6983f09da7ebcfdee0c7a1a7b2c0948cc8f9d776',
    },
  ];
  for (const { dotted, hex } of known)
    it(`write and read ${dotted}`, () => {
      assert.equal(Buffer.from(encodeOid(dotted)).toString('hex'), hex);
      assert.equal(decodeOid(Buffer.from(hex, 'hex')), dotted);
    });

  it('read a first number beyond 64 bits', () => {
    const content = encodeOid(`2.${2n ** 100n}`);
    assert.equal(decodeOid(content), `2.${2n ** 100n}`);
  });

  const arc = fc.oneof(fc.nat(300), fc.nat(), fc.bigInt({ min: 0n, max: 2n ** 130n }));
  it('come back from their own encoding', () => {
    const first = fc.oneof(
      fc.tuple(fc.constantFrom(0, 1), fc.nat(39)),
      fc.tuple(fc.constant(2), fc.oneof(fc.nat(), fc.bigInt({ min: 0n, max: 2n ** 120n }))),
    );
    checkProperty(
      fc.property(first, fc.array(arc, { maxLength: 6 }), (head, rest) => {
        const dotted = [...head, ...rest].join('.');
        const content = encodeOid(dotted);
        assert.ok(isOidContent(content, 0, content.length));
        assert.equal(decodeOid(content), dotted);
      }),
      500,
    );
  });

  const malformed = [
    { name: 'no octets', hex: '' },
    { name: 'an arc that is cut off', hex: '2a86' },
    { name: 'a first arc with a needless octet', hex: '8055' },
    { name: 'a later arc with a needless octet', hex: '2a8001' },
    { name: 'an arc of more than 19 octets', hex: `2a${'ff'.repeat(19)}7f` },
  ];
  for (const { name, hex } of malformed)
    it(`are refused with ${name}`, () => {
      const content = Buffer.from(hex, 'hex');
      assert.ok(!isOidContent(content, 0, content.length));
    });

  it('are taken with an arc of 19 octets', () => {
    const content = Buffer.from(`2a${'ff'.repeat(18)}7f`, 'hex');
    assert.ok(isOidContent(content, 0, content.length));
  });

  for (const dotted of ['', '1', '1.', '3.1', '1.40', '0.40', '1.2.', '1.2.03', 'a.b', '2.-1'])
    it(`refuse the constant ${JSON.stringify(dotted)} as a mistake of the program`, () => {
      assert.throws(() => encodeOid(dotted), TypeError);
    });

  it('of the table are all object identifiers, and no two the same', () => {
    const all = Object.values(OID).map((dotted) => Buffer.from(encodeOid(dotted)).toString('hex'));
    assert.equal(new Set(all).size, all.length);
  });
});
