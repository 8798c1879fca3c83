import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Metadata } from '@grpc/grpc-js';
import fc from 'fast-check';
import { bearerTokenOf } from '../../../../ca/api/bearer-token.ts';
import type { ErrorCode } from '../../../../pki/error-table.ts';
import { isKedgeError } from '../../../../pki/kedge-error.ts';
import { expectCode } from '../../../support/expect-code.ts';
import { checkProperty } from '../../../support/property.ts';

const metadataOf = (...values: readonly string[]): Metadata => {
  const metadata = new Metadata();
  for (const value of values) metadata.add('authorization', value);
  return metadata;
};
const JWT = 'eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln-_';

describe('the bearer token of a call', () => {
  for (const scheme of ['Bearer', 'bearer', 'BEARER']) {
    it(`is what follows ${scheme}`, () => {
      assert.equal(bearerTokenOf(metadataOf(`${scheme} ${JWT}`)), JWT);
    });
  }

  it('may be 8 KiB long', () => {
    const token = 'a'.repeat(8 * 1024);
    assert.equal(bearerTokenOf(metadataOf(`Bearer ${token}`)), token);
  });

  const rows: readonly {
    readonly name: string;
    readonly values: readonly string[];
    readonly want: ErrorCode;
  }[] = [
    { name: 'no authorization', values: [], want: 'token_missing' },
    { name: 'two of them', values: [`Bearer ${JWT}`, `Bearer ${JWT}`], want: 'token_malformed' },
    { name: 'two in one', values: [`Bearer ${JWT}, Bearer ${JWT}`], want: 'token_malformed' },
    { name: 'another scheme', values: ['Basic dTpw'], want: 'token_malformed' },
    { name: 'no scheme', values: [JWT], want: 'token_malformed' },
    { name: 'a scheme alone', values: ['Bearer'], want: 'token_malformed' },
    { name: 'an empty token', values: ['Bearer '], want: 'token_malformed' },
    { name: 'two spaces', values: [`Bearer  ${JWT}`], want: 'token_malformed' },
    { name: 'a trailing space', values: [`Bearer ${JWT} `], want: 'token_malformed' },
    { name: 'a quote', values: [`Bearer "${JWT}"`], want: 'token_malformed' },
    { name: 'a token over 8 KiB', values: [`Bearer ${'a'.repeat(8 * 1024 + 1)}`], want: 'token_malformed' },
  ];
  for (const { name, values, want } of rows) {
    it(`is refused with ${want}: ${name}`, () => {
      const error = expectCode(want, () => bearerTokenOf(metadataOf(...values)));
      assert.ok(!`${error.message} ${error.hint}`.includes(JWT));
      assert.match(error.hint ?? '', /Bearer <token>/);
    });
  }

  it('never shows in a message', () => {
    checkProperty(
      fc.property(fc.string({ unit: 'grapheme-ascii', minLength: 12, maxLength: 60 }), (text) => {
        try {
          bearerTokenOf(metadataOf(`Bearer ${text}`));
        } catch (error) {
          assert.ok(isKedgeError(error) && !error.message.includes(text));
        }
      }),
    );
  });
});
