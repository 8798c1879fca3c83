import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { DerReader } from '../../../pki/der-reader.ts';
import { TAG, tagName } from '../../../pki/der-tag.ts';
import { derElement, derSequence } from '../../../pki/der-writer.ts';
import { KedgeError } from '../../../pki/kedge-error.ts';
import { LIMITS } from '../../../pki/limits.ts';
import { expectCode } from '../../support/expect-code.ts';
import { hex } from '../../support/hex.ts';
import { checkProperty } from '../../support/property.ts';

const SUBJECT = { code: 'der_invalid', what: 'the input' } as const;
const reader = (text: string): DerReader => DerReader.of(hex(text), SUBJECT);
const ascii = (text: string): string => Buffer.from(text, 'latin1').toString('hex');

/** Reads one element of any kind and everything inside, and nothing after it. */
function walk(bytes: Uint8Array): void {
  const input = DerReader.of(bytes, SUBJECT);
  input.any();
  input.end();
}

describe('strict DER, whatever the element', () => {
  const accepted = [
    { name: 'BOOLEAN true', der: '01 01 ff' },
    { name: 'BOOLEAN false', der: '01 01 00' },
    { name: 'INTEGER 0', der: '02 01 00' },
    { name: 'INTEGER 128', der: '02 02 00 80' },
    { name: 'INTEGER -129', der: '02 02 ff 7f' },
    { name: 'ENUMERATED', der: '0a 01 01' },
    { name: 'empty BIT STRING', der: '03 01 00' },
    { name: 'BIT STRING of 7 bits', der: '03 02 01 fe' },
    { name: 'OCTET STRING', der: '04 02 30 ff' },
    { name: 'NULL', der: '05 00' },
    { name: 'OBJECT IDENTIFIER', der: '06 03 55 1d 11' },
    { name: 'UTF8String in ASCII', der: '0c 01 41' },
    { name: 'UTF8String beyond ASCII', der: '0c 03 41 c3 a4' },
    { name: 'empty UTF8String', der: '0c 00' },
    { name: 'NumericString', der: `12 03 ${ascii('1 2')}` },
    { name: 'PrintableString', der: `13 0d ${ascii("aZ0 '()+,-./:").slice(0, 26)}` },
    { name: 'PrintableString of the last signs', der: `13 02 ${ascii('=?')}` },
    { name: 'TeletexString of any octets', der: '14 02 e4 00' },
    { name: 'IA5String', der: '16 02 00 7f' },
    { name: 'VisibleString', der: '1a 02 20 7e' },
    { name: 'UniversalString', der: '1c 04 00 01 f6 00' },
    { name: 'BMPString', der: '1e 02 00 e4' },
    { name: 'UTCTime', der: `17 0d ${ascii('260102030405Z')}` },
    { name: 'GeneralizedTime', der: `18 0f ${ascii('20510102030405Z')}` },
    { name: 'empty SEQUENCE', der: '30 00' },
    { name: 'SET OF in order', der: '31 06 02 01 01 02 01 02' },
    { name: 'SET OF with two equal elements', der: '31 06 02 01 01 02 01 01' },
    { name: 'SET OF whose shorter element is smaller', der: '31 07 04 01 ff 04 02 00 00' },
    { name: 'constructed context tag', der: 'a0 03 02 01 01' },
    { name: 'primitive context tag of any octets', der: '80 02 02 05' },
    { name: 'length of 128 octets', der: `04 81 80 ${'00'.repeat(128)}` },
    { name: 'length of 256 octets', der: `04 82 01 00 ${'00'.repeat(256)}` },
    { name: 'length of 65536 octets', der: `04 83 01 00 00 ${'00'.repeat(65_536)}` },
  ];
  for (const { name, der } of accepted) it(`takes ${name}`, () => walk(hex(der)));

  const refused = [
    { name: 'nothing', der: '', message: /cut off at offset 0/ },
    { name: 'a tag alone', der: '30', message: /cut off/ },
    { name: 'content that is cut off', der: '04 02 00', message: /cut off/ },
    { name: 'a length that is cut off', der: '04 82 01', message: /cut off/ },
    { name: 'trailing bytes', der: '05 00 00', message: /trailing bytes at offset 2/ },
    { name: 'an indefinite length', der: '30 80 05 00 00 00', message: /indefinite length/ },
    { name: 'a long form for a short length', der: '04 81 01 00', message: /fewest octets/ },
    { name: 'a long form for 127', der: `04 81 7f ${'00'.repeat(127)}`, message: /fewest octets/ },
    {
      name: 'a length with a leading zero',
      der: `04 82 00 80 ${'00'.repeat(128)}`,
      message: /fewest octets/,
    },
    { name: 'a length of 3 octets with a leading zero', der: '04 83 00 ff ff', message: /fewest octets/ },
    { name: 'a length of 4 octets', der: '04 84 01 00 00 00', message: /beyond any input/ },
    { name: 'the reserved length octet', der: '04 ff', message: /beyond any input/ },
    { name: 'a high tag number', der: '1f 1f 00', message: /tag number above 30/ },
    { name: 'a high context tag number', der: 'bf 8f 01 00', message: /tag number above 30/ },
    { name: 'end-of-contents', der: '00 00', message: /DER or X\.509 does not have/ },
    { name: 'REAL', der: '09 00', message: /DER or X\.509 does not have/ },
    { name: 'RELATIVE-OID', der: '0d 01 01', message: /DER or X\.509 does not have/ },
    { name: 'a constructed OCTET STRING', der: '24 03 04 01 00', message: /DER or X\.509 does not have/ },
    { name: 'a constructed BIT STRING', der: '23 04 03 02 00 ff', message: /DER or X\.509 does not have/ },
    { name: 'a constructed INTEGER', der: '22 03 02 01 01', message: /DER or X\.509 does not have/ },
    { name: 'a primitive SEQUENCE', der: '10 00', message: /DER or X\.509 does not have/ },
    { name: 'a primitive SET', der: '11 00', message: /DER or X\.509 does not have/ },
    { name: 'BOOLEAN 1', der: '01 01 01', message: /BOOLEAN/ },
    { name: 'an empty BOOLEAN', der: '01 00', message: /BOOLEAN/ },
    { name: 'a BOOLEAN of two octets', der: '01 02 ff ff', message: /BOOLEAN/ },
    { name: 'an empty INTEGER', der: '02 00', message: /INTEGER without octets/ },
    { name: 'an INTEGER with a needless zero', der: '02 02 00 7f', message: /INTEGER.*fewest/ },
    { name: 'an INTEGER with a needless ff', der: '02 02 ff 80', message: /INTEGER.*fewest/ },
    { name: 'a BIT STRING without octets', der: '03 00', message: /BIT STRING without/ },
    { name: 'a BIT STRING with 8 unused bits', der: '03 02 08 00', message: /unused bits/ },
    { name: 'an empty BIT STRING with unused bits', der: '03 01 01', message: /unused bits/ },
    { name: 'a BIT STRING with unused bits set', der: '03 02 01 ff', message: /unused bits are not zero/ },
    { name: 'a NULL with content', der: '05 01 00', message: /NULL/ },
    { name: 'an empty OBJECT IDENTIFIER', der: '06 00', message: /OBJECT IDENTIFIER/ },
    { name: 'an arc with a needless octet', der: '06 03 55 80 01', message: /OBJECT IDENTIFIER/ },
    { name: 'an arc that is cut off', der: '06 02 55 80', message: /OBJECT IDENTIFIER/ },
    { name: 'UTF-8 that is overlong', der: '0c 02 c0 80', message: /not UTF-8/ },
    { name: 'UTF-8 of a surrogate', der: '0c 03 ed a0 80', message: /not UTF-8/ },
    { name: 'UTF-8 that is cut off', der: '0c 01 c3', message: /not UTF-8/ },
    { name: 'a letter in a NumericString', der: '12 01 41', message: /NumericString/ },
    { name: 'an at sign in a PrintableString', der: '13 01 40', message: /PrintableString/ },
    { name: 'an octet above 127 in an IA5String', der: '16 01 80', message: /IA5String/ },
    { name: 'a control character in a VisibleString', der: '1a 01 1f', message: /VisibleString/ },
    { name: 'DEL in a VisibleString', der: '1a 01 7f', message: /VisibleString/ },
    { name: 'a UniversalString that ends inside a character', der: '1c 03 00 00 41', message: /ends inside/ },
    { name: 'a UniversalString beyond Unicode', der: '1c 04 00 11 00 00', message: /not a character/ },
    { name: 'a BMPString of an odd length', der: '1e 01 00', message: /ends inside/ },
    { name: 'a BMPString with a surrogate', der: '1e 02 d8 00', message: /not a character/ },
    { name: 'a UTCTime without seconds', der: `17 0b ${ascii('2601020304Z')}`, message: /UTCTime/ },
    {
      name: 'a GeneralizedTime with a fraction',
      der: `18 11 ${ascii('20510102030405.5Z')}`,
      message: /GeneralizedTime/,
    },
    { name: 'a SET OF out of order', der: '31 06 02 01 02 02 01 01', message: /SET OF out of order/ },
    { name: 'garbage inside a context tag', der: 'a0 01 02', message: /cut off at offset 2/ },
    {
      name: 'an element that ends behind its parent',
      der: '30 03 04 02 00 00',
      message: /cut off at offset 2/,
    },
  ];
  for (const { name, der, message } of refused)
    it(`refuses ${name}`, () => {
      assert.match(expectCode('der_invalid', () => walk(hex(der))).message, message);
    });

  it('nests as deep as the limit, and no deeper', () => {
    const nested = (depth: number): Uint8Array => {
      let der = new Uint8Array(0) as Uint8Array;
      for (let i = 0; i < depth; i += 1) der = derElement(TAG.sequence, der);
      return der;
    };
    walk(nested(LIMITS.derDepth + 1));
    const error = expectCode('der_invalid', () => walk(nested(LIMITS.derDepth + 2)));
    assert.match(error.message, /nested deeper than 16/);
    expectCode('der_invalid', () => walk(nested(4000)));
  });

  it('says what the input should have been, where the fault is, and what to do', () => {
    const { message, hint } = expectCode('csr_malformed', () =>
      DerReader.of(hex('30 03 02 01'), { code: 'csr_malformed', what: 'the CSR' }).enter(TAG.sequence),
    );
    assert.equal(message, 'the CSR is not valid DER: an element that is cut off at offset 0');
    assert.equal(hint, 'give the CSR as it came from its maker, whole and in DER');
  });

  it('refuses any bytes with a KedgeError or takes them, and nothing else', () => {
    checkProperty(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        try {
          walk(bytes);
        } catch (error) {
          assert.ok(error instanceof KedgeError);
        }
      }),
      3000,
    );
  });
});

describe('a DER reader', () => {
  it('goes through elements in their order', () => {
    const input = reader('30 0b 02 01 07 01 01 ff 06 03 2b 65 70');
    const sequence = input.enter(TAG.sequence);
    input.end();
    assert.ok(sequence.is(TAG.integer));
    assert.ok(!sequence.is(TAG.boolean));
    assert.deepEqual(sequence.integer(), hex('07'));
    assert.equal(sequence.boolean(), true);
    assert.equal(sequence.oid(), '1.3.101.112');
    assert.ok(sequence.atEnd);
    assert.ok(!sequence.is(TAG.integer));
    sequence.end();
  });

  it('gives views of the input and copies nothing', () => {
    const bytes = hex('04 02 01 02');
    const content = DerReader.of(bytes, SUBJECT).content(TAG.octetString);
    assert.equal(content.buffer, bytes.buffer);
    assert.equal(content.byteOffset, bytes.byteOffset + 2);
  });

  it('reads a view in the middle of a larger buffer', () => {
    const bytes = hex('ff ff 02 01 05 ff').subarray(2, 5);
    const input = DerReader.of(bytes, SUBJECT);
    assert.equal(input.smallInteger(), 5);
    input.end();
  });

  it('names what it found and what was due', () => {
    const wrong = expectCode('der_invalid', () => reader('04 00').integer());
    assert.match(wrong.message, /OCTET STRING where INTEGER is due at offset 0/);
    const missing = expectCode('der_invalid', () => reader('').enter(TAG.sequence));
    assert.match(missing.message, /no SEQUENCE where one is due at offset 0/);
    const unknown = expectCode('der_invalid', () => reader('c1 00').whole(0xa3));
    assert.match(unknown.message, /tag 0xc1 where \[3\] is due/);
    assert.equal(tagName(0x09), 'tag 0x09');
  });

  it('enters an optional element only when it is there', () => {
    assert.equal(reader('05 00').enterOptional(0xa0), null);
    assert.equal(reader('').enterOptional(0xa0), null);
    assert.equal(reader('a0 03 02 01 04').enterOptional(0xa0)?.smallInteger(), 4);
  });

  it('refuses to enter deeper than the limit', () => {
    let der: Uint8Array = hex('05 00');
    for (let i = 0; i <= LIMITS.derDepth; i += 1) der = derSequence(der);
    const dive = (): void => {
      let at = DerReader.of(der, SUBJECT);
      while (at.is(TAG.sequence)) at = at.enter(TAG.sequence);
    };
    assert.match(expectCode('der_invalid', dive).message, /nested deeper/);
  });

  it('gives an element whole, with all inside checked', () => {
    assert.deepEqual(reader('30 03 02 01 01').whole(TAG.sequence), hex('30 03 02 01 01'));
    expectCode('der_invalid', () => reader('30 03 02 02 01').whole(TAG.sequence));
    const checked = reader('31 03 02 01 01').wholeAndInside(TAG.set);
    assert.equal(checked.smallInteger(), 1);
    expectCode('der_invalid', () => reader('31 06 02 01 02 02 01 01').wholeAndInside(TAG.set));
  });

  it('opens an element whose inside the caller checks', () => {
    const { der, inside } = reader('30 03 02 01 01').open(TAG.sequence);
    assert.deepEqual(der, hex('30 03 02 01 01'));
    assert.equal(inside.smallInteger(), 1);
    inside.end();
  });

  it('refuses what breaks a rule of the structure with the same code', () => {
    const { message } = expectCode('der_invalid', () => reader('05 00').refuse('two keys'));
    assert.equal(message, 'the input is malformed: two keys');
  });

  const smallIntegers = [
    { der: '02 01 00', want: 0 },
    { der: '02 01 7f', want: 127 },
    { der: '02 02 00 80', want: 128 },
    { der: '02 04 7f ff ff ff', want: 2 ** 31 - 1 },
  ];
  for (const { der, want } of smallIntegers)
    it(`reads the number ${want}`, () => assert.equal(reader(der).smallInteger(), want));

  for (const der of ['02 01 ff', '02 05 00 80 00 00 00', '02 05 01 00 00 00 00'])
    it(`refuses the INTEGER ${der} as a number`, () => {
      assert.match(expectCode('der_invalid', () => reader(der).smallInteger()).message, /out of range/);
    });

  it('reads INTEGERs under an implicit tag', () => {
    assert.deepEqual(reader('82 01 05').integer(0x82), hex('05'));
    assert.equal(reader('80 01 05').smallInteger(0x80), 5);
    expectCode('der_invalid', () => reader('82 02 00 05').integer(0x82));
  });

  it('reads the octets of a BIT STRING that is whole octets', () => {
    assert.deepEqual(reader('03 03 00 01 80').bitStringOctets(), hex('01 80'));
    assert.deepEqual(reader('03 01 00').bitStringOctets(), new Uint8Array(0));
    const { message } = expectCode('der_invalid', () => reader('03 02 01 80').bitStringOctets());
    assert.match(message, /not whole octets/);
    expectCode('der_invalid', () => reader('03 02 01 81').bitStringOctets());
  });

  const namedBits = [
    { der: '03 01 00', want: 0 },
    { der: '03 02 07 80', want: 0b1 },
    { der: '03 02 01 06', want: 0b110_0000 },
    { der: '03 03 07 00 80', want: 0b1_0000_0000 },
    { der: '03 05 00 80 00 00 01', want: 0x8000_0001 },
  ];
  for (const { der, want } of namedBits)
    it(`reads the named bits ${der}`, () => assert.equal(reader(der).namedBits(), want));

  const badBits = [
    { der: '03 02 00 80', why: 'trailing zero bits' },
    { der: '03 02 06 80', why: 'one trailing zero bit' },
    { der: '03 02 00 00', why: 'no bit in a whole octet' },
    { der: '03 06 00 00 00 00 00 01', why: 'more bits than any list has' },
    { der: '03 02 07 81', why: 'unused bits that are set' },
  ];
  for (const { der, why } of badBits)
    it(`refuses named bits with ${why}`, () => {
      expectCode('der_invalid', () => reader(der).namedBits());
    });

  it('reads named bits under an implicit tag', () =>
    assert.equal(reader('83 02 01 06').namedBits(0x83), 0b110_0000));

  it('reads a BOOLEAN that is FALSE by default, and refuses FALSE written out', () => {
    assert.equal(reader('01 01 ff').booleanDefaultFalse(), true);
    assert.equal(reader('05 00').booleanDefaultFalse(), false);
    assert.equal(reader('').booleanDefaultFalse(), false);
    expectCode('der_invalid', () => reader('01 01 00').booleanDefaultFalse());
  });

  it('reads either kind of time', () => {
    assert.equal(reader(`17 0d ${ascii('260102030405Z')}`).time(), Date.UTC(2026, 0, 2, 3, 4, 5));
    assert.equal(reader(`18 0f ${ascii('20510102030405Z')}`).time(), Date.UTC(2051, 0, 2, 3, 4, 5));
  });

  it('refuses a time that is none, and anything else in its place', () => {
    const { message } = expectCode('der_invalid', () => reader(`17 0d ${ascii('261302030405Z')}`).time());
    assert.match(message, /a time that is not a real instant.* at offset 0$/);
    assert.match(expectCode('der_invalid', () => reader('05 00').time()).message, /UTCTime is due/);
  });

  it('refuses the wrong BOOLEAN and OBJECT IDENTIFIER', () => {
    expectCode('der_invalid', () => reader('01 01 02').boolean());
    expectCode('der_invalid', () => reader('06 01 80').oid());
    assert.equal(reader('01 01 00').boolean(), false);
  });
});
