import type { Secret } from '../pki/secret.ts';
import type { SpiffeId, TrustDomain } from '../pki/spiffe-id.ts';

/** The authorities of one trust domain, as the agent last heard. Certificates and CRLs are DER. */
export interface BundleSnapshot {
  readonly trustDomain: TrustDomain;
  readonly sequence: bigint;
  readonly refreshHintSeconds: number;
  readonly x509Authorities: readonly Uint8Array[];
  readonly crls: readonly Uint8Array[];
}

/** One X.509-SVID with its private key. */
export interface SvidSnapshot {
  readonly spiffeId: SpiffeId;
  /** DER, leaf first, no anchor. */
  readonly chain: readonly Uint8Array[];
  /** PKCS#8 DER, not encrypted. */
  readonly privateKey: Secret;
  /** Big endian, as in the certificate. */
  readonly serialNumber: Uint8Array;
  readonly authorityKeyId: Uint8Array;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** All that a proxy needs at one moment. Immutable; a newer one replaces it whole. */
export interface IdentitySnapshot {
  /** Grows by one with each snapshot of this agent process. */
  readonly generation: number;
  readonly svid: SvidSnapshot;
  readonly bundle: BundleSnapshot;
}

/** Names a snapshot and what a gate asks of it; holds no key, so that it may outlive the SVID. */
export interface HeldSnapshot {
  readonly generation: number;
  readonly bundleSequence: bigint;
  /** Of the SVID: big endian, as in the certificate. */
  readonly serialNumber: Uint8Array;
  readonly authorityKeyId: Uint8Array;
  readonly notAfterMs: number;
}

/** What a consumer holds that was given this snapshot. */
export function heldSnapshot({ generation, svid, bundle }: IdentitySnapshot): HeldSnapshot {
  const { serialNumber, authorityKeyId, notAfterMs } = svid;
  return { generation, bundleSequence: bundle.sequence, serialNumber, authorityKeyId, notAfterMs };
}
