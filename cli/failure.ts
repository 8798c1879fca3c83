import type { ErrorCode } from '../pki/error-table.ts';
import { isKedgeError } from '../pki/kedge-error.ts';
import type { ExitCode, OutputFormat } from './command.ts';

/** Codes that say that the command line or a configuration is wrong, not that the answer is no. */
const USAGE_CODES: readonly ErrorCode[] = ['usage_invalid', 'config_invalid', 'file_unreadable'];

/** The exit code of an error that ended a command. */
export function exitCodeOf(error: unknown): ExitCode {
  return isKedgeError(error, ...USAGE_CODES) ? 2 : 1;
}

/**
 * An error as `kedge` prints it to standard error: three lines for people, or one JSON document.
 *
 * A KedgeError shows no stack; anything else is a mistake in Kedge, and shows it.
 */
export function formatFailure(error: unknown, output: OutputFormat): string {
  const known = isKedgeError(error);
  const code: ErrorCode = known ? error.code : 'internal';
  const message = error instanceof Error ? error.message : String(error);
  const hint = known ? error.hint : 'this is a mistake in kedge; please report it with the lines below';
  const stack = !known && error instanceof Error ? error.stack : undefined;
  if (output === 'json') {
    const retryAfterMs = known ? error.retryAfterMs : undefined;
    return `${JSON.stringify({ error: { code, message, hint, retryAfterMs, stack } })}\n`;
  }
  const lines = [
    `error: ${message}`,
    ...(hint === undefined ? [] : [`hint: ${hint}`]),
    `code: ${code}`,
    ...(stack === undefined ? [] : [stack]),
  ];
  return `${lines.join('\n')}\n`;
}
