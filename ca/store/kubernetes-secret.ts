import { createHash } from 'node:crypto';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { membersOf } from '../kubernetes/api-answer.ts';
import { MANAGED_BY, OWN_LABELS } from '../kubernetes/cluster-names.ts';
import type { Version, VersionedDocument } from './trust-store.ts';

/**
 * The trust state as a Kubernetes Secret, and back. Pure.
 *
 * `document` holds the bytes, `sha256` their digest, `layout` how all of this is laid out, and `tag` is random per
 * write: an update that changes nothing keeps its resourceVersion (the API server writes nothing), and a cluster that
 * was restored from a backup of etcd may give one twice.
 */

/** The type of the Secret. It cannot be changed once the Secret exists (core/v1 Secret, `type`). */
export const TRUST_SECRET_TYPE = 'kedge.io/trust-state';

/** Version of the layout of the Secret's data. */
const LAYOUT = 1;
const TAG = /^[0-9a-f]{16}$/;
const UID = /^[0-9a-zA-Z-]{1,64}$/;
/** Opaque to clients (API conventions, "Concurrency control and consistency"); decimal digits in practice. */
const RESOURCE_VERSION = /^[0-9a-zA-Z._-]{1,64}$/;

/** Where an object is. */
export interface ObjectName {
  readonly namespace: string;
  readonly name: string;
}

/** What a {@link Version} of the Secret is made of: the object, the write, and what the API server calls it. */
export interface SecretVersion {
  readonly uid: string;
  readonly tag: string;
  readonly resourceVersion: string;
}

/** The Secret that holds `document`; `expected` makes it replace that version, null a new one. */
export function trustSecret(
  { namespace, name }: ObjectName,
  document: Uint8Array,
  tag: string,
  expected: SecretVersion | null,
): Readonly<Record<string, unknown>> {
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: {
      namespace,
      name,
      labels: { ...OWN_LABELS, 'app.kubernetes.io/component': 'trust-state' },
      ...(expected === null ? {} : { uid: expected.uid, resourceVersion: expected.resourceVersion }),
    },
    type: TRUST_SECRET_TYPE,
    data: {
      document: base64(document),
      sha256: base64(Buffer.from(sha256(document))),
      layout: base64(Buffer.from(String(LAYOUT))),
      tag: base64(Buffer.from(tag)),
    },
  };
}

/**
 * Reads the Secret as the API server gave it. Throws `store_corrupt` for one that is not ours, or was edited or cut
 * off; `store_newer_version` for one of a newer Kedge.
 */
export function readTrustSecret(object: unknown, where: ObjectName): VersionedDocument {
  const secret = membersOf(object);
  const metadata = membersOf(secret['metadata']);
  const name = secretText(where);
  if (secret['type'] !== TRUST_SECRET_TYPE || membersOf(metadata['labels'])[MANAGED_BY] !== 'kedge') {
    throw new KedgeError('store_corrupt', `${name} is there, but is not a trust state of Kedge`, {
      hint: `its type must be ${TRUST_SECRET_TYPE} and its label ${MANAGED_BY} kedge; it was not changed: name another one in store.secret, or move it out of the way`,
    });
  }
  const data = membersOf(secret['data']);
  const layout = text(data['layout']);
  if (layout !== null && /^\d{1,9}$/.test(layout) && Number(layout) > LAYOUT) {
    throw new KedgeError(
      'store_newer_version',
      `${name} has layout ${layout}, this Kedge knows up to ${LAYOUT}`,
      {
        hint: 'run the newer Kedge that wrote it, or restore a backup from before the upgrade',
      },
    );
  }
  const document = bytes(data['document']);
  const tag = text(data['tag']) ?? '';
  if (layout !== String(LAYOUT) || document === null || !TAG.test(tag)) {
    throw damaged(name, 'a key of its data is missing or not in the form that Kedge writes');
  }
  if (text(data['sha256']) !== sha256(document))
    throw damaged(name, 'the document differs from its checksum');
  const version = versionOf(object, tag);
  if (version === null) throw damaged(name, 'it has no uid or resourceVersion');
  return { version: formatVersion(version), document };
}

/** The version of a Secret that the API server has just stored. Throws `store_corrupt` when the answer names none. */
export function storedVersion(object: unknown, tag: string, where: ObjectName): Version {
  const version = versionOf(object, tag);
  if (version === null)
    throw damaged(secretText(where), 'the API server stored it without uid or resourceVersion');
  return formatVersion(version);
}

/** Reads a version back; null for what can be no version of a Secret. */
export function parseSecretVersion(version: Version): SecretVersion | null {
  const [uid = '', tag = '', resourceVersion = '', ...rest] = version.split('/');
  return rest.length === 0 && UID.test(uid) && TAG.test(tag) && RESOURCE_VERSION.test(resourceVersion)
    ? { uid, tag, resourceVersion }
    : null;
}

/** What to do about a Secret that is damaged. */
export const RESTORE_SECRET_HINT =
  'apply a backup of the Secret; CAs that run go on with the state they have in memory, agents with the SVIDs they hold';

/** The Secret, for messages. */
export function secretText({ namespace, name }: ObjectName): string {
  return `the Secret ${quote(`${namespace}/${name}`, 320)}`;
}

function damaged(name: string, what: string): KedgeError {
  return new KedgeError('store_corrupt', `${name} is damaged: ${what}`, { hint: RESTORE_SECRET_HINT });
}

function formatVersion({ uid, tag, resourceVersion }: SecretVersion): Version {
  return `${uid}/${tag}/${resourceVersion}`;
}

function versionOf(object: unknown, tag: string): SecretVersion | null {
  const metadata = membersOf(membersOf(object)['metadata']);
  const { uid, resourceVersion } = metadata;
  return typeof uid === 'string' &&
    typeof resourceVersion === 'string' &&
    UID.test(uid) &&
    RESOURCE_VERSION.test(resourceVersion)
    ? { uid, tag, resourceVersion }
    : null;
}

/** Standard base64 and nothing else, as the API server writes it; null for anything else. */
function bytes(value: unknown): Uint8Array | null {
  if (typeof value !== 'string') return null;
  const decoded = Buffer.from(value, 'base64');
  return decoded.toString('base64') === value ? new Uint8Array(decoded) : null;
}

function text(value: unknown): string | null {
  const decoded = bytes(value);
  return decoded === null ? null : Buffer.from(decoded).toString('latin1');
}

function base64(data: Uint8Array): string {
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('base64');
}

/** Lower-case hex. */
function sha256(data: Uint8Array): string {
  return createHash('sha256').update(data).digest('hex');
}
