import assert from 'node:assert/strict';
import { it } from 'node:test';

import type { Attestor, WorkloadInstance } from '../../ca/attest/attestor.ts';
import type { ErrorCode } from '../../pki/error-table.ts';
import { isKedgeError } from '../../pki/kedge-error.ts';

/** Tokens that every attestor must be able to tell apart. */
export type TokenKind =
  | 'good'
  | 'good for several audiences'
  | 'for another audience'
  | 'expired'
  | 'not yet valid'
  | 'bound to no pod'
  | 'from another issuer'
  | 'with a broken signature'
  | 'cut short'
  | 'empty'
  | 'over the size limit'
  | 'no JWT at all';

/** What a backend or a fake brings to the suite. */
export interface AttestorHarness {
  readonly attestor: Attestor;
  /** What {@link AttestorHarness.token} `good` must yield. */
  readonly instance: WorkloadInstance;
  readonly token: (kind: TokenKind) => string;
  close?(): Promise<void>;
}

/**
 * The refusals. An attestor that asks a server which only says "no" cannot tell some of them apart: then any of the
 * codes given may come.
 */
const REFUSALS: readonly { readonly kind: TokenKind; readonly wantCodes: readonly ErrorCode[] }[] = [
  { kind: 'for another audience', wantCodes: ['token_audience_mismatch'] },
  { kind: 'expired', wantCodes: ['token_expired', 'token_signature_invalid'] },
  { kind: 'not yet valid', wantCodes: ['token_not_yet_valid', 'token_signature_invalid'] },
  { kind: 'bound to no pod', wantCodes: ['token_not_bound_to_pod'] },
  { kind: 'from another issuer', wantCodes: ['token_issuer_unknown', 'token_signature_invalid'] },
  { kind: 'with a broken signature', wantCodes: ['token_signature_invalid'] },
  { kind: 'cut short', wantCodes: ['token_signature_invalid', 'token_malformed'] },
  { kind: 'empty', wantCodes: ['token_malformed', 'token_missing'] },
  { kind: 'over the size limit', wantCodes: ['token_malformed'] },
  { kind: 'no JWT at all', wantCodes: ['token_malformed', 'token_signature_invalid'] },
];

const PEER = { address: '192.0.2.1:4711' };

/** The contract of {@link Attestor}, for one implementation. Call it within a `describe`. */
export function attestorConformance(open: () => Promise<AttestorHarness>): void {
  async function withHarness(body: (harness: AttestorHarness) => Promise<void>): Promise<void> {
    const harness = await open();
    try {
      await body(harness);
    } finally {
      await harness.close?.();
    }
  }
  const never = new AbortController().signal;

  for (const kind of ['good', 'good for several audiences'] as const) {
    it(`yields the workload instance for a token that is ${kind}`, () =>
      withHarness(async ({ attestor, token, instance }) => {
        assert.deepEqual(await attestor.attest(token(kind), PEER, never), instance);
      }));
  }

  it('yields the same for the same token again, and for many at once', () =>
    withHarness(async ({ attestor, token, instance }) => {
      const text = token('good');
      const all = await Promise.all(
        Array.from({ length: 20 }, async () => attestor.attest(text, PEER, never)),
      );
      for (const one of all) assert.deepEqual(one, instance);
    }));

  for (const { kind, wantCodes } of REFUSALS) {
    it(`refuses a token that is ${kind}, without repeating it`, () =>
      withHarness(async ({ attestor, token }) => {
        const text = token(kind);
        await assert.rejects(
          async () => attestor.attest(text, PEER, never),
          (error) => {
            assert.ok(isKedgeError(error, ...wantCodes), String(error));
            for (const part of text.split('.').filter((piece) => piece.length > 8)) {
              assert.ok(
                !`${error.message} ${error.hint ?? ''}`.includes(part),
                'the token is in the message',
              );
            }
            return true;
          },
        );
      }));
  }

  it('stops when the caller has left', () =>
    withHarness(async ({ attestor, token }) => {
      const reason = new Error('left');
      await assert.rejects(
        async () => attestor.attest(token('good'), PEER, AbortSignal.abort(reason)),
        (error) => error === reason || isKedgeError(error, 'cancelled', 'deadline_exceeded'),
      );
    }));
}
