/**
 * Times as X.509 writes them (RFC 5280 section 4.1.2.5): UTCTime `YYMMDDHHMMSSZ` through 2049, GeneralizedTime
 * `YYYYMMDDHHMMSSZ` from 2050, always UTC, with seconds and without fractions.
 */

import { octetAt } from './bytes.ts';

/** The first instant that UTCTime cannot say: 2050-01-01T00:00:00Z, in ms. */
export const GENERALIZED_TIME_FROM_MS = Date.UTC(2050, 0, 1);

/** The first instant that X.509 cannot say: 10000-01-01T00:00:00Z, in ms. */
export const TIME_LIMIT_MS = Date.UTC(10_000, 0, 1);

/** The first instant that UTCTime can say: 1950-01-01T00:00:00Z, in ms. Kedge knows no certificate before it. */
export const TIME_FROM_MS = Date.UTC(1950, 0, 1);

/** Octets of the text of a UTCTime, and of a GeneralizedTime. */
export const UTC_TIME_OCTETS = 13;
export const GENERALIZED_TIME_OCTETS = 15;

const DIGIT_0 = 0x30;
const LETTER_Z = 0x5a;

/** Two decimal digits, or NaN. */
function twoDigits(bytes: Uint8Array, offset: number): number {
  const tens = octetAt(bytes, offset) - DIGIT_0;
  const ones = octetAt(bytes, offset + 1) - DIGIT_0;
  return tens >= 0 && tens <= 9 && ones >= 0 && ones <= 9 ? tens * 10 + ones : Number.NaN;
}

/**
 * Reads the content octets `[start, end)` of a UTCTime or GeneralizedTime.
 *
 * Gives ms since the epoch, or NaN when the text is not exactly of the form above or names no real instant
 * (30 February, 24:00, a leap second, a year before 1950).
 */
export function parseTimeText(
  bytes: Uint8Array,
  start: number,
  end: number,
  kind: 'utc' | 'generalized',
): number {
  const octets = kind === 'utc' ? UTC_TIME_OCTETS : GENERALIZED_TIME_OCTETS;
  if (end - start !== octets || bytes[end - 1] !== LETTER_Z) return Number.NaN;
  const rest = end - 11;
  const shortYear = twoDigits(bytes, rest - 2);
  const year =
    kind === 'utc' ? shortYear + (shortYear >= 50 ? 1900 : 2000) : twoDigits(bytes, start) * 100 + shortYear;
  const month = twoDigits(bytes, rest);
  const day = twoDigits(bytes, rest + 2);
  const hour = twoDigits(bytes, rest + 4);
  const minute = twoDigits(bytes, rest + 6);
  const second = twoDigits(bytes, rest + 8);
  // Each comparison is false for NaN, so one bad digit anywhere refuses the whole.
  const isClock = hour <= 23 && minute <= 59 && second <= 59;
  const isDate = year >= 1950 && month >= 1 && month <= 12 && day >= 1 && day <= daysOfMonth(year, month);
  return isClock && isDate ? Date.UTC(year, month - 1, day, hour, minute, second) : Number.NaN;
}

function daysOfMonth(year: number, month: number): number {
  if (month === 2) return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28;
  return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31;
}

/**
 * Writes the content octets of the time at `offset` of `target`: UTCTime's 13 or GeneralizedTime's 15, as the
 * instant demands. `ms` is cut to the second; it lies within 1950..9999, which the caller has checked. Returns
 * the offset behind what it wrote.
 */
export function writeTimeText(target: Uint8Array, offset: number, ms: number): number {
  const date = new Date(ms);
  const year = date.getUTCFullYear();
  let at = offset;
  if (ms >= GENERALIZED_TIME_FROM_MS) at = writeTwoDigits(target, at, Math.floor(year / 100));
  at = writeTwoDigits(target, at, year % 100);
  at = writeTwoDigits(target, at, date.getUTCMonth() + 1);
  at = writeTwoDigits(target, at, date.getUTCDate());
  at = writeTwoDigits(target, at, date.getUTCHours());
  at = writeTwoDigits(target, at, date.getUTCMinutes());
  at = writeTwoDigits(target, at, date.getUTCSeconds());
  target[at] = LETTER_Z;
  return at + 1;
}

function writeTwoDigits(target: Uint8Array, offset: number, value: number): number {
  target[offset] = DIGIT_0 + Math.floor(value / 10);
  target[offset + 1] = DIGIT_0 + (value % 10);
  return offset + 2;
}
