import { LineCounter, parseDocument, type Document } from 'yaml';
import * as z from 'zod';

import { KedgeError, quote } from '../pki/kedge-error.ts';
import { LIMITS } from '../pki/limits.ts';

/** How many problems one refusal lists. */
const MAX_PROBLEMS = 8;

type Path = readonly PropertyKey[];

/**
 * Reads a YAML 1.2 document of ours into what `schema` makes of it.
 *
 * `file` is its name for messages. Strict: UTF-8 that `text` came from, at most `LIMITS.configFileBytes`; one
 * document; no duplicate or unknown keys; no aliases, no tags beyond the core schema. Throws `config_invalid` whose
 * message lists each problem as `file:line:column: key: what is wrong`.
 */
export function readYaml<T>(text: string, file: string, schema: z.ZodType<T>): T {
  if (Buffer.byteLength(text) > LIMITS.configFileBytes) {
    throw new KedgeError('config_invalid', `${file} is over ${LIMITS.configFileBytes} bytes`);
  }
  const lines = new LineCounter();
  const at = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${file}:${line}:${col}`;
  };
  const document = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    schema: 'core',
    stringKeys: true,
    strict: true,
    uniqueKeys: true,
  });
  const broken = [...document.errors, ...document.warnings];
  if (broken.length > 0) throw invalid(broken.map(({ message, pos }) => `${at(pos[0])}: ${message}`));
  let data: unknown;
  try {
    data = document.toJS({ maxAliasCount: 0 }) ?? {};
  } catch (cause) {
    throw new KedgeError('config_invalid', `${file} uses YAML aliases, or nests too deep`, {
      hint: 'write the values out',
      cause,
    });
  }
  const result = schema.safeParse(data, { error: plainMessage });
  if (result.success) return result.data;
  throw invalid(
    result.error.issues.map(({ path, message }) => {
      const key = path.length === 0 ? '' : `${pathText(path)}: `;
      return `${at(offsetOf(document, path))}: ${key}${message}`;
    }),
  );
}

/** A closed object: an unknown key is refused with those that there are. */
export function closedObject<S extends z.core.$ZodLooseShape>(shape: S): z.ZodObject<S, z.core.$strict> {
  const allowed = Object.keys(shape).join(', ');
  return z.strictObject(shape, {
    error: (issue) =>
      issue.code === 'unrecognized_keys'
        ? `unknown key ${issue.keys.map((key) => quote(key)).join(', ')}; allowed: ${allowed}`
        : undefined,
  });
}

/** zod's issues in our own words, with the value and what is allowed. */
function plainMessage(issue: z.core.$ZodRawIssue): string | undefined {
  if (issue.code === 'invalid_type') {
    return issue.input === undefined
      ? 'missing'
      : `${valueText(issue.input)} is not ${article(issue.expected)}`;
  }
  if (issue.code === 'invalid_value') {
    return `${valueText(issue.input)} is not one of ${issue.values.map(String).join(', ')}`;
  }
  return undefined;
}

function article(expected: string): string {
  const names = new Map([
    ['array', 'a list'],
    ['object', 'a mapping'],
    ['int', 'a whole number'],
  ]);
  return names.get(expected) ?? `a ${expected}`;
}

function valueText(value: unknown): string {
  if (value === null) return 'an empty value';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a mapping';
  if (typeof value === 'string') return quote(value);
  return typeof value === 'number' || typeof value === 'boolean' || typeof value === 'bigint'
    ? String(value)
    : `a ${typeof value}`;
}

function pathText(path: Path): string {
  return path
    .map((key) => (typeof key === 'number' ? `[${key}]` : `.${String(key)}`))
    .join('')
    .replace(/^\./, '');
}

/** Where the value at `path` stands, or the nearest thing around it that stands anywhere. */
function offsetOf(document: Document, path: Path): number {
  for (let depth = path.length; depth >= 0; depth -= 1) {
    const node: unknown = depth === 0 ? document.contents : document.getIn(path.slice(0, depth), true);
    if (typeof node === 'object' && node !== null && 'range' in node && Array.isArray(node.range)) {
      const [start] = node.range as readonly unknown[];
      if (typeof start === 'number') return start;
    }
  }
  return 0;
}

function invalid(problems: readonly string[]): KedgeError {
  const shown = problems.slice(0, MAX_PROBLEMS);
  const more = problems.length > shown.length ? `; and ${problems.length - shown.length} more` : '';
  return new KedgeError('config_invalid', `${shown.join('; ')}${more}`, {
    hint: 'correct the file at these places',
  });
}
