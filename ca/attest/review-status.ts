import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { isJsonObject, type JsonMembers } from '../kubernetes/api-answer.ts';
import type { WorkloadInstance } from './attestor.ts';
import { notBoundToPod, type Unbound } from './bound-token.ts';
import { claimInvalid } from './jwt-claims.ts';
import { isLabelName, isObjectUid, isSubdomainName } from './kubernetes-names.ts';

/** What is asked of a reviewed token. */
export interface ReviewExpectations {
  /** Name of the cluster, as it goes into the instance. */
  readonly cluster: string;
  readonly audience: string;
  readonly unbound: Unbound;
  /** From the token's claims, which the API server has verified, milliseconds since the Unix epoch. */
  readonly tokenExpiresAtMs: number;
}

/** Group of every ServiceAccount, which no other user can be in. */
const SERVICE_ACCOUNTS_GROUP = 'system:serviceaccounts';
const EXTRA_PREFIX = 'authentication.kubernetes.io/';

/** What the API server says of tokens it refuses, and what that is here. kube-apiserver 1.20 to 1.36. */
const REASONS: readonly { readonly says: RegExp; readonly error: () => KedgeError }[] = [
  {
    says: /token audiences .* invalid for the target audiences/,
    error: () =>
      new KedgeError(
        'token_audience_mismatch',
        'the API server says that the token is for another audience',
        {
          hint: 'ask for a token with the audience of this CA',
        },
      ),
  },
  {
    says: /token has expired|is expired/,
    error: () =>
      new KedgeError('token_expired', 'the API server says that the token has expired', {
        hint: 'read the token file anew for each call',
      }),
  },
  {
    says: /has been invalidated|not found|has been deleted|does not match/,
    error: () =>
      new KedgeError('token_invalidated', 'the API server no longer accepts the token', {
        hint: 'its pod or ServiceAccount was deleted: a new pod gets a new token',
      }),
  },
];

/**
 * Whom a TokenReview's status proves. In this order: it is authenticated at all; the API server has checked our
 * audience; the user is a ServiceAccount by name and by group; the token is bound to a pod. Throws
 * `token_signature_invalid`, `token_invalidated`, `token_expired`, `token_audience_mismatch`, `token_claims_invalid`,
 * `token_not_bound_to_pod`. https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-review-v1/.
 */
export function reviewedInstance(status: unknown, expected: ReviewExpectations): WorkloadInstance {
  if (!isJsonObject(status) || status['authenticated'] !== true) throw refusalOf(status);
  const { audiences, user } = status;
  // A server that knows no audiences leaves them out, and then has not looked whom the token is for.
  if (!Array.isArray(audiences) || !audiences.includes(expected.audience)) {
    throw new KedgeError(
      'token_audience_mismatch',
      `the API server does not say that the token is for ${quote(expected.audience)}`,
      { hint: 'ask for a token with this audience, and for an API server that checks audiences' },
    );
  }
  if (!isJsonObject(user)) throw userInvalid('missing');
  const { namespace, serviceAccount } = accountOf(user);
  const extra = isJsonObject(user['extra']) ? user['extra'] : {};
  const podName = one(extra, 'pod-name', isSubdomainName);
  const podUid = one(extra, 'pod-uid', isObjectUid);
  const base = { cluster: expected.cluster, namespace, serviceAccount };
  const { tokenExpiresAtMs } = expected;
  if (podName === undefined || podUid === undefined) {
    if (expected.unbound === 'refuse' || podName !== podUid) throw notBoundToPod();
    const uid = user['uid'];
    if (typeof uid !== 'string' || !isObjectUid(uid))
      throw userInvalid('without the UID of a ServiceAccount');
    return { ...base, podName: serviceAccount, podUid: uid, nodeName: undefined, tokenExpiresAtMs };
  }
  return { ...base, podName, podUid, nodeName: one(extra, 'node-name', isSubdomainName), tokenExpiresAtMs };
}

function refusalOf(status: unknown): KedgeError {
  const said = isJsonObject(status) && typeof status['error'] === 'string' ? status['error'] : '';
  // What it says is not repeated: authenticators may quote the token.
  const known = REASONS.find(({ says }) => says.test(said));
  return (
    known?.error() ??
    new KedgeError('token_signature_invalid', 'the API server does not accept the token', {
      hint: 'the token must be one of this cluster: fetch a new one',
    })
  );
}

function accountOf(user: JsonMembers): { readonly namespace: string; readonly serviceAccount: string } {
  const { username, groups } = user;
  const match =
    typeof username === 'string' ? /^system:serviceaccount:([^:]+):([^:]+)$/.exec(username) : null;
  const [, namespace = '', serviceAccount = ''] = match ?? [];
  if (!isLabelName(namespace) || !isSubdomainName(serviceAccount)) throw userInvalid('not a ServiceAccount');
  const wanted = [SERVICE_ACCOUNTS_GROUP, `${SERVICE_ACCOUNTS_GROUP}:${namespace}`];
  if (!Array.isArray(groups) || wanted.some((group) => !groups.includes(group))) {
    throw userInvalid('not in the groups of ServiceAccounts');
  }
  return { namespace, serviceAccount };
}

/** An extra that has one value; undefined when it is missing. */
function one(extra: JsonMembers, name: string, isValid: (text: string) => boolean): string | undefined {
  const values = extra[`${EXTRA_PREFIX}${name}`];
  if (values === undefined) return undefined;
  const [value, ...more] = Array.isArray(values) ? (values as readonly unknown[]) : [];
  if (typeof value !== 'string' || more.length > 0 || !isValid(value)) {
    throw claimInvalid(`extra ${EXTRA_PREFIX}${name}`, 'not one Kubernetes name');
  }
  return value;
}

function userInvalid(problem: string): KedgeError {
  return new KedgeError('token_claims_invalid', `the user of the TokenReview is ${problem}`, {
    hint: 'use the token of a ServiceAccount',
  });
}
