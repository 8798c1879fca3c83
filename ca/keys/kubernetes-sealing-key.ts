import type { Random } from '../../host/random.ts';
import { isKedgeError, KedgeError, quote } from '../../pki/kedge-error.ts';
import { Secret } from '../../pki/secret.ts';
import { OWN_LABELS } from '../kubernetes/cluster-names.ts';
import type { KubernetesApi, ObjectRef } from '../kubernetes/kubernetes-api.ts';
import { type KubernetesObject, SECRET } from '../kubernetes/objects.ts';
import { SEALING_KEY_BYTES } from './sealing-key.ts';

/** The type of the Secret with the sealing key. It cannot be changed once the Secret exists. */
export const SEALING_KEY_SECRET_TYPE = 'kedge.io/sealing-key';
/** Its key in the data. */
const DATA_KEY = 'key';

/** What {@link readOrCreateKubernetesSealingKey} needs. */
export interface KubernetesSealingKeyOptions {
  readonly api: KubernetesApi;
  readonly where: ObjectRef & { readonly namespace: string };
  readonly random: Random;
  /** Whether nothing is sealed yet. With a trust state in place a new key could open nothing, so none is made. */
  readonly mayCreate: boolean;
}

/**
 * Reads the sealing key from its Secret, after making one where there is none and `mayCreate`. Of several replicas that
 * start at once, one makes the key and all read it. The Secret is immutable: it can be deleted, but not edited. The
 * caller owns the key.
 *
 * Throws `sealing_key_invalid`, and what the Kubernetes API throws.
 */
export async function readOrCreateKubernetesSealingKey(
  options: KubernetesSealingKeyOptions,
  signal: AbortSignal,
): Promise<Secret> {
  const { api, where, mayCreate } = options;
  const found = await getOrNull(api, where, signal);
  if (found !== null) return keyOf(found, where);
  if (!mayCreate) throw missing(where);
  await create(options, signal);
  const made = await getOrNull(api, where, signal);
  if (made === null) throw missing(where);
  return keyOf(made, where);
}

async function create(
  { api, where, random }: KubernetesSealingKeyOptions,
  signal: AbortSignal,
): Promise<void> {
  const bytes = random.bytes(SEALING_KEY_BYTES);
  const draft = {
    metadata: {
      ...where,
      labels: { ...OWN_LABELS, 'app.kubernetes.io/component': 'sealing-key' },
    },
    type: SEALING_KEY_SECRET_TYPE,
    immutable: true,
    data: { [DATA_KEY]: Buffer.from(bytes).toString('base64') },
  };
  bytes.fill(0);
  try {
    await api.create(SECRET, draft, { signal });
  } catch (error) {
    // Another replica was faster: its key is the one.
    if (!isKedgeError(error, 'kubernetes_exists')) throw error;
  }
}

async function getOrNull(
  api: KubernetesApi,
  where: ObjectRef,
  signal: AbortSignal,
): Promise<KubernetesObject | null> {
  try {
    return await api.get(SECRET, where, { signal });
  } catch (error) {
    if (isKedgeError(error, 'kubernetes_not_found')) return null;
    throw error;
  }
}

function keyOf(secret: KubernetesObject, where: ObjectRef): Secret {
  if (secret['type'] !== SEALING_KEY_SECRET_TYPE) {
    throw invalid(
      where,
      `is not of the type ${SEALING_KEY_SECRET_TYPE}`,
      'move it out of the way, or name another one',
    );
  }
  const data: unknown = secret['data'];
  const text =
    typeof data === 'object' && data !== null ? (data as Readonly<Record<string, unknown>>)[DATA_KEY] : null;
  const bytes = Buffer.from(typeof text === 'string' ? text : '', 'base64');
  if (bytes.length !== SEALING_KEY_BYTES || bytes.toString('base64') !== text) {
    throw invalid(where, `does not hold ${SEALING_KEY_BYTES} bytes under ${quote(DATA_KEY)}`, RESTORE_HINT);
  }
  return new Secret(bytes);
}

const RESTORE_HINT = 'restore it from its backup: without it the CA keys in the trust state are lost';

function missing(where: ObjectRef): KedgeError {
  return invalid(where, 'does not exist, and there is a trust state whose keys it seals', RESTORE_HINT);
}

function invalid({ namespace, name }: ObjectRef, what: string, hint: string): KedgeError {
  return new KedgeError('sealing_key_invalid', `the Secret ${quote(`${namespace}/${name}`, 320)} ${what}`, {
    hint,
  });
}
