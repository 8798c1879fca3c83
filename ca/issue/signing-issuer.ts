import type { SvidTemplate } from '../../pki/x509-svid-profile.ts';
import type { Issuer } from '../authority/trust-state.ts';
import type { Signer } from '../keys/key-manager.ts';

/** The one issuer that signs at this moment, with what signing under it needs. Never mutated. */
export interface SigningIssuer {
  readonly issuer: Issuer;
  readonly signer: Signer;
  /** Precomputed from the issuer's certificate and the signer's algorithm. */
  readonly template: SvidTemplate;
  /** What follows the SVID on the wire: the issuer's certificate, then up to, but without, the anchor. DER. */
  readonly chain: readonly Uint8Array[];
}

/** The issuer that signs now; null while there is none. Cheap: it is asked for each SVID. */
export type SigningIssuerProvider = () => SigningIssuer | null;
