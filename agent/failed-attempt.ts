import type { ErrorCode } from '../pki/error-table.ts';
import { isKedgeError } from '../pki/kedge-error.ts';

/** Why the newest attempt to get an SVID failed, for whoever asks. */
export interface FailedAttempt {
  readonly code: ErrorCode;
  /** Message and hint; at most 512 characters. */
  readonly message: string;
}

const MESSAGE_CHARS = 512;

/** An error of an attempt as it may be shown. One that is no KedgeError is a mistake in Kedge, and only in the log. */
export function failedAttempt(error: unknown): FailedAttempt {
  if (!isKedgeError(error)) return { code: 'internal', message: 'see the log of the agent' };
  const text = error.hint === undefined ? error.message : `${error.message}; ${error.hint}`;
  const message = text.length > MESSAGE_CHARS ? `${text.slice(0, MESSAGE_CHARS - 3)}...` : text;
  return { code: error.code, message: message.toWellFormed() };
}
