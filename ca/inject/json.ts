import type { JsonValue } from '../../pki/strict-json.ts';

/** A JSON value. Numbers are never computed with here: what holds one is passed on, or looked at as a port. */
export type Json = null | boolean | number | string | readonly Json[] | JsonMap;

/** A JSON object. Its members are own properties: look with {@link member}, never through the prototype. */
export interface JsonMap {
  readonly [name: string]: Json;
}

/** Whether a value is a JSON object. */
export function isMap(value: unknown): value is JsonMap {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Whether a value is a JSON array. */
export function isList(value: unknown): value is readonly Json[] {
  return Array.isArray(value);
}

/** A member of an object; undefined where there is none, or no object. */
export function member(value: unknown, name: string): Json | undefined {
  return isMap(value) && Object.hasOwn(value, name) ? value[name] : undefined;
}

/** A value that was read strictly, as plain data. */
export function plainJson(value: JsonValue): Json {
  if (value === null || typeof value !== 'object') return value;
  if (value instanceof Map) {
    // `fromEntries` defines properties: a member named `__proto__` is one like any other.
    return Object.fromEntries([...value].map(([name, item]: [string, JsonValue]) => [name, plainJson(item)]));
  }
  if (Array.isArray(value)) return (value as readonly JsonValue[]).map(plainJson);
  return 'source' in value ? Number(value.source) : null;
}
