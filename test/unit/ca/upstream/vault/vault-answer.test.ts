import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  certificatesMember,
  dataOf,
  isMembers,
  readBody,
  secondsMember,
  textMember,
} from '../../../../../ca/upstream/vault/vault-answer.ts';
import { chainTo, rootOf } from '../../../../../ca/upstream/vault/vault-chain.ts';
import { errorsOf, refusalOf } from '../../../../../ca/upstream/vault/vault-refusal.ts';
import { isKedgeError } from '../../../../../pki/kedge-error.ts';
import { pemOf } from '../../../../fakes/vault/vault-certificates.ts';
import { makeAnchor, makeIssuer } from '../../../../support/certificates.ts';
import { checkProperty } from '../../../../support/property.ts';

const CALL = {
  path: 'pki/root/sign-intermediate',
  capability: 'update',
  mountKind: 'PKI secrets engine',
} as const;
const answerOf = (body: Uint8Array, status = 200, contentType = 'application/json') => ({
  status,
  contentType,
  retryAfter: undefined,
  dateMs: null,
  body: Buffer.from(body),
});

/** Runs what may refuse; anything but a KedgeError of Vault is a mistake of ours. */
function refuses(work: () => unknown): void {
  try {
    work();
  } catch (error) {
    assert.ok(isKedgeError(error) && error.code.startsWith('vault_'), String(error));
    assert.ok((error.hint ?? '').length > 0);
  }
}

describe('answers of Vault', () => {
  it('of any bytes, type and status are read or refused with a code and a hint', () => {
    checkProperty(
      fc.property(
        fc.oneof(
          fc.uint8Array(),
          fc.json().map((text) => Buffer.from(text)),
        ),
        fc.constantFrom('application/json', 'application/vault+json', 'text/html', '', 'text/plain'),
        fc.integer({ min: 100, max: 599 }),
        (bytes, type, status) => {
          refuses(() => {
            const body = readBody(answerOf(bytes, status, type), CALL.path);
            assert.ok(errorsOf(body).every((text) => typeof text === 'string'));
            const refusal = refusalOf(CALL, answerOf(bytes, status), body);
            assert.ok(refusal.code.startsWith('vault_') && (refusal.hint ?? '') !== '');
            const data = dataOf(body, 'it');
            textMember(data, 'certificate', 'it');
            certificatesMember(data, 'certificate', 'it');
            certificatesMember(data, 'ca_chain', 'it');
            secondsMember(data, 'ttl');
          });
        },
      ),
    );
  });

  it('give certificates from one PEM, from several in one text, and from a list, in their order', async () => {
    const [a, b] = [(await makeAnchor()).der, (await makeAnchor()).der];
    for (const value of [
      `${pemOf(a)}\n${pemOf(b)}`,
      [pemOf(a), `${pemOf(b)}\n`],
      [`${pemOf(a)}\n${pemOf(b)}`, ''],
    ]) {
      assert.deepEqual(certificatesMember({ value }, 'value', 'it'), [a, b]);
    }
    for (const value of [undefined, null, '', '\n', []]) {
      assert.deepEqual(certificatesMember({ value }, 'value', 'it'), []);
    }
    assert.equal(isMembers([]), false);
  });
});

describe('the chain of an issuer', async () => {
  const root = await makeAnchor();
  const other = await makeAnchor();
  const upper = await makeIssuer(root);
  const lower = await makeIssuer(upper);
  const issuer = await makeIssuer(lower);
  const all = [root.der, other.der, upper.der, lower.der, issuer.der];

  it('is found whatever the order, and whatever else is there', () => {
    checkProperty(
      fc.property(fc.shuffledSubarray([...all, ...all], { minLength: 10 }), (pool) => {
        assert.deepEqual(chainTo(root.der, issuer.der, pool), [issuer.der, lower.der, upper.der]);
        assert.equal(chainTo(other.der, issuer.der, pool), null);
        assert.deepEqual(rootOf(issuer.der, pool), root.der);
      }),
    );
  });

  it('is not found when a link of it is missing', () => {
    checkProperty(
      fc.property(fc.subarray([root.der, upper.der, lower.der], { maxLength: 2 }), (some) => {
        const isWhole = some.includes(upper.der) && some.includes(lower.der);
        assert.equal(chainTo(root.der, issuer.der, some) !== null, isWhole);
        assert.equal(rootOf(issuer.der, some), null);
      }),
    );
  });

  it('of a root is nothing, and of what is no certificate is refused', () => {
    assert.deepEqual(chainTo(root.der, root.der, all), []);
    assert.deepEqual(rootOf(root.der, []), root.der);
    refuses(() => chainTo(root.der, new Uint8Array([1]), all));
    refuses(() => rootOf(issuer.der, [new Uint8Array([1])]));
  });
});
