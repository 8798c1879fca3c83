import { isKedgeError } from '../pki/kedge-error.ts';
import { isoTime } from './iso-time.ts';

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** What a log line may hold beside its event name. A `Secret` prints as `[redacted]`. */
export type LogFields = Readonly<Record<string, unknown>>;

/**
 * A log of JSON lines: `{"time":..., "level":..., "event":"issuer.activated", ...fields}`.
 *
 * Event names are fixed, `noun.verb`, never built from input. Fields never hold a token, key or CSR.
 */
export interface Log {
  debug(event: string, fields?: LogFields): void;
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
}

/** What {@link jsonLog} is made of. */
export interface JsonLogOptions {
  /** Lines below this level are dropped. */
  readonly level: LogLevel;
  /** Takes one line, newline included. */
  readonly write: (line: string) => void;
  /** Wall clock, milliseconds since the Unix epoch. */
  readonly now: () => number;
}

/** A {@link Log} that writes JSON lines. */
export function jsonLog(options: JsonLogOptions): Log {
  const threshold = LOG_LEVELS.indexOf(options.level);
  const at =
    (level: LogLevel) =>
    (event: string, fields: LogFields = {}): void => {
      if (LOG_LEVELS.indexOf(level) < threshold) return;
      const line = { time: isoTime(options.now()), level, event, ...fields };
      options.write(`${JSON.stringify(line, printable)}\n`);
    };
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

/** A {@link Log} that drops everything. */
export const silentLog: Log = { debug() {}, info() {}, warn() {}, error() {} };

/** An error as log fields: its code, message and hint, the causes beneath it, and the stack of an unknown one. */
export function errorFields(error: unknown, depth = 0): LogFields {
  if (!(error instanceof Error)) return { message: String(error) };
  const cause = error.cause === undefined || depth >= 4 ? {} : { cause: errorFields(error.cause, depth + 1) };
  if (isKedgeError(error)) {
    return {
      code: error.code,
      message: error.message,
      hint: error.hint,
      retryAfterMs: error.retryAfterMs,
      ...cause,
    };
  }
  return { message: error.message, stack: error.stack, ...cause };
}

function printable(_key: string, value: unknown): unknown {
  if (value instanceof Error) return errorFields(value);
  if (typeof value === 'bigint') return value.toString();
  if (value instanceof Uint8Array) return `[${value.length} bytes]`;
  return value;
}
