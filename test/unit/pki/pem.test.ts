import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { decodePem, encodePem } from '../../../pki/pem.ts';
import { expectCode } from '../../support/expect-code.ts';
import { checkProperty } from '../../support/property.ts';

const ABC = Uint8Array.of(1, 2, 3);

describe('PEM', () => {
  it('is written in lines of 64 characters with a line feed at its end (RFC 7468 section 2)', () => {
    assert.equal(
      encodePem('CERTIFICATE', new Uint8Array(50)),
      `-----BEGIN CERTIFICATE-----\n${'A'.repeat(64)}\nAAA=\n-----END CERTIFICATE-----\n`,
    );
    assert.equal(
      encodePem('CERTIFICATE', new Uint8Array(48)),
      `-----BEGIN CERTIFICATE-----\n${'A'.repeat(64)}\n-----END CERTIFICATE-----\n`,
    );
  });

  it('writes only the bytes of a view', () => {
    assert.deepEqual(
      decodePem(encodePem('PUBLIC KEY', Uint8Array.of(9, 1, 2, 3, 9).subarray(1, 4)), 'PUBLIC KEY'),
      [ABC],
    );
  });

  it('comes back from its own text, all blocks in their order', () => {
    checkProperty(
      fc.property(fc.array(fc.uint8Array({ minLength: 1, maxLength: 200 }), { minLength: 1 }), (blocks) => {
        const text = blocks.map((block) => encodePem('CERTIFICATE', block)).join('');
        assert.deepEqual(decodePem(text, 'CERTIFICATE'), blocks);
      }),
    );
  });

  it('passes over other text and blocks of other labels', () => {
    const text = `subject=/CN=x\n${encodePem('PRIVATE KEY', Uint8Array.of(7))}\n# note\n${encodePem('CERTIFICATE', ABC)}\nend`;
    assert.deepEqual(decodePem(text, 'CERTIFICATE'), [ABC]);
    assert.deepEqual(decodePem(text, 'PRIVATE KEY'), [Uint8Array.of(7)]);
  });

  it('takes CRLF, indented and unbroken lines', () => {
    assert.deepEqual(
      decodePem(encodePem('CERTIFICATE', new Uint8Array(100)).replaceAll('\n', '\r\n'), 'CERTIFICATE'),
      [new Uint8Array(100)],
    );
    assert.deepEqual(
      decodePem('-----BEGIN CERTIFICATE-----\n \tAQ\n  ID\n-----END CERTIFICATE-----', 'CERTIFICATE'),
      [ABC],
    );
  });

  const begin = '-----BEGIN CERTIFICATE-----';
  const end = '-----END CERTIFICATE-----';
  const refused = [
    { name: 'no block', text: 'hello' },
    { name: 'an empty text', text: '' },
    { name: 'only a block of another label', text: encodePem('PRIVATE KEY', ABC) },
    { name: 'a block without an end', text: `${begin}\nAQID\n` },
    { name: 'a block that ends as another', text: `${begin}\nAQID\n-----END PRIVATE KEY-----` },
    { name: 'a block in a block', text: `${begin}\n${begin}\nAQID\n${end}` },
    { name: 'an empty block', text: `${begin}\n${end}` },
    { name: 'base64 without its padding', text: `${begin}\nAQIDBA\n${end}` },
    { name: 'base64 with stray bits', text: `${begin}\nAQIDBB==\n${end}` },
    { name: 'base64 of the URL alphabet', text: `${begin}\n-_-_\n${end}` },
    { name: 'characters outside of base64', text: `${begin}\nAQ*ID\n${end}` },
    { name: 'headers in the block', text: `${begin}\nProc-Type: 4,ENCRYPTED\n\nAQID\n${end}` },
    { name: 'a second block that is broken', text: `${begin}\nAQID\n${end}\n${begin}\nA\n${end}` },
  ];
  for (const { name, text } of refused)
    it(`is refused with ${name}`, () => {
      const { message } = expectCode('pem_invalid', () => decodePem(text, 'CERTIFICATE'));
      assert.ok(!message.includes('AQID'), 'the message holds nothing of the block');
    });
});
