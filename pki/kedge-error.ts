import { ERROR_TABLE, type ErrorCode, type ErrorSpec } from './error-table.ts';

/** What a {@link KedgeError} is made of. */
export interface KedgeErrorOptions {
  /** What to do about it: one sentence, lower case, no full stop. */
  readonly hint?: string;
  /** The error beneath, for the log only. */
  readonly cause?: unknown;
  /** Milliseconds after which a retry may succeed. */
  readonly retryAfterMs?: number;
}

/**
 * The one error type of Kedge.
 *
 * `message` says what was wrong, with the offending value bounded and quoted (see {@link quote}); it never holds
 * a token, a key or a CSR. `hint` says what to do.
 */
export class KedgeError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly retryAfterMs: number | undefined;

  constructor(code: ErrorCode, message: string, options: KedgeErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'KedgeError';
    this.code = code;
    this.hint = options.hint;
    this.retryAfterMs = options.retryAfterMs;
  }

  /** The row of the error table. */
  get spec(): ErrorSpec {
    return ERROR_TABLE[this.code];
  }
}

/** True when `error` is a {@link KedgeError}, and of one of `codes` where any are given. */
export function isKedgeError(error: unknown, ...codes: readonly ErrorCode[]): error is KedgeError {
  return error instanceof KedgeError && (codes.length === 0 || codes.includes(error.code));
}

/**
 * A value as it may stand in a message: JSON-quoted, non-ASCII and control characters escaped, cut at `limit`
 * characters.
 */
export function quote(value: string, limit = 80): string {
  const cut = value.length > limit ? `${value.slice(0, limit)}...` : value;
  return JSON.stringify(cut).replace(
    /[\u007f-\uffff]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
