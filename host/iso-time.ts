const YEAR_9999_MS = 253_402_300_800_000;

/**
 * The time `ms` after the Unix epoch in UTC, as `Date.prototype.toISOString` writes it (ECMA-262 section 21.4.1.32):
 * `2026-01-31T12:00:00.000Z`. Throws `RangeError` for what is no time.
 *
 * V8 looks up the name of the local time zone for it, which it does not use: ICU then keeps a megabyte of tables.
 */
export function isoTime(ms: number): string {
  const date = new Date(ms);
  if (!(ms >= 0 && ms < YEAR_9999_MS)) return date.toISOString();
  const day = `${date.getUTCFullYear()}-${digits(date.getUTCMonth() + 1)}-${digits(date.getUTCDate())}`;
  const time = `${digits(date.getUTCHours())}:${digits(date.getUTCMinutes())}:${digits(date.getUTCSeconds())}`;
  return `${day}T${time}.${digits(date.getUTCMilliseconds(), 3)}Z`;
}

function digits(value: number, count = 2): string {
  return String(value).padStart(count, '0');
}
