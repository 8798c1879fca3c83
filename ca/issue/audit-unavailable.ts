import { isKedgeError, KedgeError } from '../../pki/kedge-error.ts';

const HINTS: ReadonlyMap<string, string> = new Map([
  ['ENOSPC', 'the disk is full: free some room, the CA goes on by itself'],
  ['EDQUOT', 'the disk quota is used up: free some room, the CA goes on by itself'],
  ['EROFS', 'the file system is read-only: mount it writable, the CA goes on by itself'],
  ['EACCES', 'the CA may not write the audit log: correct the owner and mode of its folder'],
  ['EPERM', 'the CA may not write the audit log: correct the owner and mode of its folder'],
  ['ENOENT', 'the folder of the audit log is gone: put it back'],
]);

/** The refusal of everything that had to be on the audit log, which could not be written. */
export function unavailable(cause: unknown): KedgeError {
  const errno =
    cause instanceof Error && 'code' in cause && typeof cause.code === 'string' ? cause.code : null;
  const reason = isKedgeError(cause) ? cause.message : (errno ?? 'unknown error');
  return new KedgeError('audit_unavailable', `the audit log cannot be written: ${reason}`, {
    hint: HINTS.get(errno ?? '') ?? 'nothing is issued until it can be; the log of the CA has the cause',
    cause,
    retryAfterMs: 5_000,
  });
}
