import type { ConfigKey } from '../config-key.ts';

/** The keys of one of `attest.issuers`, in the same way. */
export const ISSUER_KEYS: readonly ConfigKey[] = [
  { key: 'issuer', value: 'text', default: 'required', means: 'the `iss` of its tokens, exactly' },
  {
    key: 'cluster',
    value: 'text',
    default: 'required',
    means: 'its name, in the audit log and for {cluster} in the SPIFFE ID template; no two have the same',
  },
  {
    key: 'audience',
    value: 'text',
    default: 'attest.audience',
    means: 'the audience that its tokens must be for',
  },
  {
    key: 'idTemplate',
    value: 'text',
    default: 'svid.idTemplate',
    means: 'the path of the SPIFFE IDs of its workloads',
  },
  {
    key: 'keys',
    value: 'discovery, kubernetes, url, file',
    default: 'discovery',
    means:
      "where its keys are: where OpenID Connect Discovery at the issuer's URL says, at our own API server, at keysUrl, in keysFile",
  },
  { key: 'keysUrl', value: 'https URL', default: 'none', means: 'the JWK Set, for keys: url' },
  {
    key: 'keysFile',
    value: 'path',
    default: 'none',
    means: 'a file with the JWK Set, for keys: file; read again every 10s',
  },
  {
    key: 'authoritiesFile',
    value: 'path',
    default: 'the CAs that Node trusts',
    means: 'PEM certificates that the server must chain to, for keys: discovery and url',
  },
  {
    key: 'tokenFile',
    value: 'path',
    default: 'none',
    means: 'a bearer token to present there; to the first host only, where discovery leads to another',
  },
  {
    key: 'tokenReview',
    value: 'true, false',
    default: 'false',
    means:
      'asks our own API server as well, after the signature was verified, so that the pod must still be there',
  },
];
