import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { bundleMessage } from '../../../../ca/api/bundle-message.ts';
import { encodeIssueAnswer } from '../../../../ca/api/issue-answer.ts';
import { IssueX509SvidResponse } from '../../../../proto/gen/kedge/v1/identity.ts';
import { checkProperty } from '../../../support/property.ts';

const { bundle, issueField } = bundleMessage(
  { trustDomain: 'example.org', sequence: 7, x509Authorities: [Buffer.from('anchor')] },
  300,
);
const time = fc.oneof(fc.constantFrom(0, 0x7f, 0x80, 0x3fff, 0x4000), fc.maxSafeNat());
const certificate = fc.uint8Array({ maxLength: 300 });

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const encoded = (answer: Omit<IssueX509SvidResponse, 'x509Svid'>): string =>
  hex(IssueX509SvidResponse.encode({ x509Svid: [], ...answer }).finish());

describe('the encoded answer to a CSR', () => {
  it('is read by the generated codec as what it was made of', () => {
    checkProperty(
      fc.property(fc.array(certificate, { maxLength: 4 }), time, time, time, (chain, from, to, now) => {
        const bytes = encodeIssueAnswer({
          chain,
          bundleField: issueField,
          renewal: { notBeforeMs: from, notAfterMs: to },
          serverTimeMs: now,
        });
        const { x509Svid, ...rest } = IssueX509SvidResponse.decode(bytes);
        assert.deepEqual(x509Svid.map(hex), chain.map(hex));
        const meant = {
          bundle,
          renewal: { notBeforeMs: BigInt(from), notAfterMs: BigInt(to) },
          serverTimeMs: BigInt(now),
        };
        assert.equal(encoded(rest), encoded(meant));
      }),
    );
  });

  it('cannot hold a time before the epoch, or a part of a millisecond', () => {
    for (const serverTimeMs of [-1, 0.5, Number.NaN, 2 ** 53]) {
      const renewal = { notBeforeMs: 1, notAfterMs: 2 };
      assert.throws(
        () => encodeIssueAnswer({ chain: [], bundleField: issueField, renewal, serverTimeMs }),
        RangeError,
      );
    }
  });
});
