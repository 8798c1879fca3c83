import { verifySignature } from '../../pki/public-key.ts';
import { schemeOf } from '../../pki/algorithms.ts';
import { parseCertificate } from '../../pki/certificate.ts';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { svidTemplate } from '../../pki/x509-svid-profile.ts';
import type { SigningIssuer } from '../issue/signing-issuer.ts';
import type { KeyManager } from '../keys/key-manager.ts';
import type { Issuer, TrustState } from './trust-state.ts';

/** The trust bundle of one trust domain, as peers are to hold it. */
export interface BundleView {
  /** Trust domain name, no scheme. */
  readonly trustDomain: string;
  readonly sequence: number;
  /** The anchors, DER, in the order in which they came. */
  readonly x509Authorities: readonly Uint8Array[];
}

/** The trust state as this process uses it at one moment. Frozen; a change makes another one. */
export interface TrustView {
  readonly state: TrustState;
  readonly bundle: BundleView;
  /** Null while no issuer may sign. */
  readonly signingIssuer: SigningIssuer | null;
}

/** The view of a state. */
export function trustView(state: TrustState, signingIssuer: SigningIssuer | null): TrustView {
  const bundle: BundleView = Object.freeze({
    trustDomain: state.trustDomain,
    sequence: state.sequence,
    x509Authorities: Object.freeze(state.anchors.map(({ certificate }) => certificate)),
  });
  return Object.freeze({ state, bundle, signingIssuer });
}

const PROBE = Buffer.from('kedge signs this to see whether a key works');

/**
 * Gets an issuer ready to sign: its key is opened, and tried. Throws the key manager's errors, `key_not_found` when
 * the key answers and its signature is not of the issuer, and `authority_unusable`.
 */
export async function signingIssuerOf(issuer: Issuer, keys: KeyManager): Promise<SigningIssuer> {
  const issuerCertificate = parseCertificate(issuer.certificate, 'authority_unusable');
  const signer = await keys.signer(issuer.key);
  const template = svidTemplate({ issuerCertificate, algorithm: signer.algorithm });
  const signature = await signer.sign(PROBE);
  const scheme = schemeOf(signer.algorithm);
  if (!verifySignature(scheme, issuerCertificate.spki, PROBE, signature, 'authority_unusable')) {
    throw new KedgeError('key_not_found', `the key ${quote(issuer.key.id)} is not the one of its issuer`, {
      hint: 'the key manager holds another key under this name: restore it',
    });
  }
  return Object.freeze({ issuer, signer, template, chain: [issuer.certificate, ...issuer.intermediates] });
}
