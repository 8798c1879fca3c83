import type { Coverage, LiveInstance } from '../../ca/authority/coverage.ts';

/** A live instance that holds nothing, but for what is said. Its name is `shop/cart-<id>`. */
export function liveInstance(over: Partial<LiveInstance> & { readonly id: string }): LiveInstance {
  return {
    name: `shop/cart-${over.id}`,
    bundleSequence: 0,
    authorityKeyId: null,
    svidNotAfterMs: 0,
    confirmed: true,
    proven: false,
    ...over,
  };
}

/** What these hold, and that they are all. */
export function coverageOfAll(
  ...instances: readonly (Partial<LiveInstance> & { readonly id: string })[]
): Coverage {
  return { instances: instances.map(liveInstance), complete: true, unknown: '' };
}
