import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type ReviewExpectations, reviewedInstance } from '../../../../ca/attest/review-status.ts';
import type { ErrorCode } from '../../../../pki/error-table.ts';
import { isKedgeError } from '../../../../pki/kedge-error.ts';
import { expectCode } from '../../../support/expect-code.ts';
import { checkProperty } from '../../../support/property.ts';

const EXPECTED: ReviewExpectations = {
  cluster: 'c',
  audience: 'kedge',
  unbound: 'refuse',
  tokenExpiresAtMs: 1,
};
const ANY_POD: ReviewExpectations = { ...EXPECTED, unbound: 'take the ServiceAccount for the instance' };
const EXTRA = 'authentication.kubernetes.io/';

const extra = {
  [`${EXTRA}pod-name`]: ['web-1'],
  [`${EXTRA}pod-uid`]: ['2382113a-b063-44cc-9144-0c3a8b115b53'],
  [`${EXTRA}node-name`]: ['node1'],
};
const user = {
  username: 'system:serviceaccount:rec:web',
  uid: 'df0e4861-ee99-4481-ac80-03da1a34700d',
  groups: ['system:serviceaccounts', 'system:serviceaccounts:rec', 'system:authenticated'],
  extra,
};
const status = { authenticated: true, user, audiences: ['kedge'] };
const withUser = (more: object): object => ({ ...status, user: { ...user, ...more } });
const withExtra = (more: object): object => withUser({ extra: { ...extra, ...more } });

describe('reviewedInstance', () => {
  it('reads what kube-apiserver 1.36 says, and what 1.20 leaves out', () => {
    const want = {
      cluster: 'c',
      namespace: 'rec',
      serviceAccount: 'web',
      podName: 'web-1',
      podUid: '2382113a-b063-44cc-9144-0c3a8b115b53',
      nodeName: 'node1',
      tokenExpiresAtMs: 1,
    };
    assert.deepEqual(reviewedInstance(status, EXPECTED), want);
    const { [`${EXTRA}node-name`]: _, ...old } = extra;
    assert.deepEqual(reviewedInstance(withUser({ extra: old }), EXPECTED), { ...want, nodeName: undefined });
  });

  const REFUSED: readonly {
    readonly name: string;
    readonly status: unknown;
    readonly wantCode: ErrorCode;
    readonly expected?: ReviewExpectations;
  }[] = [
    { name: 'no status', status: undefined, wantCode: 'token_signature_invalid' },
    { name: 'a status that is a text', status: 'true', wantCode: 'token_signature_invalid' },
    { name: 'no authenticated field', status: { user: {}, error: 'x' }, wantCode: 'token_signature_invalid' },
    {
      name: 'authenticated as a text',
      status: { ...status, authenticated: 'true' },
      wantCode: 'token_signature_invalid',
    },
    {
      name: 'the audiences of another',
      status: {
        user: {},
        error:
          '[invalid bearer token, token audiences ["vault"] is invalid for the target audiences ["kedge"]]',
      },
      wantCode: 'token_audience_mismatch',
    },
    {
      name: 'an object that is gone',
      status: { user: {}, error: '[invalid bearer token, service account token has been invalidated]' },
      wantCode: 'token_invalidated',
    },
    {
      name: 'an expiry',
      status: { error: '[invalid bearer token, service account token has expired]' },
      wantCode: 'token_expired',
    },
    {
      name: 'no audiences, as servers that know none',
      status: { ...status, audiences: undefined },
      wantCode: 'token_audience_mismatch',
    },
    {
      name: 'other audiences',
      status: { ...status, audiences: ['kedge2'] },
      wantCode: 'token_audience_mismatch',
    },
    {
      name: 'audiences as a text',
      status: { ...status, audiences: 'kedge' },
      wantCode: 'token_audience_mismatch',
    },
    { name: 'no user', status: { ...status, user: null }, wantCode: 'token_claims_invalid' },
    { name: 'a human', status: withUser({ username: 'admin' }), wantCode: 'token_claims_invalid' },
    {
      name: 'a name with more parts',
      status: withUser({ username: 'system:serviceaccount:rec:web:x' }),
      wantCode: 'token_claims_invalid',
    },
    {
      name: 'a name with a slash',
      status: withUser({ username: 'system:serviceaccount:rec:a/b' }),
      wantCode: 'token_claims_invalid',
    },
    {
      name: 'a name of the right form in the wrong groups',
      status: withUser({ groups: ['system:authenticated'] }),
      wantCode: 'token_claims_invalid',
    },
    {
      name: 'groups of another namespace',
      status: withUser({ groups: ['system:serviceaccounts', 'system:serviceaccounts:other'] }),
      wantCode: 'token_claims_invalid',
    },
    { name: 'no pod', status: withUser({ extra: {} }), wantCode: 'token_not_bound_to_pod' },
    { name: 'extras that are a list', status: withUser({ extra: [] }), wantCode: 'token_not_bound_to_pod' },
    {
      name: 'a pod without a UID, even where none is needed',
      status: withExtra({ [`${EXTRA}pod-uid`]: undefined }),
      wantCode: 'token_not_bound_to_pod',
      expected: ANY_POD,
    },
    {
      name: 'two pods',
      status: withExtra({ [`${EXTRA}pod-name`]: ['web-1', 'web-2'] }),
      wantCode: 'token_claims_invalid',
    },
    {
      name: 'a pod name that is a text',
      status: withExtra({ [`${EXTRA}pod-name`]: 'web-1' }),
      wantCode: 'token_claims_invalid',
    },
    {
      name: 'a UID with a slash',
      status: withExtra({ [`${EXTRA}pod-uid`]: ['a/b'] }),
      wantCode: 'token_claims_invalid',
    },
    {
      name: 'no UID of the ServiceAccount',
      status: withUser({ extra: {}, uid: '' }),
      wantCode: 'token_claims_invalid',
      expected: ANY_POD,
    },
  ];
  for (const { name, status: given, wantCode, expected = EXPECTED } of REFUSED) {
    it(`refuses ${name}`, () => {
      expectCode(wantCode, () => reviewedInstance(given, expected));
    });
  }

  it('does not repeat what the API server says', () => {
    const error = expectCode('token_signature_invalid', () =>
      reviewedInstance({ error: 'bad token eyJhbGci' }, EXPECTED),
    );
    assert.ok(!error.message.includes('eyJ'));
  });

  it('yields an instance or a refusal for anything', () => {
    const keys = [
      'authenticated',
      'user',
      'audiences',
      'username',
      'groups',
      'extra',
      `${EXTRA}pod-name`,
      `${EXTRA}pod-uid`,
    ];
    const { tree } = fc.letrec((tie) => ({
      tree: fc.oneof(
        { maxDepth: 4 },
        fc.constantFrom<unknown>(true, null, 'kedge', 'system:serviceaccount:rec:web', ['kedge'], 7),
        fc.dictionary(fc.constantFrom(...keys), tie('tree')),
      ),
    }));
    checkProperty(
      fc.property(tree, (value) => {
        try {
          const merged = typeof value === 'object' && value !== null ? { ...status, ...value } : value;
          const instance = reviewedInstance(merged, EXPECTED);
          assert.equal(instance.podUid.includes('/'), false);
        } catch (error) {
          assert.ok(isKedgeError(error), String(error));
        }
      }),
    );
  });
});
