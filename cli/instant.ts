import { KedgeError, quote } from '../pki/kedge-error.ts';

const RFC3339 = /^(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2}:\d{2})(\.\d{1,3})?(Z|[+-]\d{2}:\d{2})$/;

/** An instant as an option has it, in RFC 3339; milliseconds since the Unix epoch. Throws `usage_invalid`. */
export function parseInstant(option: string, text: string): number {
  const ms = RFC3339.test(text) ? Date.parse(text) : Number.NaN;
  const [, date = ''] = RFC3339.exec(text) ?? [];
  // The 30th of February is a date to Date.parse, or none, by the engine's mood: it must come back as it went in.
  const isRealDate = !Number.isNaN(ms) && new Date(`${date}T00:00:00Z`).toISOString().startsWith(date);
  if (isRealDate) return ms;
  throw new KedgeError('usage_invalid', `--${option} does not take ${quote(text)}`, {
    hint: 'write the time as in 2026-01-31T12:00:00Z',
  });
}
