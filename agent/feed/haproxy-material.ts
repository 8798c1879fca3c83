import { hash } from 'node:crypto';
import { encodePem } from '../../pki/pem.ts';
import type { IdentitySnapshot } from '../snapshot.ts';

/** A part of what HAProxy holds: its PEM, and what it can be recognized by. */
export interface MaterialPart {
  /** PEM blocks, each with its line end. */
  readonly blocks: readonly string[];
  /** Of `cert` and `ca-file`: SHA-1 of the leaf, or of each CA, hex in capitals as HAProxy prints it. */
  readonly fingerprints: readonly string[];
}

/** All that a HAProxy is to hold at one moment. Immutable; holds a private key. */
export interface HaproxyMaterial {
  /** The snapshot that it was made of; null = the placeholder. */
  readonly snapshot: IdentitySnapshot | null;
  /** Chain, leaf first, then the private key. */
  readonly certificate: MaterialPart;
  readonly authorities: MaterialPart;
  readonly crls: MaterialPart;
}

/** What a placeholder consists of, and what stands in for CRLs while there are none. DER. */
export interface PlaceholderDer {
  readonly chain: readonly Uint8Array[];
  readonly privateKey: Uint8Array;
  readonly authorities: readonly Uint8Array[];
  /** CRL of an issuer that issues nothing. */
  readonly crl: Uint8Array;
}

/** The material of a snapshot. `noCrl` stands in where the bundle has no CRL: HAProxy takes no empty CRL file. */
export function materialOf(snapshot: IdentitySnapshot, noCrl: Uint8Array): HaproxyMaterial {
  const { svid, bundle } = snapshot;
  return {
    snapshot,
    certificate: certificatePart(svid.chain, svid.privateKey.expose()),
    authorities: authoritiesPart(bundle.x509Authorities),
    crls: crlsPart(bundle.crls.length > 0 ? bundle.crls : [noCrl]),
  };
}

/** The material of a HAProxy that is to serve no identity. */
export function placeholderMaterial(placeholder: PlaceholderDer): HaproxyMaterial {
  return {
    snapshot: null,
    certificate: certificatePart(placeholder.chain, placeholder.privateKey),
    authorities: authoritiesPart(placeholder.authorities),
    crls: crlsPart([placeholder.crl]),
  };
}

function certificatePart(chain: readonly Uint8Array[], privateKey: Uint8Array): MaterialPart {
  const blocks = chain.map((der) => encodePem('CERTIFICATE', der));
  return {
    blocks: [...blocks, encodePem('PRIVATE KEY', privateKey)],
    fingerprints: chain.slice(0, 1).map(sha1),
  };
}

function authoritiesPart(authorities: readonly Uint8Array[]): MaterialPart {
  return {
    blocks: authorities.map((der) => encodePem('CERTIFICATE', der)),
    fingerprints: authorities.map(sha1),
  };
}

function crlsPart(crls: readonly Uint8Array[]): MaterialPart {
  return { blocks: crls.map((der) => encodePem('X509 CRL', der)), fingerprints: [] };
}

/** The fingerprint that HAProxy prints. It tells certificates of our own apart; nothing is trusted for it. */
function sha1(der: Uint8Array): string {
  return hash('sha1', der, 'hex').toUpperCase();
}
