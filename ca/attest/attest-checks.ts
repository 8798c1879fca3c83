import { isKedgeError, quote } from '../../pki/kedge-error.ts';
import type { IssuerEntry } from './attest-settings.ts';
import { SpiffeIdTemplate } from './spiffe-id-template.ts';

/** What is looked at. */
export interface AttestChecks {
  readonly kind: string;
  /** What our own API server is asked for. */
  readonly audience: string;
  readonly issuers: readonly IssuerEntry[];
  readonly allowUnboundTokens: boolean;
  readonly idTemplate: string;
  readonly allowSharedIds: boolean;
}

/** A value that cannot be, and where it stands. */
export interface AttestProblem {
  readonly key: string;
  readonly message: string;
}

/** What cannot be about `attest` as a whole: each value by itself is fine. */
export function attestProblems(checks: AttestChecks): readonly AttestProblem[] {
  const { kind, issuers, allowUnboundTokens, idTemplate } = checks;
  const found: AttestProblem[] = [];
  if (kind === 'oidc' && issuers.length === 0) {
    found.push({ key: 'attest.issuers', message: 'attest.kind is oidc: name at least one issuer' });
  }
  if (kind !== 'oidc' && issuers.length > 0) {
    found.push({ key: 'attest.issuers', message: `attest.kind is ${kind}: issuers are for oidc` });
  }
  const templates = [idTemplate, ...issuers.flatMap((issuer) => issuer.idTemplate ?? [])];
  if (allowUnboundTokens && templates.some((text) => /\{pod(Name|Uid)\}/.test(text))) {
    found.push({
      key: 'attest.allowUnboundTokens',
      message: 'a SPIFFE ID template names the pod, and a token that is not bound to one has none',
    });
  }
  for (const [i, issuer] of issuers.entries()) {
    const key = `attest.issuers.${i}`;
    const problem = keysProblem(issuer);
    if (problem !== undefined) found.push({ key, message: problem });
    if (issuer.tokenReview === true && (issuer.audience ?? checks.audience) !== checks.audience) {
      found.push({
        key,
        message: `tokenReview asks our own API server for attest.audience, ${quote(checks.audience)}, which no token for ${quote(issuer.audience ?? '')} has: give both the same`,
      });
    }
    if (issuers.findIndex(({ cluster }) => cluster === issuer.cluster) !== i) {
      found.push({ key, message: `there are two issuers of the cluster ${quote(issuer.cluster)}` });
    }
  }
  if (!checks.allowSharedIds) found.push(...overlaps(checks));
  return found;
}

function keysProblem({
  issuer,
  keys = 'discovery',
  keysUrl,
  keysFile,
  tokenFile,
}: IssuerEntry): string | undefined {
  if ((keys === 'url') !== (keysUrl !== undefined))
    return 'keysUrl belongs to keys: url, and the other way round';
  if ((keys === 'file') !== (keysFile !== undefined))
    return 'keysFile belongs to keys: file, and the other way round';
  if (keys === 'discovery' && !issuer.startsWith('https://')) {
    return `keys: discovery asks the issuer, and ${quote(issuer)} is no https URL`;
  }
  if (tokenFile !== undefined && keys !== 'url' && keys !== 'discovery') {
    return 'tokenFile belongs to keys: url and keys: discovery';
  }
  return undefined;
}

/** ServiceAccounts of two clusters under one SPIFFE ID: the one would be the other. */
function overlaps({ issuers, idTemplate }: AttestChecks): AttestProblem[] {
  const read = issuers.map(({ cluster, idTemplate: own }) => {
    try {
      return { cluster, template: SpiffeIdTemplate.parse(own ?? idTemplate) };
    } catch (error) {
      if (!isKedgeError(error, 'config_invalid')) throw error;
      return { cluster, problem: error.message };
    }
  });
  return read.flatMap((one, i): AttestProblem[] => {
    const key = `attest.issuers.${i}`;
    if (one.template === undefined) return [{ key, message: one.problem }];
    const other = read.slice(0, i).find(({ template, cluster }) => {
      return (
        template !== undefined &&
        cluster !== one.cluster &&
        one.template.mayOverlap(one.cluster, template, cluster)
      );
    });
    if (other === undefined) return [];
    return [
      {
        key,
        message: `ServiceAccounts of the clusters ${quote(other.cluster)} and ${quote(one.cluster)} can get the same SPIFFE ID: put {cluster} into the template, or give each its own; svid.allowSharedIds lets them`,
      },
    ];
  });
}
