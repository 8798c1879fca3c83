/** SDS catalogs of real snapshots, and requests as a client would mean them. */
import { DEFAULT_SDS_NAMES, type SdsNames } from '../../agent/feed/sds-names.ts';
import type { DeltaRequest, SotwRequest } from '../../agent/feed/sds-request.ts';
import { SdsCatalog } from '../../agent/feed/sds-resources.ts';
import type { IdentitySnapshot } from '../../agent/snapshot.ts';

export function catalogOf(snapshot: IdentitySnapshot, names: SdsNames = DEFAULT_SDS_NAMES): SdsCatalog {
  return new SdsCatalog(snapshot, names);
}

export function sotwRequest(
  names: readonly string[],
  more: Partial<Omit<SotwRequest, 'names'>> = {},
): SotwRequest {
  return { node: null, names: new Set(names), version: '', nonce: '', nack: null, ...more };
}

export function deltaRequest({
  subscribe = [],
  unsubscribe = [],
  initialVersions = {},
  ...more
}: {
  subscribe?: readonly string[];
  unsubscribe?: readonly string[];
  initialVersions?: Readonly<Record<string, string>>;
} & Partial<Pick<DeltaRequest, 'node' | 'nonce' | 'nack'>> = {}): DeltaRequest {
  return {
    node: null,
    nonce: '',
    nack: null,
    ...more,
    subscribe: new Set(subscribe),
    unsubscribe: new Set(unsubscribe),
    initialVersions: new Map(Object.entries(initialVersions)),
  };
}
