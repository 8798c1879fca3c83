import {
  DeltaDiscoveryResponse,
  DiscoveryResponse,
} from '../../proto/gen/envoy/service/discovery/v3/discovery.ts';
import type { Any } from '../../proto/gen/google/protobuf/any.ts';
import type { SotwRequest } from './sds-request.ts';
import { SECRET_TYPE_URL, type SdsCatalog, type SdsResource } from './sds-resources.ts';
import { resourcesOf, type SdsResponse, subscribedNames } from './sds-stream-state.ts';
import { WILDCARD } from './sds-names.ts';
import type { SdsForm } from './sds-form.ts';

/** `DiscoveryResponse`, the answer of `StreamSecrets`. */
export function encodeSotwResponse({ version, nonce, resources }: SdsResponse): Buffer {
  return asBuffer(
    DiscoveryResponse.encode({
      versionInfo: version,
      resources: resources.map(anyOf),
      typeUrl: SECRET_TYPE_URL,
      nonce,
    }).finish(),
  );
}

/** `DeltaDiscoveryResponse`, the answer of `DeltaSecrets`. */
export function encodeDeltaResponse({ version, nonce, resources, removed }: SdsResponse): Buffer {
  return asBuffer(
    DeltaDiscoveryResponse.encode({
      systemVersionInfo: version,
      resources: resources.map((resource) => ({
        name: resource.name,
        version: resource.version,
        resource: anyOf(resource),
      })),
      typeUrl: SECRET_TYPE_URL,
      nonce,
      removedResources: [...removed],
    }).finish(),
  );
}

/**
 * The answer of `FetchSecrets`: everything that is asked for, in one response without a nonce. Its version is the
 * generation of the snapshot. `form` is that of a client that does not tell of its node.
 *
 * Throws what `SdsCatalog.check` throws.
 */
export function encodeFetchResponse(request: SotwRequest, catalog: SdsCatalog, form: SdsForm): Buffer {
  const names = new Set(request.names);
  const isWildcard = names.delete(WILDCARD) || names.size === 0;
  const asked = request.node?.form ?? form;
  catalog.check(names, asked);
  return encodeSotwResponse({
    version: String(catalog.held.generation),
    nonce: '',
    resources: resourcesOf(subscribedNames({ isWildcard, names }, catalog), catalog, asked),
    removed: [],
  });
}

function anyOf({ secret }: SdsResource): Any {
  return { typeUrl: SECRET_TYPE_URL, value: secret };
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
