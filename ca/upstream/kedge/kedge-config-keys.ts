import type { ConfigKey } from '../../config-key.ts';

/** The keys `upstream.kedge`, a CA above this one, and `downstream`, CAs below it. */
export const KEDGE_CONFIG_KEYS: readonly ConfigKey[] = [
  {
    key: 'upstream.kedge.address',
    value: 'address',
    default: 'required for upstream.kind kedge',
    means: 'downstream.address of the CA above',
  },
  {
    key: 'upstream.kedge.certificateFile',
    value: 'path',
    default: 'required for upstream.kind kedge',
    means: 'PEM file with an X.509-SVID of the CA above, leaf first; kept fresh by an agent of that CA',
  },
  {
    key: 'upstream.kedge.keyFile',
    value: 'path',
    default: 'required for upstream.kind kedge',
    means: 'PEM file with the private key of that SVID',
  },
  {
    key: 'upstream.kedge.bundleFile',
    value: 'path',
    default: 'required for upstream.kind kedge',
    means: 'PEM file with the trust bundle of the CA above',
  },
  {
    key: 'upstream.kedge.timeout',
    value: 'duration',
    default: '10s',
    means: 'how long the CA above may take to answer',
  },
  {
    key: 'upstream.kedge.pollInterval',
    value: 'duration',
    default: '10s',
    means: 'how often the CA above is told what the fleet holds, and asked for its trust anchor; at most 30s',
  },
];

export const DOWNSTREAM_CONFIG_KEYS: readonly ConfigKey[] = [
  {
    key: 'downstream.address',
    value: 'address',
    default: 'none: no CA stands under this one',
    means: 'where nested CAs connect, by gRPC over mTLS',
  },
  {
    key: 'downstream.allow',
    value: 'list of SPIFFE IDs',
    default: 'none',
    means:
      'who may have issuers signed; each can then issue any identity of the trust domain, and a rotation waits for the fleet of each',
  },
];
