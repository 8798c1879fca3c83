import type { UpstreamKind } from '../upstream/upstream-authority.ts';
import type { NewAnchor } from './transitions.ts';

/** What the lifecycle knows of the upstream authorities that are configured, at one moment. Never mutated. */
export interface UpstreamSight {
  /** The one that is to hold the anchor. */
  readonly kind: UpstreamKind;
  /** Whether it gives issuers with their keys, instead of minting them. */
  readonly givesIssuers: boolean;
  /** The kinds of anchors under which an issuer can be had: that of `kind`, and of former ones still configured. */
  readonly mintable: readonly UpstreamKind[];
  /** Its anchor, checked, where that is not one of the trust state; null: none, or it is not known. */
  readonly offered: NewAnchor | null;
  /** Ids of the anchors under which it gives an issuer that is not in the trust state. */
  readonly issuerUnder: readonly string[];
}

/** An upstream of our own: it makes an anchor when it is asked, and offers none. */
export const SELF_SIGHT: UpstreamSight = {
  kind: 'self',
  givesIssuers: false,
  mintable: ['self'],
  offered: null,
  issuerUnder: [],
};
