import { isKedgeError, KedgeError } from '../../pki/kedge-error.ts';
import { type ObjectName, RESTORE_SECRET_HINT, secretText } from './kubernetes-secret.ts';

/**
 * An error of the Kubernetes API as `store_unavailable`, which may pass; its hint, such as the RBAC rule that is
 * missing, stays. Errors of the store itself, and the reason of a signal, come back as they are.
 */
export function kubernetesStoreError(error: unknown, where: ObjectName): unknown {
  if (!isKedgeError(error)) return error;
  if (!error.code.startsWith('kubernetes_') && error.code !== 'deadline_exceeded') return error;
  return new KedgeError(
    'store_unavailable',
    `the trust store, ${secretText(where)}, cannot be used: ${error.message}`,
    {
      cause: error,
      hint: error.hint ?? 'the CA goes on with the trust state that it has read, and tries again',
      ...(error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs }),
    },
  );
}

/** The refusal of a trust state that was deleted. */
export function deleted(where: ObjectName): KedgeError {
  return new KedgeError(
    'store_corrupt',
    `${secretText(where)} was deleted: the ConfigMap of that name marks it`,
    {
      hint: `${RESTORE_SECRET_HINT}; to begin anew, with new trust anchors, delete the ConfigMap too`,
    },
  );
}

/** Another writer was first. */
export function conflict(cause?: unknown): KedgeError {
  return new KedgeError('store_conflict', 'the trust state was changed by another writer', { cause });
}

/** Whoever reads or waits while the store is closed. */
export function closed(): KedgeError {
  return new KedgeError('store_unavailable', 'the trust store is closed');
}
