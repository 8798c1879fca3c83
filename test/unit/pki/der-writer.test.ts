import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { DerReader } from '../../../pki/der-reader.ts';
import { TAG } from '../../../pki/der-tag.ts';
import {
  derBitString,
  derBoolean,
  derContext,
  derContextPrimitive,
  derElement,
  derExtension,
  derInteger,
  derNamedBits,
  derNull,
  derOctetString,
  derOid,
  derSequence,
  derSetOf,
  derTime,
  derUnsignedInteger,
  derUtf8String,
  headerOctets,
  ia5Octets,
} from '../../../pki/der-writer.ts';
import { hex } from '../../support/hex.ts';
import { checkProperty } from '../../support/property.ts';

const SUBJECT = { code: 'der_invalid', what: 'what was written' } as const;

describe('written DER', () => {
  const written = [
    { name: 'BOOLEAN true', der: derBoolean(true), want: '01 01 ff' },
    { name: 'BOOLEAN false', der: derBoolean(false), want: '01 01 00' },
    { name: 'INTEGER 0', der: derInteger(0), want: '02 01 00' },
    { name: 'INTEGER 127', der: derInteger(127), want: '02 01 7f' },
    { name: 'INTEGER 128', der: derInteger(128), want: '02 02 00 80' },
    { name: 'INTEGER 2^32', der: derInteger(2 ** 32), want: '02 05 01 00 00 00 00' },
    { name: 'INTEGER of no octets', der: derUnsignedInteger(hex('')), want: '02 01 00' },
    { name: 'INTEGER of zero octets', der: derUnsignedInteger(hex('00 00')), want: '02 01 00' },
    { name: 'INTEGER with leading zeros', der: derUnsignedInteger(hex('00 00 7f')), want: '02 01 7f' },
    { name: 'INTEGER with the sign bit', der: derUnsignedInteger(hex('00 80 01')), want: '02 03 00 80 01' },
    { name: 'NULL', der: derNull(), want: '05 00' },
    { name: 'OBJECT IDENTIFIER', der: derOid('1.3.101.112'), want: '06 03 2b 65 70' },
    { name: 'OCTET STRING', der: derOctetString(hex('01'), hex('02')), want: '04 02 01 02' },
    { name: 'BIT STRING', der: derBitString(hex('80 00')), want: '03 03 00 80 00' },
    { name: 'named bits: none', der: derNamedBits([]), want: '03 01 00' },
    { name: 'named bits: digitalSignature', der: derNamedBits([0]), want: '03 02 07 80' },
    { name: 'named bits: keyCertSign and cRLSign', der: derNamedBits([5, 6]), want: '03 02 01 06' },
    { name: 'named bits: decipherOnly', der: derNamedBits([8, 0]), want: '03 03 07 80 80' },
    { name: 'UTF8String', der: derUtf8String('aä'), want: '0c 03 61 c3 a4' },
    {
      name: 'UTCTime',
      der: derTime(Date.UTC(2049, 11, 31, 23, 59, 59)),
      want: '17 0d 3439313233313233353935395a',
    },
    {
      name: 'GeneralizedTime',
      der: derTime(Date.UTC(2050, 0, 1)),
      want: '18 0f 32303530303130313030303030305a',
    },
    { name: 'SEQUENCE', der: derSequence(derNull(), derBoolean(true)), want: '30 05 05 00 01 01 ff' },
    { name: 'SET OF in order', der: derSetOf(derInteger(2), derInteger(1)), want: '31 06 02 01 01 02 01 02' },
    { name: '[0] EXPLICIT', der: derContext(0, derInteger(2)), want: 'a0 03 02 01 02' },
    { name: '[6] IMPLICIT', der: derContextPrimitive(6, hex('61')), want: '86 01 61' },
    {
      name: 'extension that is critical',
      der: derExtension('2.5.29.19', true, derSequence()),
      want: '30 0c 06 03 55 1d 13 01 01 ff 04 02 30 00',
    },
    {
      name: 'extension that is not critical',
      der: derExtension('2.5.29.19', false, derSequence()),
      want: '30 09 06 03 55 1d 13 04 02 30 00',
    },
  ];
  for (const { name, der, want } of written)
    it(`is exact for ${name}`, () => assert.deepEqual(der, hex(want)));

  const lengths = [
    { length: 0x7f, header: '04 7f' },
    { length: 0x80, header: '04 81 80' },
    { length: 0xff, header: '04 81 ff' },
    { length: 0x100, header: '04 82 01 00' },
    { length: 0xffff, header: '04 82 ff ff' },
    { length: 0x1_0000, header: '04 83 01 00 00' },
  ];
  for (const { length, header } of lengths)
    it(`has the length ${length} in the fewest octets`, () => {
      const der = derElement(TAG.octetString, new Uint8Array(length));
      assert.deepEqual(der.subarray(0, der.length - length), hex(header));
      assert.equal(headerOctets(length), hex(header).length);
    });

  it('comes back from the strict reader', () => {
    const leaf = fc.oneof(
      fc.boolean().map(derBoolean),
      fc.nat(Number.MAX_SAFE_INTEGER).map(derInteger),
      fc.uint8Array({ maxLength: 40 }).map(derUnsignedInteger),
      fc.uint8Array({ maxLength: 300 }).map((bytes) => derOctetString(bytes)),
      fc.uint8Array({ maxLength: 40 }).map(derBitString),
      fc.array(fc.nat(31), { maxLength: 5 }).map(derNamedBits),
      fc
        .string({ unit: 'grapheme' })
        .filter((s) => s.isWellFormed())
        .map(derUtf8String),
      fc.integer({ min: 0, max: 253_402_300_799_999 }).map(derTime),
    );
    const { tree } = fc.letrec<{ tree: Uint8Array }>((tie) => ({
      tree: fc.oneof(
        { maxDepth: 5 },
        leaf,
        fc.array(tie('tree'), { maxLength: 4 }).map((all) => derSequence(...all)),
        fc.array(tie('tree'), { maxLength: 4 }).map((all) => derSetOf(...all)),
        fc
          .tuple(fc.nat(30), fc.array(tie('tree'), { maxLength: 3 }))
          .map(([n, all]) => derContext(n, ...all)),
      ),
    }));
    checkProperty(
      fc.property(tree, (der) => {
        const reader = DerReader.of(der, SUBJECT);
        assert.deepEqual(reader.any(), der);
        reader.end();
      }),
      1000,
    );
  });

  const mistakes = [
    { name: 'a negative INTEGER', write: () => derInteger(-1) },
    { name: 'an INTEGER with a fraction', write: () => derInteger(1.5) },
    { name: 'an INTEGER beyond exact numbers', write: () => derInteger(2 ** 53) },
    { name: 'context tag 31', write: () => derContext(31) },
    { name: 'context tag -1', write: () => derContextPrimitive(-1, hex('')) },
    { name: 'context tag 0.5', write: () => derContext(0.5) },
    { name: 'a lone surrogate', write: () => derUtf8String('\ud800') },
    { name: 'an IA5String beyond ASCII', write: () => ia5Octets('ä') },
    { name: 'a time before 1950', write: () => derTime(Date.UTC(1949, 11, 31)) },
    { name: 'a time after 9999', write: () => derTime(253_402_300_800_000) },
    { name: 'a time that is no number', write: () => derTime(Number.NaN) },
    { name: 'an element of 16 MiB', write: () => headerOctets(0x100_0000) },
  ];
  for (const { name, write } of mistakes)
    it(`takes ${name} for a mistake of the program`, () => {
      assert.throws(write, (error) => error instanceof TypeError || error instanceof RangeError);
    });

  it('gives the octets of ASCII text', () =>
    assert.deepEqual(Uint8Array.from(ia5Octets('a~')), hex('61 7e')));
});
