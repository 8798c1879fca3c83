import type { ErrorCode } from './error-table.ts';
import { KedgeError, quote } from './kedge-error.ts';

/** A JSON number as it was written, because a 64-bit integer does not fit into a JavaScript number. */
export interface JsonNumber {
  readonly source: string;
}

/** A JSON object. A `Map`, so that `__proto__` and `constructor` are names like any other. */
export type JsonObject = ReadonlyMap<string, JsonValue>;

/** A JSON value as {@link parseStrictJson} gives it. */
export type JsonValue = null | boolean | string | JsonNumber | readonly JsonValue[] | JsonObject;

/** How a document is read. */
export interface StrictJsonOptions {
  /** Arrays and objects inside one another. */
  readonly maxDepth: number;
  /** The code of the error for whatever is not strict JSON. */
  readonly code: ErrorCode;
}

/**
 * Reads UTF-8 JSON (RFC 8259) with nothing left to interpretation: a duplicate name, a byte order mark, invalid
 * UTF-8, an unpaired surrogate or anything after the value is refused. `JSON.parse` would keep the last of two
 * equal names where another reader keeps the first.
 */
export function parseStrictJson(bytes: Uint8Array, options: StrictJsonOptions): JsonValue {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new KedgeError(options.code, 'the document is not UTF-8', { cause });
  }
  return new Reader(text, options).document();
}

class Reader {
  readonly #text: string;
  readonly #options: StrictJsonOptions;
  readonly #whitespace = /[ \t\n\r]*/y;
  readonly #number = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
  readonly #literal = /true|false|null/y;
  #at = 0;

  constructor(text: string, options: StrictJsonOptions) {
    this.#text = text;
    this.#options = options;
  }

  document(): JsonValue {
    const value = this.#value(1);
    this.#take(this.#whitespace);
    if (this.#at !== this.#text.length) throw this.#wrong('something follows the JSON value');
    return value;
  }

  #value(depth: number): JsonValue {
    if (depth > this.#options.maxDepth) throw this.#wrong('the JSON is nested too deep');
    this.#take(this.#whitespace);
    const next = this.#text[this.#at];
    if (next === '{') return this.#object(depth);
    if (next === '[') return this.#array(depth);
    if (next === '"') return this.#string();
    const literal = this.#take(this.#literal);
    if (literal !== null) return literal === 'null' ? null : literal === 'true';
    const source = this.#take(this.#number);
    if (source === null) throw this.#wrong('a JSON value is expected');
    return { source };
  }

  #object(depth: number): JsonObject {
    const members = new Map<string, JsonValue>();
    this.#items('{', '}', () => {
      this.#take(this.#whitespace);
      const name = this.#string();
      if (members.has(name)) throw this.#wrong(`the name ${quote(name)} stands twice in one object`);
      this.#take(this.#whitespace);
      this.#expect(':');
      members.set(name, this.#value(depth + 1));
    });
    return members;
  }

  #array(depth: number): readonly JsonValue[] {
    const values: JsonValue[] = [];
    this.#items('[', ']', () => values.push(this.#value(depth + 1)));
    return values;
  }

  #items(open: string, close: string, readItem: () => void): void {
    this.#expect(open);
    this.#take(this.#whitespace);
    if (this.#text[this.#at] === close) {
      this.#at += 1;
      return;
    }
    for (;;) {
      readItem();
      this.#take(this.#whitespace);
      if (this.#text[this.#at] !== ',') break;
      this.#at += 1;
    }
    this.#expect(close);
  }

  #string(): string {
    const start = this.#at;
    this.#expect('"');
    while (this.#at < this.#text.length && this.#text[this.#at] !== '"') {
      this.#at += this.#text[this.#at] === '\\' ? 2 : 1;
    }
    this.#expect('"');
    const value = this.#unescape(this.#text.slice(start, this.#at));
    if (!value.isWellFormed()) throw this.#wrong('a JSON string has an unpaired surrogate');
    return value;
  }

  #unescape(literal: string): string {
    try {
      return JSON.parse(literal) as string;
    } catch (cause) {
      throw this.#wrong('a JSON string has a bad escape or a control character', cause);
    }
  }

  #expect(character: string): void {
    if (this.#text[this.#at] !== character) throw this.#wrong(`${quote(character)} is expected`);
    this.#at += 1;
  }

  /** What `pattern` matches at the current place, or null. Every pattern is sticky. */
  #take(pattern: RegExp): string | null {
    pattern.lastIndex = this.#at;
    const matched = pattern.exec(this.#text)?.[0] ?? null;
    if (matched !== null) this.#at += matched.length;
    return matched;
  }

  #wrong(what: string, cause?: unknown): KedgeError {
    return new KedgeError(this.#options.code, `${what} at character ${this.#at}`, {
      hint: 'give one JSON document in UTF-8 without duplicate names',
      cause,
    });
  }
}
