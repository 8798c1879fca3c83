import { X509BundlesResponse, X509SVIDResponse } from '../../proto/gen/spiffe/workload.ts';
import type { IdentitySnapshot } from '../snapshot.ts';

/** The two messages of the Workload API's X.509 part for one snapshot, encoded once and shared by all streams. */
export interface WorkloadApiMessages {
  /** `X509SVIDResponse`, with the private key. */
  readonly x509Svid: Buffer;
  /** `X509BundlesResponse`. */
  readonly x509Bundles: Buffer;
}

/** Encodes a snapshot as SPIFFE_Workload_API.md sections 5.2.1 and 5.2.2 have it. */
export function encodeMessages(snapshot: IdentitySnapshot): WorkloadApiMessages {
  const { svid, bundle } = snapshot;
  const authorities = concat(bundle.x509Authorities);
  const crl = [...bundle.crls];
  const x509Svid = X509SVIDResponse.encode({
    svids: [
      {
        spiffeId: svid.spiffeId.toString(),
        x509Svid: concat(svid.chain),
        x509SvidKey: svid.privateKey.expose(),
        bundle: authorities,
        hint: '',
      },
    ],
    crl,
    federatedBundles: {},
  }).finish();
  const x509Bundles = X509BundlesResponse.encode({
    crl,
    bundles: { [bundle.trustDomain.id]: authorities },
  }).finish();
  return { x509Svid: asBuffer(x509Svid), x509Bundles: asBuffer(x509Bundles) };
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(parts);
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
