import { isKedgeError, KedgeError } from '../pki/kedge-error.ts';
import { LIMITS } from '../pki/limits.ts';
import { Secret } from '../pki/secret.ts';
import { SpiffeId } from '../pki/spiffe-id.ts';
import { type X509SVID, X509SVIDResponse } from '../proto/gen/spiffe/workload.ts';
import { splitDer } from './der-concatenation.ts';

/** One identity of the workload, with all that mTLS needs. Certificates are DER. */
export interface X509Identity {
  readonly spiffeId: SpiffeId;
  /** Leaf first, no anchor. */
  readonly chain: readonly Uint8Array[];
  /** PKCS#8 DER, not encrypted. */
  readonly privateKey: Secret;
  /** The authorities of the identity's own trust domain. */
  readonly bundle: readonly Uint8Array[];
  /** What the operator calls this identity; empty where there is one only. */
  readonly hint: string;
}

/** One message of the Workload API: the whole state, which replaces the one before. */
export interface X509Context {
  /** At least one; the first is the default (SPIFFE_Workload_API.md section 5.2.1). */
  readonly identities: readonly X509Identity[];
  /** Trust domain SPIFFE ID -> authorities, of the other trust domains. */
  readonly federatedBundles: ReadonlyMap<string, readonly Uint8Array[]>;
  /** DER CertificateLists. */
  readonly crls: readonly Uint8Array[];
}

/**
 * Reads an X509SVIDResponse. Throws `agent_answer_invalid` where it breaks the standard; the message names the rule.
 *
 * Source: SPIFFE_Workload_API.md sections 5.1 and 5.2.1.
 */
export function parseX509Context(message: Uint8Array): X509Context {
  try {
    const response = X509SVIDResponse.decode(message);
    const identities = response.svids.map(identityOf);
    if (identities.length === 0) throw invalid('it holds no identity');
    const hints = identities.map(({ hint }) => hint).filter((hint) => hint !== '');
    if (new Set(hints).size !== hints.length) throw invalid('two identities have one hint');
    const federatedBundles = new Map(
      Object.entries(response.federatedBundles).map(([id, der]) => [
        SpiffeId.parse(id).trustDomain.id,
        splitDer(der, LIMITS.bundleAuthorities),
      ]),
    );
    return { identities, federatedBundles, crls: response.crl };
  } catch (error) {
    if (isKedgeError(error, 'agent_answer_invalid')) throw error;
    throw invalid(isKedgeError(error) ? error.message : 'it is not the message of the standard', error);
  }
}

function identityOf(svid: X509SVID): X509Identity {
  const chain = splitDer(svid.x509Svid, LIMITS.chainCertificates);
  const bundle = splitDer(svid.bundle, LIMITS.bundleAuthorities);
  if (chain.length === 0) throw invalid('an identity has no certificate');
  if (svid.x509SvidKey.length === 0) throw invalid('an identity has no private key');
  if (bundle.length === 0) throw invalid('an identity has no bundle');
  return {
    spiffeId: SpiffeId.parse(svid.spiffeId),
    chain,
    privateKey: new Secret(svid.x509SvidKey),
    bundle,
    hint: svid.hint,
  };
}

function invalid(rule: string, cause?: unknown): KedgeError {
  return new KedgeError('agent_answer_invalid', `the answer of the Workload API cannot be used: ${rule}`, {
    cause,
  });
}
