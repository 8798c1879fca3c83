import type { Node, NodeMetadataValue } from '../../proto/gen/envoy/config/core/v3/base.ts';

/**
 * How a validation context is written: for Envoy's SPIFFE validator (`envoy.tls.cert_validator.spiffe`), which takes
 * for each trust domain its own anchors, or as plain `trusted_ca`.
 */
export type SdsForm = 'spiffe' | 'plain';

/** The key of the node metadata that wins over the setting, as with SPIRE. */
const DISABLE_KEY = 'disable_spiffe_cert_validation';

/** What Go's strconv.ParseBool takes, as SPIRE does. */
const TRUE_TEXTS: readonly string[] = ['1', 't', 'T', 'TRUE', 'true', 'True'];
const FALSE_TEXTS: readonly string[] = ['0', 'f', 'F', 'FALSE', 'false', 'False'];

/** Envoy has the SPIFFE validator since 1.18. */
const [VALIDATOR_MAJOR, VALIDATOR_MINOR] = [1, 18];

/** Longest name that a client may give itself in reports, in characters. */
const MAX_NODE_NAME = 56;

/**
 * The form for the Envoy that `node` describes.
 *
 * Plain where the node metadata says so, else where the setting says so, or where the node names a version of Envoy
 * below 1.18. A node that names none gets the SPIFFE form: an Envoy that cannot read it says so with a NACK, whereas
 * plain anchors would silently lose the isolation of trust domains.
 */
export function formOf(node: Node, isValidatorDisabled: boolean): SdsForm {
  const isDisabled = booleanOf(node.metadata?.fields[DISABLE_KEY]) ?? isValidatorDisabled;
  return isDisabled || isOlderThanValidator(node) ? 'plain' : 'spiffe';
}

function booleanOf(value: NodeMetadataValue | undefined): boolean | null {
  const { kind } = value ?? {};
  if (kind?.$case === 'boolValue') return kind.value;
  if (kind?.$case !== 'stringValue') return null;
  if (TRUE_TEXTS.includes(kind.value)) return true;
  return FALSE_TEXTS.includes(kind.value) ? false : null;
}

function isOlderThanValidator({ userAgentVersionType }: Node): boolean {
  if (userAgentVersionType?.$case !== 'userAgentBuildVersion') return false;
  const { version } = userAgentVersionType.value;
  if (version === undefined) return false;
  const { majorNumber, minorNumber } = version;
  return majorNumber < VALIDATOR_MAJOR || (majorNumber === VALIDATOR_MAJOR && minorNumber < VALIDATOR_MINOR);
}

/** The node's own id as it may stand in a report: printable ASCII, bounded; empty = it gave none. */
export function nodeNameOf({ id }: Node): string {
  // Through bytes, so that the short name does not keep a long string alive.
  return Buffer.from(id.slice(0, MAX_NODE_NAME).replace(/[^!-~]/g, '_'), 'latin1').toString('latin1');
}
