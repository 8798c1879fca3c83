import type { UpstreamKind } from './upstream-authority.ts';

/** The upstream authorities that can be configured. */
export const UPSTREAM_KINDS = ['self', 'disk', 'vault', 'kedge'] as const satisfies readonly UpstreamKind[];
