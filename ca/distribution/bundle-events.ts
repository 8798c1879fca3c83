import type { ObjectEvent } from '../kubernetes/event-recorder.ts';

/** What is said on a ConfigMap or ClusterTrustBundle with our name. */
export interface BundleEvents {
  /** It was edited, and was put back. */
  readonly repaired: ObjectEvent;
  /** It is somebody else's. */
  readonly foreign: ObjectEvent;
}

const REPAIRED = { type: 'Warning', reason: 'KedgeTrustBundleRepaired' } as const;
const FOREIGN = { type: 'Warning', reason: 'KedgeTrustBundleForeign' } as const;

export const CONFIG_MAP_EVENTS: BundleEvents = {
  repaired: {
    ...REPAIRED,
    message:
      'this ConfigMap was edited, and Kedge has put the trust bundle back; its content follows the trust anchors of the CA',
  },
  foreign: {
    ...FOREIGN,
    message:
      'this ConfigMap is not managed by Kedge, so that Kedge leaves it alone: agents in this namespace cannot start from it. Rename it, and Kedge makes its own',
  },
};

export const CLUSTER_TRUST_BUNDLE_EVENTS: BundleEvents = {
  repaired: {
    ...REPAIRED,
    message: 'this ClusterTrustBundle was edited, and Kedge has put the trust bundle back',
  },
  foreign: {
    ...FOREIGN,
    message:
      'this ClusterTrustBundle is not managed by this Kedge, so that Kedge leaves it alone: rename it, and Kedge makes its own',
  },
};
