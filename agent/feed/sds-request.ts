import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import type { Node } from '../../proto/gen/envoy/config/core/v3/base.ts';
import {
  DeltaDiscoveryRequest,
  DiscoveryRequest,
} from '../../proto/gen/envoy/service/discovery/v3/discovery.ts';
import type { Status } from '../../proto/gen/google/rpc/status.ts';
import { formOf, nodeNameOf, type SdsForm } from './sds-form.ts';
import { nackReasonOf } from './sds-nack.ts';
import { refuseIstioName } from './sds-names.ts';
import { SECRET_TYPE_URL } from './sds-resources.ts';

/** What of a client's `Node` matters here. */
export interface SdsNode {
  /** Printable ASCII, bounded; empty = it gave none. */
  readonly name: string;
  readonly form: SdsForm;
}

/** A request of the state-of-the-world protocol, checked. */
export interface SotwRequest {
  /** Null: left out, so the node of an earlier request goes on to count. */
  readonly node: SdsNode | null;
  /** Without empty ones, each once. */
  readonly names: ReadonlySet<string>;
  /** The `version_info` that the client says it uses. */
  readonly version: string;
  /** The nonce of the response that this answers; empty = of none. */
  readonly nonce: string;
  /** Why the client refused that response, fit for a log; null = it did not. */
  readonly nack: string | null;
}

/** A request of the delta protocol, checked. */
export interface DeltaRequest extends Omit<SotwRequest, 'names' | 'version'> {
  readonly subscribe: ReadonlySet<string>;
  readonly unsubscribe: ReadonlySet<string>;
  /** By resource name, the version that the client has from an earlier stream. */
  readonly initialVersions: ReadonlyMap<string, string>;
}

/** A version as `sds-resources.ts` makes them; what else a client names it does not have from here. */
const VERSION = /^[0-9a-f]{32}$/;
const NOT_OURS = 'not ours';

/**
 * Reads and checks a `DiscoveryRequest` for secrets. `isValidatorDisabled`: the setting.
 *
 * Throws `message_too_large`, `message_malformed`, `sds_type_url_unsupported`, `sds_names_exceeded` or
 * `sds_name_unsupported`.
 */
export function readSotwRequest(bytes: Uint8Array, isValidatorDisabled: boolean): SotwRequest {
  const message = decode(DiscoveryRequest, bytes);
  checkTypeUrl(message.typeUrl);
  checkNoLocators(message.resourceLocators);
  checkCount(message.resourceNames);
  return {
    node: nodeOf(message.node, isValidatorDisabled),
    names: namesOf(message.resourceNames),
    version: message.versionInfo,
    nonce: message.responseNonce,
    nack: nackOf(message.errorDetail),
  };
}

/** The same for a `DeltaDiscoveryRequest`. */
export function readDeltaRequest(bytes: Uint8Array, isValidatorDisabled: boolean): DeltaRequest {
  const message = decode(DeltaDiscoveryRequest, bytes);
  const { resourceNamesSubscribe, resourceNamesUnsubscribe } = message;
  const initial = Object.entries(message.initialResourceVersions);
  checkTypeUrl(message.typeUrl);
  checkNoLocators([...message.resourceLocatorsSubscribe, ...message.resourceLocatorsUnsubscribe]);
  checkCount(resourceNamesSubscribe);
  checkCount(resourceNamesUnsubscribe);
  checkCount(initial.map(([name]) => name));
  return {
    node: nodeOf(message.node, isValidatorDisabled),
    subscribe: namesOf(resourceNamesSubscribe),
    unsubscribe: namesOf(resourceNamesUnsubscribe),
    initialVersions: new Map(
      initial.map(([name, version]) => [name, VERSION.test(version) ? version : NOT_OURS]),
    ),
    nonce: message.responseNonce,
    nack: nackOf(message.errorDetail),
  };
}

function decode<T>(codec: { decode(bytes: Uint8Array): T }, bytes: Uint8Array): T {
  if (bytes.length > LIMITS.sdsRequestBytes) {
    throw new KedgeError(
      'message_too_large',
      `an SDS request has ${bytes.length} bytes, ${LIMITS.sdsRequestBytes} are allowed`,
      { hint: 'set set_node_on_first_message_only, and keep the node metadata small' },
    );
  }
  try {
    return codec.decode(bytes);
  } catch (cause) {
    throw new KedgeError('message_malformed', 'the SDS request is not valid protobuf', {
      cause,
      hint: 'send envoy.service.discovery.v3.DiscoveryRequest, for DeltaSecrets DeltaDiscoveryRequest',
    });
  }
}

/** An empty type URL means the one that the service has. */
function checkTypeUrl(typeUrl: string): void {
  if (typeUrl === '' || typeUrl === SECRET_TYPE_URL) return;
  throw new KedgeError('sds_type_url_unsupported', `the agent does not serve ${quote(typeUrl, 120)}`, {
    hint: `ask for ${SECRET_TYPE_URL}; other resources come from the control plane of the mesh`,
  });
}

/** Skipped, a request that has locators alone would ask for everything. */
function checkNoLocators(locators: readonly unknown[]): void {
  if (locators.length === 0) return;
  throw new KedgeError('sds_name_unsupported', 'the SDS request names resources by resource_locators', {
    hint: 'name them in resource_names',
  });
}

function checkCount(names: readonly string[]): void {
  const { sdsResourceNames, sdsNameChars } = LIMITS;
  if (names.length > sdsResourceNames) throw namesExceeded(names.length);
  const long = names.find((name) => name.length > sdsNameChars);
  if (long !== undefined) {
    throw new KedgeError(
      'message_too_large',
      `an SDS resource name has ${long.length} characters, ${sdsNameChars} are allowed`,
      { hint: 'ask for the names that this workload has; a SPIFFE ID has at most 2048 characters' },
    );
  }
  checkNameChars(names);
}

/** Throws `message_too_large` where names are too long together: they are kept while there is no identity. */
export function checkNameChars(names: Iterable<string>): void {
  let characters = 0;
  for (const name of names) characters += name.length;
  if (characters <= LIMITS.sdsNamesChars) return;
  throw new KedgeError(
    'message_too_large',
    `the names that are asked for over SDS have ${characters} characters, ${LIMITS.sdsNamesChars} are allowed`,
    { hint: 'ask for the names that this workload has' },
  );
}

/** What a stream that asks for `count` names is refused with. */
export function namesExceeded(count: number): KedgeError {
  return new KedgeError(
    'sds_names_exceeded',
    `${count} SDS resource names are asked for, ${LIMITS.sdsResourceNames} are allowed`,
    { hint: 'ask for the names that this workload has; without a name everything is sent' },
  );
}

function namesOf(names: readonly string[]): ReadonlySet<string> {
  const set = new Set(names);
  set.delete('');
  for (const name of set) refuseIstioName(name);
  return set;
}

function nodeOf(node: Node | undefined, isValidatorDisabled: boolean): SdsNode | null {
  if (node === undefined) return null;
  return { name: nodeNameOf(node), form: formOf(node, isValidatorDisabled) };
}

function nackOf(errorDetail: Status | undefined): string | null {
  return errorDetail === undefined ? null : nackReasonOf(errorDetail.message);
}
