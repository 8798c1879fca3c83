import { KedgeError, quote } from '../pki/kedge-error.ts';

const UNIT_MS: ReadonlyMap<string, number> = new Map([
  ['ms', 1],
  ['s', 1_000],
  ['m', 60_000],
  ['h', 3_600_000],
  ['d', 86_400_000],
]);

/** How a duration is written, as a hint for whoever wrote it otherwise. */
export const DURATION_FORMAT =
  'a duration is a whole number and one unit of ms, s, m, h, d, as in 90s or 24h';

/** The longest duration that Kedge reads: 100 years of 365 days, in milliseconds. */
export const MAX_DURATION_MS = 100 * 365 * 86_400_000;

/**
 * Reads a duration such as `90s`, `15m`, `24h` or `30d`, in milliseconds: an integer from 0 to
 * {@link MAX_DURATION_MS}. Throws `config_invalid` for anything else (fractions, signs, spaces, several units).
 */
export function parseDurationMs(text: string): number {
  const match = /^(\d{1,15})(ms|s|m|h|d)$/.exec(text);
  const unitMs = UNIT_MS.get(match?.[2] ?? '');
  if (match === null || unitMs === undefined) {
    throw new KedgeError('config_invalid', `${quote(text)} is not a duration`, { hint: DURATION_FORMAT });
  }
  const ms = Number(match[1]) * unitMs;
  if (ms > MAX_DURATION_MS) {
    throw new KedgeError('config_invalid', `the duration ${quote(text)} is over 100 years`, {
      hint: DURATION_FORMAT,
    });
  }
  return ms;
}

/** A duration in the largest unit that holds it whole: 90000 is `90s`, 86400000 is `1d`. Reads back to itself. */
export function formatDuration(ms: number): string {
  const units = [...UNIT_MS].toReversed();
  const [unit, unitMs] = units.find(([, size]) => ms % size === 0 && ms !== 0) ?? ['ms', 1];
  return `${ms / unitMs}${unit}`;
}
