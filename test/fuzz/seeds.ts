import { generateKeyPairSync, sign } from 'node:crypto';
import { JwsKey } from '../../ca/attest/jws-algorithms.ts';
import type { JwtExpectations } from '../../ca/attest/jwt.ts';
import { NO_ROTATION, type TrustState } from '../../ca/authority/trust-state.ts';
import { encodeTrustState } from '../../ca/authority/trust-state-codec.ts';
import type { AuthoritySigner } from '../../pki/authority-signer.ts';
import { formatBundleDocument } from '../../pki/bundle-document.ts';
import { toHex } from '../../pki/bytes.ts';
import { parseCertificate } from '../../pki/certificate.ts';
import { createCrl } from '../../pki/crl-builder.ts';
import type { NodeMetadata } from '../../proto/gen/envoy/config/core/v3/base.ts';
import {
  DeltaDiscoveryRequest,
  DiscoveryRequest,
} from '../../proto/gen/envoy/service/discovery/v3/discovery.ts';
import { type Hierarchy, newHierarchy } from '../support/hierarchy.ts';
import { deltaDiscoveryRequest, discoveryRequest, ENVOY_NODE } from '../support/sds-client.ts';

const NOT_BEFORE_MS = Date.UTC(2026, 0, 1);
const DAY_MS = 86_400_000;

const hierarchy = (): Promise<Hierarchy> => newHierarchy(NOT_BEFORE_MS, true);

/** An anchor with name constraints, an issuer and an SVID, DER. */
export async function certificateSeeds(): Promise<Uint8Array[]> {
  const { anchor, issuer, svid } = await hierarchy();
  return [anchor, issuer, svid];
}

/** CRLs with and without an entry, DER. */
export async function crlSeeds(): Promise<Uint8Array[]> {
  const { issuer, issuerKey } = await hierarchy();
  const base = {
    issuer: parseCertificate(issuer),
    signer: issuerKey,
    number: 7,
    thisUpdateMs: NOT_BEFORE_MS,
    nextUpdateMs: NOT_BEFORE_MS + DAY_MS,
  };
  const entry = {
    serialNumber: Uint8Array.of(0x12, 0x34),
    revokedAtMs: NOT_BEFORE_MS,
    reason: 'keyCompromise',
  } as const;
  return [await createCrl({ ...base, entries: [] }), await createCrl({ ...base, entries: [entry] })];
}

/** SPIFFE bundle documents, JSON. */
export async function bundleSeeds(): Promise<Uint8Array[]> {
  const { anchor } = await hierarchy();
  return [
    formatBundleDocument({ sequence: 42n, refreshHintSeconds: 300, x509Authorities: [anchor] }),
    Buffer.from('{"keys":[{"kty":"EC","use":"jwt-svid","kid":"a"}],"spiffe_sequence":1}'),
  ];
}

/** Signed tokens, and what they must be to be accepted. */
export function jwtSeeds(): { tokens: string[]; expected: JwtExpectations } {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const nowSeconds = NOT_BEFORE_MS / 1000;
  const tokens = ['kedge', ['kedge', 'other']].map((aud) => {
    const claims = {
      aud,
      exp: nowSeconds + 3600,
      iat: nowSeconds,
      nbf: nowSeconds,
      iss: 'https://issuer.invalid',
      sub: 'system:serviceaccount:demo:web',
      'kubernetes.io': {
        namespace: 'demo',
        pod: { name: 'web-1', uid: 'd9b0c4a6' },
        serviceaccount: { name: 'web', uid: 'a1' },
      },
    };
    const input = `${part({ alg: 'RS256', kid: 'k1' })}.${part(claims)}`;
    return `${input}.${sign('sha256', Buffer.from(input), privateKey).toString('base64url')}`;
  });
  const key = JwsKey.of('k1', 'RS256', publicKey);
  return {
    tokens,
    expected: {
      issuer: 'https://issuer.invalid',
      audience: 'kedge',
      keyOf: (kid) => (kid === 'k1' ? key : undefined),
      nowMs: NOT_BEFORE_MS + 1000,
      leewayMs: 0,
    },
  };
}

/** A manifest in the forms that people write. */
export const MANIFEST_SEED = `# two
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {}} # flow
spec:
  containers:
  -   name: "a"
      args: [ -c, 'x' ]
  volumes:
---
apiVersion: apps/v1
kind: Deployment
spec:
  template:
    metadata:
      annotations:
        kedge.io/files-preset: nginx
    spec:
      initContainers:
      # first
      - name: i
        command:
        - |
          go
      containers: [{name: b, env: null}]
`;

/** A policy file with one of everything. */
export const POLICY_SEED = `
defaults:
  ttl: 24h
  keyTypes: [ec-p256, ec-p384]
rules:
  - match: { namespace: "prod-*", serviceAccount: web }
    ttl: 1h
    dnsNames: ["{serviceAccount}.{namespace}.svc"]
  - match: { namespace: batch }
    ttl: 15m
deny:
  - namespace: gone
    reason: decommissioned
`;

/** Requests of both SDS protocols, with one of everything; a metadata that says how validation contexts are written. */
export function discoveryRequestSeeds(): { sotw: Uint8Array[]; delta: Uint8Array[] } {
  const fields: NodeMetadata['fields'] = {
    disable_spiffe_cert_validation: { kind: { $case: 'stringValue', value: 'true' } },
  };
  const node = { ...ENVOY_NODE, metadata: { fields } };
  const errorDetail = { code: 13, message: 'Failed to load certificate chain', details: [] };
  const names = ['default', 'ROOTCA', 'ALL', 'spiffe://example.org', '*'];
  const version = 'a'.repeat(32);
  const sotw = [
    discoveryRequest(),
    discoveryRequest({ node, resourceNames: names }),
    discoveryRequest({
      node: ENVOY_NODE,
      resourceNames: names,
      versionInfo: '3',
      responseNonce: '0011223344556677',
    }),
    discoveryRequest({ resourceNames: names, responseNonce: '0011223344556677', errorDetail }),
  ];
  const delta = [
    deltaDiscoveryRequest(),
    deltaDiscoveryRequest({ node, resourceNamesSubscribe: names }),
    deltaDiscoveryRequest({
      resourceNamesSubscribe: ['default'],
      resourceNamesUnsubscribe: ['ROOTCA'],
      initialResourceVersions: { default: version, ROOTCA: 'not ours' },
    }),
    deltaDiscoveryRequest({ responseNonce: '0011223344556677', errorDetail }),
  ];
  return {
    sotw: sotw.map((request) => DiscoveryRequest.encode(request).finish()),
    delta: delta.map((request) => DeltaDiscoveryRequest.encode(request).finish()),
  };
}

/** A stored trust state with an anchor and an issuer. */
export async function trustStateSeeds(): Promise<Uint8Array[]> {
  const { trustDomain, anchor, issuer, anchorKey, issuerKey } = await hierarchy();
  const [anchorCertificate, issuerCertificate] = [parseCertificate(anchor), parseCertificate(issuer)];
  const idOf = (id: Uint8Array | undefined): string => toHex(id ?? new Uint8Array(0));
  const key = (signer: AuthoritySigner, id: string) =>
    ({
      id,
      manager: 'store',
      algorithm: 'ec-p256',
      spki: signer.spki,
      reference: Uint8Array.of(1, 2, 3),
    }) as const;
  const phase = { phase: 'active', phaseSinceMs: NOT_BEFORE_MS, taintedAtMs: null } as const;
  const state: TrustState = {
    trustDomain: trustDomain.name,
    sequence: 1,
    anchors: [
      {
        ...phase,
        id: idOf(anchorCertificate.subjectKeyId),
        certificate: anchor,
        notBeforeMs: anchorCertificate.notBeforeMs,
        notAfterMs: anchorCertificate.notAfterMs,
        upstream: 'self',
        sinceSequence: 1,
        key: key(anchorKey, 'anchor-1'),
      },
    ],
    issuers: [
      {
        ...phase,
        id: idOf(issuerCertificate.subjectKeyId),
        certificate: issuer,
        notBeforeMs: issuerCertificate.notBeforeMs,
        notAfterMs: issuerCertificate.notAfterMs,
        anchorId: idOf(anchorCertificate.subjectKeyId),
        intermediates: [],
        key: key(issuerKey, 'issuer-1'),
      },
    ],
    discardedKeys: [],
    ...NO_ROTATION,
  };
  return [encodeTrustState(state)];
}
